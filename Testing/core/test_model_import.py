"""Official checkpoints: imported safely, inferred right, and fetched only when the hash agrees."""

import hashlib
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from Testing.support.golden import NAMES, Golden
from Testing.support.models import random_network
from Vox2VecCore.config import Architecture
from Vox2VecCore.errors import ModelError
from Vox2VecCore.model import load_model
from Vox2VecCore.model_fetch import fetch_model
from Vox2VecCore.model_import import import_official, zero_untrained_planes


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_import_gives_the_official_numbers(name: str, tmp_path: Path) -> None:
    golden = Golden.load(name)
    model = import_official(golden.checkpoint, tmp_path / name)
    architecture = load_model(model.directory).config.architecture
    assert (architecture.base_channels, architecture.num_scales) == golden.size
    assert model.config.spacing_mm == (1.0, 1.0, 2.0)
    assert model.config.tile_shape == (192, 192, 32)  # deeper tiles would meet weights that were never trained
    # Bottom maps of the golden input are one slice deep or the network has too few scales to be pruned.
    for i, level in enumerate(model.network()(golden.tensor("even_input"))):
        assert torch.allclose(level, golden.tensor(f"even_level{i}"), atol=1e-5)


@torch.no_grad()
def test_pruned_planes_change_nothing_at_the_trained_depth() -> None:
    architecture = Architecture(base_channels=2, num_scales=6)
    network, pruned = random_network(architecture), random_network(architecture)
    zeroed = zero_untrained_planes(pruned, depths=[32 // stride[2] for stride in architecture.level_strides])
    assert zeroed == 4 * 64 * 64 * 3 * 3 * 2
    trained, deeper = torch.rand(1, 1, 64, 64, 32), torch.rand(1, 1, 64, 64, 64)
    for before, after in zip(network(trained), pruned(trained), strict=True):
        assert torch.allclose(before, after, atol=1e-6)
    assert not torch.allclose(network(deeper)[5], pruned(deeper)[5], atol=1e-3)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (marker,)

    path = tmp_path / "evil.pt"
    torch.save({"first_conv.weight": Evil()}, path)
    with pytest.raises(ModelError, match="not a PyTorch file of plain tensors"):
        import_official(path, tmp_path / "out")
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="not a PyTorch file of plain tensors"):
        import_official(path, tmp_path / "out")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(3)}, "not a vox2vec backbone"),
        ([1, 2], "expected a state dict"),
        ({"a": 1}, "expected a state dict"),
        ({1: torch.zeros(3)}, "expected a state dict"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=message):
        import_official(path, tmp_path / "out")


def test_missing_truncated_and_incomplete_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such checkpoint"):
        import_official(tmp_path / "none.pt", tmp_path / "out")
    golden = Golden.load("fpn_c4_s4")
    truncated = tmp_path / "truncated.pt"
    truncated.write_bytes(golden.checkpoint.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        import_official(truncated, tmp_path / "out")
    for content in (b"hello\n", b"e\n", b"\x80\x02X\x01\n"):  # to PyTorch KeyError, IndexError, struct.error
        truncated.write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            import_official(truncated, tmp_path / "out")
    tensors = golden.state_dict("fpn")
    del tensors["skip_blocks.1.weight"]
    torch.save(tensors, tmp_path / "incomplete.pt")
    with pytest.raises(ModelError, match="1 tensors are missing"):
        import_official(tmp_path / "incomplete.pt", tmp_path / "out")


class Hub(BaseHTTPRequestHandler):
    """Answers like the Hub: hash and size on a redirect, content behind it."""

    content = b""
    stated = ""

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self.send_response(302)
            self.send_header("Location", "/file")
            self.send_header("X-Linked-Etag", f'"{self.stated}"')
            self.send_header("X-Linked-Size", str(len(self.content)))
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content)))
            self.end_headers()
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(tmp_path / "models"))
    Hub.content = Golden.load("fpn_c4_s4").checkpoint.read_bytes()
    Hub.stated = hashlib.sha256(Hub.content).hexdigest()
    yield Hub
    server.shutdown()
    server.server_close()


def test_fetch(hub: type[Hub], tmp_path: Path) -> None:
    model = fetch_model("vox2vec")
    assert model.config.architecture.base_channels == 4
    assert "29dfa97" in model.config.training["imported_from"]
    hub.content = b""  # the second call must not download
    assert fetch_model("vox2vec").hash == model.hash
    assert load_model("vox2vec").hash == model.hash
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["vox2vec"]


def test_fetch_refuses_another_file(hub: type[Hub], tmp_path: Path) -> None:
    hub.content = hub.content[:-1] + b"x"
    with pytest.raises(ModelError, match="hash differs"):
        fetch_model("vox2vec")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "huggingface"])
def test_fetch_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(tmp_path / "models"))
    with pytest.raises(ModelError, match=r"could not be downloaded.*models import vox2vec_contrastive\.pt"):
        fetch_model("vox2vec")
    assert list((tmp_path / "models").iterdir()) == []


def test_fetch_of_an_unknown_name() -> None:
    with pytest.raises(ModelError, match="Unknown model"):
        fetch_model("resnet")
