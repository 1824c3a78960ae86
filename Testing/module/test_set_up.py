"""Set-up: installation, models, device, cache."""

import sys
import types

import pytest
from PySide6 import QtCore


@pytest.fixture
def nothing_installed(monkeypatch) -> dict[str, str]:
    """As in a fresh Slicer: the versions that are there, to be added to."""
    versions: dict[str, str] = {"numpy": "2.2.6"}
    from Vox2VecSlicerLib import Installation

    monkeypatch.setattr(Installation, "installedVersion", versions.get)
    return versions


@pytest.fixture
def pytorch_extension(monkeypatch, nothing_installed) -> list[dict]:
    """The PyTorch extension, and what it was asked for."""
    asked: list[dict] = []

    class PyTorchUtilsLogic:
        def installTorch(self, **options):  # noqa: N802
            asked.append(options)
            nothing_installed["torch"] = "2.8.0+cpu"
            return types.ModuleType("torch")

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return asked


@pytest.fixture
def packaging(monkeypatch, nothing_installed) -> list[tuple[list[str], str]]:
    """``slicer.packaging`` of Slicer 5.11 and newer, and what it was asked for."""
    import slicer

    asked: list[tuple[list[str], str]] = []

    def pip_ensure(requirements, constraints, requester) -> None:
        assert requester == "Vox2Vec"
        asked.append((requirements, constraints.read_text()))
        nothing_installed.update({name.partition(">=")[0]: "9999.0" for name in requirements})

    module = types.ModuleType("slicer.packaging")
    module.load_requirements = lambda path: path.read_text().split()
    module.pip_ensure = pip_ensure
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    monkeypatch.setattr(slicer, "packaging", module, raising=False)
    return asked


def test_one_button_installs_what_is_missing(panel, pytorch_extension, packaging) -> None:
    panel.widget.setupPanel.refresh()
    assert "torch is missing" in panel.ui.installationLabel.text
    assert not panel.ui.setupSection.collapsed
    panel.press(panel.ui.installButton)
    assert pytorch_extension == [{"askConfirmation": True, "torchVersionRequirement": ">=2.4"}]
    assert [requirements for requirements, _ in packaging] == [
        ["nibabel>=5.2", "safetensors>=0.4.5"],
        ["openvino>=2025.0"],
    ]
    assert all("numpy==2.2.6" in constraints for _, constraints in packaging), "Slicer's numpy is pinned"
    assert "missing" not in panel.ui.installationLabel.text
    assert panel.ui.setupSection.collapsed
    assert not panel.ui.installButton.enabled


def test_openvino_is_left_out_when_it_is_not_wanted(panel, pytorch_extension, packaging) -> None:
    panel.widget.setupPanel.refresh()
    panel.ui.openVinoCheckBox.checked = False
    panel.press(panel.ui.installButton)
    assert [requirements for requirements, _ in packaging] == [["nibabel>=5.2", "safetensors>=0.4.5"]]


def test_a_failing_installation_is_said_in_a_sentence(panel, pytorch_extension, packaging, monkeypatch) -> None:
    def fail(_logic, **_options):
        raise RuntimeError("no network")

    monkeypatch.setattr(sys.modules["PyTorchUtils"].PyTorchUtilsLogic, "installTorch", fail)
    panel.widget.setupPanel.refresh()
    panel.press(panel.ui.installButton)
    assert "no network" in panel.ui.errorLabel.text
    from Vox2VecSlicerLib import Installation

    monkeypatch.setattr(Installation, "sys", types.SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(Installation, "platform", types.SimpleNamespace(machine=lambda: "x86_64"))
    panel.press(panel.ui.installButton)
    assert "Intel" in panel.ui.errorLabel.text


def test_without_the_pytorch_extension_it_says_what_to_do(panel, nothing_installed) -> None:
    panel.widget.setupPanel.refresh()
    panel.press(panel.ui.installButton)
    assert panel.ui.errorLabel.visible
    assert "Extensions Manager" in panel.ui.errorLabel.text


@pytest.mark.parametrize("agrees", [True, False])
def test_older_slicer_asks_and_uses_pip(panel, pytorch_extension, nothing_installed, monkeypatch, agrees) -> None:
    import slicer

    calls = []
    monkeypatch.setattr(slicer.util, "pip_install", calls.append)
    panel.widget.setupPanel.refresh()
    panel.ui.openVinoCheckBox.checked = False
    panel.desktop.answers.append(agrees)
    panel.press(panel.ui.installButton)
    kind, question = panel.desktop.messages[-1]
    assert kind == "confirm"
    assert "nibabel>=5.2" in question
    if agrees:
        assert calls[0][0] == "-c"
        assert calls[0][-2:] == ["nibabel>=5.2", "safetensors>=0.4.5"]
    else:
        assert calls == []
        assert "could not be installed" in panel.ui.errorLabel.text


def test_a_model_folder_is_checked_at_once(panel, tmp_path, tiny_model) -> None:
    panel.desktop.answers.append(str(tmp_path))
    panel.press(panel.ui.modelFolderButton)
    assert panel.ui.errorLabel.visible, "an empty folder is no model"
    assert panel.session.state.model == tiny_model
    panel.desktop.answers.append(tiny_model)
    panel.press(panel.ui.modelFolderButton)
    assert not panel.ui.errorLabel.visible
    assert panel.session.state.model == tiny_model
    box = panel.ui.modelComboBox
    assert "random" in [box.itemText(index) for index in range(box.count)]
    panel.desktop.answers.append("")  # cancelled
    panel.press(panel.ui.modelFolderButton)
    assert panel.session.state.model == tiny_model


def test_the_panel_says_what_the_model_is_or_why_it_cannot_be_used(panel) -> None:
    panel.session.state.model = "vox2vec-small"
    assert panel.ui.modelLabel.text.startswith("Sees voxels of 3 x 3 x 3 mm. Licence: MIT")
    panel.session.state.model = "nowhere"
    assert "Unknown model" in panel.ui.modelLabel.text


def test_device_and_engine_belong_to_the_computer(panel) -> None:
    """A scene that was saved with another computer's device does not bring it along."""
    import slicer

    box = panel.ui.deviceComboBox
    box.setCurrentIndex(box.findData("cpu"))
    assert panel.session.state.device == "cpu"
    slicer.mrmlScene.Clear(0)
    panel.breathe()
    assert panel.session.state.device == "cpu"
    assert QtCore.QSettings().value("Vox2Vec/device") == "cpu"


def test_processor_note_stays_and_learns_the_time(panel, add_ct) -> None:
    assert "processor does the work" in panel.ui.cpuLabel.text
    assert "two cores" in panel.ui.cpuLabel.text
    panel.ui.volumeSelector.setCurrentNode(add_ct())
    panel.press(panel.ui.embedButton)
    panel.finish()
    assert "The last scan took" in panel.ui.cpuLabel.text


@pytest.mark.parametrize(("count", "said"), [(1, "CPU, 1 thread, "), (2, "CPU, 2 threads, ")])
def test_device_is_checked_without_holding_the_panel_up(panel, monkeypatch, count, said) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: count)
    panel.press(panel.ui.checkDeviceButton)
    panel.until(lambda: panel.ui.deviceLabel.text.startswith(said))


def test_cache_can_be_cleared(panel, add_ct) -> None:
    assert not panel.ui.clearCacheButton.enabled
    panel.ui.volumeSelector.setCurrentNode(add_ct())
    panel.press(panel.ui.embedButton)
    panel.finish()
    panel.press(panel.ui.clearCacheButton)
    assert not panel.ui.clearCacheButton.enabled
    assert panel.session.cacheBytes() == 0
