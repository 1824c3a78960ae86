"""What counts as installed, without installing anything; processes of their own, without a panel."""

import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "Vox2VecSlicer"
if str(MODULE) not in sys.path:
    sys.path.insert(0, str(MODULE))


@pytest.fixture
def installation(monkeypatch):
    """The module under test with a made-up set of installed packages."""
    from Vox2VecSlicerLib import Installation

    versions: dict[str, str] = {}
    monkeypatch.setattr(Installation, "installedVersion", versions.get)
    return Installation, versions


@pytest.mark.parametrize(
    ("version", "requirement", "satisfied"),
    [
        (None, "nibabel>=5.2", False),
        ("5.2", "nibabel>=5.2", True),
        ("5.10.1", "nibabel>=5.2", True),
        ("5.1.9", "nibabel>=5.2", False),
        ("2.13.0+cpu", "torch>=2.4", True),
        ("2.3.1+cu121", "torch>=2.4", False),
        ("0.4.5", "safetensors>=0.4.5", True),
        ("0.20.0", "typer>=0.19,<1", True),
    ],
)
def test_versions(installation, version, requirement, satisfied) -> None:
    module, versions = installation
    if version is not None:
        versions[module.nameOf(requirement)] = version
    assert module.satisfied(requirement) is satisfied


def test_missing_and_summary(installation) -> None:
    module, versions = installation
    assert module.missing() == ["torch>=2.4", "nibabel>=5.2", "safetensors>=0.4.5"]
    assert "torch is missing" in module.summary()
    versions.update(torch="2.6.0", nibabel="5.3", safetensors="0.5")
    assert module.missing() == []
    assert module.missing(module.BASE, module.OPENVINO) == ["openvino>=2025.0"]


def test_this_environment_is_read_from_its_metadata() -> None:
    from Vox2VecSlicerLib import Installation

    assert Installation.installedVersion("numpy") == metadata.version("numpy")
    assert Installation.installedVersion("no-such-distribution") is None


def test_core_is_found_from_a_source_tree(monkeypatch) -> None:
    import importlib.util

    from Vox2VecSlicerLib import CorePath

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    CorePath.makeCoreImportable()
    assert (Path(sys.path[-1]) / "Vox2VecCore" / "__init__.py").is_file()


PARENT = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are grouped otherwise on Windows")
def test_a_stubborn_command_is_killed_with_its_children(tmp_path: Path, monkeypatch) -> None:
    from Vox2VecSlicerLib import BatchProcess

    (tmp_path / "stubborn.py").write_text(PARENT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(BatchProcess, "GRACE_SECONDS", 0.3)
    batch, lines, codes = BatchProcess.BatchProcess(), [], []
    batch.lineRead.connect(lines.append)
    batch.finished.connect(codes.append)
    batch.start("stubborn", [])
    with pytest.raises(RuntimeError, match="running already"):
        batch.start("stubborn", [])
    end = time.monotonic() + 20
    while batch.poll() and time.monotonic() < end:
        if lines:
            batch.cancel()
        time.sleep(0.02)
    assert codes and codes[0] != 0
    child = int(lines[0].split()[1])
    time.sleep(0.2)
    status = Path(f"/proc/{child}/status")
    assert not status.exists() or "zombie" in status.read_text()


def test_shutdown_stops_at_once_and_says_nothing(tmp_path: Path, monkeypatch) -> None:
    from Vox2VecSlicerLib.BatchProcess import BatchProcess

    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    batch, codes = BatchProcess(), []
    batch.finished.connect(codes.append)
    batch.start("endless", [])
    start = time.monotonic()
    batch.shutdown()
    assert time.monotonic() - start < 5
    assert not batch.running
    assert codes == []
