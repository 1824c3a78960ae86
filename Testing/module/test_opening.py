"""Opening the module is cheap, and it can be left, entered and reloaded."""

import subprocess
import sys
import textwrap
from pathlib import Path

import slicer

from Testing.module.test_heads import painted, trained

__all__ = ["painted", "trained"]

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_OPENING_SECONDS = 0.3
MAX_IMPORT_GAP_MS = 150.0
"""Once in a process PyTorch's own start, which nobody can interrupt, holds Python's lock for about 50 ms, longer on a
busy machine; importing it on the panel's thread would take seconds."""

OPEN = """
import gc, sys, tempfile, threading, time
from pathlib import Path
from Testing.support.heartbeat import Heartbeat
from Testing.support.slicer_app import App
from Testing.support.qt_stand_in import failures
from Testing.support.qt_stand_in.desktop import Desktop
import slicer
desktop = Desktop(App(), Path("Vox2VecSlicer/Vox2VecSlicer.py").resolve(), Path(tempfile.mkdtemp()))
importers, opened = {}, []
class Watched:
    def find_spec(name, path=None, target=None):
        importers.setdefault(name, threading.current_thread().name)
        if name == "torch":
            opened[:] = ["libtorch_python" in Path("/proc/self/maps").read_text()]
sys.meta_path.insert(0, Watched)
load, loading = slicer.util.loadUI, []
def timed(path):
    start = time.thread_time()
    widget = load(path)
    loading.append(time.thread_time() - start)
    return widget
slicer.util.loadUI = timed
start = time.thread_time()
desktop.open_module()
seconds = time.thread_time() - start - loading[0]
large = {"torch", "openvino", "nibabel", "safetensors", "SimpleITK", "scipy"}
print("OPENED", seconds, *sorted(large & set(importers)))
slicer.mrmlScene.ReadFromMRB(sys.argv[1], True)
session = desktop.widget.session
gc.collect()
gc.disable()
heart = Heartbeat()
desktop.spin(lambda: not session.poll())
print("REOPENED", heart.stop(), session.hasHead, importers.get("torch"), *opened)
desktop.close_module()
assert not failures.recorded, failures.recorded
"""


def fresh_process(scene: Path) -> dict[str, list[str]]:
    """What opening the module, and then a scene, says in a process that has done nothing else."""
    command = [sys.executable, "-c", textwrap.dedent(OPEN), str(scene)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    lines = [line.split() for line in run.stdout.splitlines()]
    said = {words[0]: words[1:] for words in lines if words and words[0] in ("OPENED", "REOPENED")}
    assert len(said) == 2, run.stdout + run.stderr
    return said


def test_a_fresh_process(panel, trained, tmp_path: Path) -> None:
    """Opening the module takes no time and imports no PyTorch; opening a scene that holds a head imports it in the
    worker, which does not hold up the panel.

    Processor time of our own work, the least of three fresh processes. Making the widgets of the .ui file is left out:
    the stand-in does that in Python, Slicer in C++.
    """
    scene = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(scene))
    seconds, gaps = [], []
    for _ in range(3):
        said = fresh_process(scene)
        assert said["OPENED"][1:] == [], "imported on opening"
        assert said["REOPENED"][1:] == ["True", "vox2vec-worker", "True"], (
            "a head, where PyTorch was imported, its library open"
        )
        seconds.append(float(said["OPENED"][0]))
        gaps.append(float(said["REOPENED"][0]))
        if min(seconds) < MAX_OPENING_SECONDS and min(gaps) < MAX_IMPORT_GAP_MS:
            return
    raise AssertionError(f"opening took {min(seconds):.2f} s; the panel stood still for {min(gaps):.0f} ms")


def test_about(panel, desktop) -> None:
    about = desktop.about.parent
    assert about.title == "Vox2Vec"
    assert about.categories == ["Segmentation"]
    assert "not for diagnosis" in about.helpText
    assert not about.icon.isNull()


def test_sample_data_is_registered(panel, desktop) -> None:
    names = {source["sampleName"]: source for source in desktop.sample_data}
    assert set(names) == {"CTChest", "CTLiver"}
    for source in names.values():
        assert source["category"] == "Vox2Vec"
        assert source["uris"].endswith(source["checksums"].removeprefix("SHA256:"))


def test_the_layout_is_known_once_slicer_has_started(panel, desktop, monkeypatch) -> None:
    known = []
    monkeypatch.setattr("Vox2VecSlicerLib.Layout.register", known.append)
    desktop.signals.emit("startupCompleted()")
    assert slicer.mrmlScene in known


def test_a_scene_is_added_to_one_that_is_there_already(panel, embedded, tmp_path, monkeypatch) -> None:
    from Vox2VecSlicerLib import Points

    panel.session.points.addPositive((0.0, 0.0, 0.0))
    panel.finish()
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    made: list[str] = []
    new = Points.newPointList

    def counted(*given: object, **more: object) -> object:
        made.append(str(given[1]))
        assert len(made) < 9, "and so on without an end"
        return new(*given, **more)

    monkeypatch.setattr(Points, "newPointList", counted)
    slicer.mrmlScene.ReadFromMRB(str(path), False)
    panel.finish()
    assert made == [], "the lists come with the scene"
    assert panel.session.state.volume is not embedded and panel.session.isEmbedded(panel.session.state.volume)
    assert len(panel.session.points.positive) == 1


def test_leaving_and_entering_keeps_what_was_chosen(panel, add_ct) -> None:
    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    panel.ui.thresholdSlider.value = 80.0
    panel.desktop.panel.exit()
    panel.breathe()
    panel.desktop.panel.enter()
    assert panel.ui.volumeSelector.currentNode() is ct
    assert panel.ui.thresholdSlider.value == 80.0


def test_reload_makes_everything_anew(panel, add_ct) -> None:
    ct = add_ct()
    panel.ui.volumeSelector.setCurrentNode(ct)
    old, old_session = panel.widget, type(panel.session)
    old.onReload()
    panel.breathe()
    assert panel.widget is not old
    assert type(panel.session) is not old_session
    assert panel.session.state.volume is ct
    assert panel.ui.volumeSelector.currentNode() is ct


def test_reload_in_the_middle_of_a_job(panel, add_ct, slow_tiles) -> None:
    panel.ui.volumeSelector.setCurrentNode(add_ct())
    panel.press(panel.ui.embedButton)
    panel.until(lambda: panel.ui.progressBar.value > 0)
    old = panel.session
    panel.widget.onReload()
    panel.breathe(0.3)
    assert not old.busy
    assert panel.session is not old


def test_unloading_removes_every_observer(clean, desktop) -> None:
    """What the module observes it lets go: the scene has as few observers as before."""
    scene = slicer.mrmlScene
    events = ("NodeAddedEvent", "NodeRemovedEvent", "StartCloseEvent", "EndCloseEvent", "EndImportEvent")
    before = [scene.HasObserver(event) for event in events]
    desktop.open_module()
    desktop.close_module()
    assert [scene.HasObserver(event) for event in events] == before
