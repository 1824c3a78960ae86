"""Model directories: round trip, names, and every way in which one can be damaged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from Testing.support.models import random_model
from Vox2VecCore.config import Architecture, ModelConfig
from Vox2VecCore.errors import ModelError
from Vox2VecCore.model import Model, file_sha256, list_models, load_model, save_model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return random_model(tmp_path, projection_channels=4, statistics=True)


def edit_config(model: Model, **changes: object) -> None:
    path = model.directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip(model: Model) -> None:
    loaded = load_model(model.directory)
    assert loaded.config == model.config
    assert loaded.hash == model.hash
    x = torch.rand(1, 1, 16, 16, 8)
    with torch.no_grad():
        for a, b in zip(model.network()(x), loaded.network()(x), strict=True):
            assert torch.equal(a, b)
            assert a.shape[1] == 4


def test_hash_is_about_the_embedding_only(model: Model) -> None:
    def hash_with(**changes: object) -> str:
        return Model(replace(model.config, **changes), model.directory).hash  # type: ignore[arg-type]

    assert hash_with(name="other", licence="other", training={"seed": 1}) == model.hash
    assert hash_with(tile_shape=(64, 32, 32)) != model.hash
    assert hash_with(window_hu=(-1000.0, 1000.0)) != model.hash
    assert hash_with(level_statistics=None) != model.hash


def test_models_are_found_by_name(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(model.directory.parent))
    assert load_model("random").directory == model.directory
    assert "random" in [found.name for found in list_models()]


@pytest.mark.parametrize("name", ["nonsense", "", "../random", "random/"])
def test_unknown_name(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(model.directory.parent))
    elsewhere = tmp_path / "some" / "where"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ModelError, match=r"Unknown model|not a model directory"):
        load_model(name)


def test_official_model_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(tmp_path))
    with pytest.raises(ModelError, match="models fetch vox2vec"):
        load_model("vox2vec")


def test_flipped_byte(model: Model) -> None:
    path = model.directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        load_model(model.directory).network()


def test_missing_weights(model: Model) -> None:
    (model.directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(model.directory).network()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("backbone.first_conv.bias"), "1 tensors are missing, first backbone.first_conv.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unknown tensors, first extra"),
        (lambda t: t.update({"backbone.first_conv.bias": torch.zeros(5)}), r"has shape \[5\] instead of \[2\]"),
    ],
)
def test_tensors_must_match_the_architecture(model: Model, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = model.directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    edit_config(model, weights_sha256=file_sha256(path))
    with pytest.raises(ModelError, match=message):
        load_model(model.directory).network()


def test_truncated_weights_with_a_fitting_hash(model: Model) -> None:
    path = model.directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    edit_config(model, weights_sha256=file_sha256(path))
    with pytest.raises(ModelError, match="damaged"):
        load_model(model.directory).network()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version 2 is not 1"),
        ({"colour": "blue"}, "unknown keys colour"),
        ({"architecture": {"num_scales": 3, "attention": True}}, "unknown keys attention"),
        ({"tile_shape": [30, 32, 32]}, "multiples of the coarsest stride"),
        ({"tile_overlap": [4, 0, 0]}, "multiples of the coarsest stride"),
        ({"tile_overlap": [32, 0, 0]}, "smaller than tile_shape"),
        ({"tile_overlap": [-8, 0, 0]}, "at least 0"),
        ({"level_statistics": [{"mean": [0.0], "std": [1.0]}]}, "level_statistics"),
        ({"level_statistics": [1]}, "1 is not a table of mean, std"),
        ({"level_statistics": 5}, "level_statistics cannot be 5"),
        ({"architecture": [1]}, r"\[1\] is not a table of in_channels"),
        ({"architecture": {"norm": "instance"}}, "norm is one of batch, group"),
        ({"architecture": {"num_scales": 0}}, "no network for CT"),
        ({"architecture": {"in_channels": 3}}, "no network for CT"),
        ({"tile_shape": "large"}, r"tile_shape cannot be 'large'; it is a tuple\[int, int, int\]"),
        ({"spacing_mm": [1, 2]}, r"spacing_mm cannot be \[1, 2\]"),
        ({"spacing_mm": [0, 1, 2]}, "spacing_mm must be positive"),
        ({"window_hu": [100, 100]}, "window_hu rise"),
        ({"name": 5}, "name cannot be 5"),
        ({"training": 5}, "training cannot be 5"),
    ],
)
def test_config_is_strict(model: Model, changes: dict, message: str) -> None:
    edit_config(model, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(model.directory)


def test_config_with_a_missing_key_or_no_json(model: Model) -> None:
    path = model.directory / "config.json"
    values = json.loads(path.read_text())
    del values["spacing_mm"]
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="spacing_mm"):
        load_model(model.directory)
    path.write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_model(model.directory)


def test_an_existing_directory_is_not_overwritten(model: Model) -> None:
    with pytest.raises(ModelError, match="exists already"):
        save_model(model.network(), model.config, model.directory)


def test_nothing_is_left_when_writing_fails(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(ModelError, match="No space left"):
        save_model(model.network(), model.config, tmp_path / "target" / "new")
    assert list((tmp_path / "target").iterdir()) == []


def test_the_published_configuration_is_the_default() -> None:
    architecture = Architecture()
    assert architecture.level_channels == [16, 32, 64, 128, 256, 512]
    assert architecture.level_strides[-1] == (32, 32, 32)
    config = ModelConfig("m", architecture, (1, 1, 2), (128, 128, 32), (128, 128, 32), (0, 0, 0), "")
    assert config.window_hu == (-1350.0, 1000.0)
