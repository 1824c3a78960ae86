"""Vox2Vec in 3D Slicer: point at a voxel and see its likes; paint a few strokes and get a segmentation.

Wiring only: what happens is in ``Vox2VecSlicerLib`` (no Qt), what the sections of the panel show in
``Vox2VecSlicerPanels``, and the mathematics in ``Vox2VecCore`` (no Slicer).
"""

import importlib
import sys
import time

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from Vox2VecSlicerLib.CorePath import makeCoreImportable

HOMEPAGE = "https://github.com/vox2vec/SlicerVox2Vec"
OWN_PACKAGES = ("Vox2VecSlicerPanels", "Vox2VecSlicerLib", "Vox2VecCore")
POLL_INTERVAL_MS = 25
WORKER_SHARE_SECONDS = 0.005
"""How long each poll lets the worker thread have the interpreter while it works."""

TESTING_DATA = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/"
SAMPLES = {
    "CTChest": ("CT-chest.nrrd", "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e"),
    "CTLiver": ("CTLiver.nrrd", "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e"),
}
"""CTs of Slicer's own sample data that the tutorial uses: file and SHA-256."""


class Vox2VecSlicer(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Vox2Vec")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Markups", "Volumes"]
        parent.contributors = ["The Vox2Vec developers"]
        parent.helpText = _(
            "Point at a voxel of a CT and see every place that looks anatomically like it, in this scan and in the "
            "next. A few strokes turn that into a segmentation. Nothing leaves this computer. Research software, not "
            'for diagnosis. See the <a href="{homepage}">tutorial</a>.'
        ).format(homepage=HOMEPAGE)
        parent.acknowledgementText = _(
            "Method: Goncharov et al., vox2vec: A Framework for Self-supervised Contrastive Learning of Voxel-Level "
            "Representations in Medical Images, MICCAI 2023."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerLayout)


def registerSampleData() -> None:
    """List the tutorial's CTs in the Sample Data module."""
    import SampleData

    for name, (fileName, digest) in SAMPLES.items():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="Vox2Vec",
            sampleName=name,
            uris=TESTING_DATA + digest,
            fileNames=fileName,
            nodeNames=name,
            checksums=f"SHA256:{digest}",
        )


def registerLayout() -> None:
    """Let scenes be opened that were saved with two scans side by side."""
    from Vox2VecSlicerLib import Layout

    Layout.register(slicer.mrmlScene)


class Vox2VecSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: makes the logic and its sections, lets the logic deliver, follows the scene."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Vox2VecSlicerLogic | None = None

    def setup(self) -> None:
        """Called once, when the user opens the module for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Vox2VecSlicer.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        logic = Vox2VecSlicerLogic()
        self.session = logic.session
        self._makePanels()
        self._shortcuts = [
            self._shortcut(uiWidget, "L", lambda: self.ui.hoverCheckBox.toggle()),
            self._shortcut(uiWidget, "P", lambda: self.explore.place(positive=True)),
            self._shortcut(uiWidget, "N", lambda: self.explore.place(positive=False)),
            self._shortcut(uiWidget, "Ctrl+Return", self.session.apply),
        ]
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self._poll)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.StartRestoreEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneReplaced)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneReplaced)
        self.addObserver(scene, scene.EndRestoreEvent, self.onSceneReplaced)
        self.logic = logic

    def _makePanels(self) -> None:
        from Vox2VecSlicerPanels.Actions import Actions
        from Vox2VecSlicerPanels.Binding import Binding
        from Vox2VecSlicerPanels.EmbedPanel import EmbedPanel
        from Vox2VecSlicerPanels.ExplorePanel import ExplorePanel
        from Vox2VecSlicerPanels.HeadsPanel import HeadsPanel
        from Vox2VecSlicerPanels.MatchPanel import MatchPanel
        from Vox2VecSlicerPanels.SegmentPanel import SegmentPanel
        from Vox2VecSlicerPanels.Settings import Settings
        from Vox2VecSlicerPanels.SetupPanel import SetupPanel
        from Vox2VecSlicerPanels.StatusPanel import StatusPanel

        ui, session = self.ui, self.session
        self.status = StatusPanel(ui, session)
        self.binding = Binding(session, self.status.showError)
        self.actions = Actions(self.status.showError)
        shared = (ui, session, self.binding, self.actions)
        self.setupPanel = SetupPanel(*shared, Settings())
        self.embed = EmbedPanel(*shared, self.status, self.setupPanel.noteEmbeddingTime)
        self.explore = ExplorePanel(*shared)
        self.match = MatchPanel(*shared)
        self.segment = SegmentPanel(*shared)
        self.heads = HeadsPanel(ui, session, self.actions)
        self.binding.show()

    def _shortcut(self, parent, key: str, action) -> qt.QShortcut:
        """A key that only works while the focus is in this panel."""
        shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
        shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
        self.actions.on(shortcut, "activated()", action)
        return shortcut

    def enter(self) -> None:
        """Called each time the user opens the module."""
        if self.logic is None:
            return  # set-up failed
        self.session.enter()
        self.binding.show()
        self.setupPanel.refresh()
        self.embed.refresh()
        self.segment.enter()
        self._timer.start()

    def exit(self) -> None:
        """Called each time the user opens another module; running work goes on."""
        if self.logic is None:
            return
        self.explore.leave()
        self.segment.leave()
        self.session.exit()

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded."""
        if self.logic is None:
            return  # set-up failed or never ran
        self.removeObservers()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._poll)
        self.explore.leave()
        self.segment.release()
        for part in (self.actions, self.binding, self.status):
            part.release()
        self.heads.batch.shutdown()
        self.logic.shutdown()
        self.logic = None

    def onReload(self) -> None:
        """Forget our packages too: the base class imports this file anew, and it shall find new ones."""
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN_PACKAGES]:
            del sys.modules[name]
        importlib.invalidate_caches()
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, _caller=None, _event=None) -> None:
        """The nodes are about to go: let the editor and place mode go first."""
        self.setupPanel.holdMachineChoices()
        self.explore.leave()
        self.segment.release()

    def onSceneStartImport(self, _caller=None, _event=None) -> None:
        """A scene, or a view of it that was stored, is about to be loaded."""
        self.setupPanel.holdMachineChoices()

    def onSceneReplaced(self, _caller=None, _event=None) -> None:
        """A scene was closed or loaded: show what it holds."""
        self.setupPanel.applyMachineChoices()
        self.binding.show()
        self.status.showError("")
        for panel in (self.setupPanel, self.embed, self.explore, self.match, self.segment, self.heads):
            panel.refresh()
        if self.parent.isEntered:
            self.session.enter()
            self.segment.enter()

    def _poll(self) -> None:
        if slicer.mrmlScene.IsBatchProcessing():
            return  # a scene is half loaded, and a progress bar let the timer through
        busy = self.session.poll(WORKER_SHARE_SECONDS if self.session.busy else 0.0)
        busy = self.heads.batch.poll() or busy
        if not busy and not self.parent.isEntered:
            self._timer.stop()


class Vox2VecSlicerLogic(ScriptedLoadableModuleLogic):
    """Everything the module does, without a panel.

    Each call below waits for its result. ``session`` has the same in pieces that do not wait, with signals::

        logic = slicer.util.getModuleLogic("Vox2VecSlicer")
        ct = SampleData.downloadSample("CTChest")
        logic.embed(ct)
        heatMap = logic.similarityMap(ct, positive=[(-40, 20, -180)])

    All positions are world coordinates: RAS millimetres, as the data probe shows them. Errors are
    ``Vox2VecCore.errors.Vox2VecError`` with one sentence that says what to do.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        makeCoreImportable()
        from Vox2VecSlicerLib.Session import Session

        self.session = Session(slicer.mrmlScene)

    def embed(self, volumeNode, roiNode=None) -> None:
        """Compute the vector of every voxel, or take them from the cache::

        logic.embed(ct)
        logic.embed(ct, roiNode)   # only inside a Markups ROI
        """
        self.session.state.roi = roiNode
        self.session.state.volume = volumeNode
        self.session.embed(wait=True)

    def similarityMap(self, volumeNode, positive, negative=(), balance: float = 0.5, spreading: bool = True):
        """A volume of percentiles, 0 to 100, on the CT's own grid::

            heatMap = logic.similarityMap(ct, positive=[(r, a, s)], negative=[(r, a, s)], balance=0.3)

        :param balance: 0 for the tissue at the spot, 1 for its place in the body.
        :param spreading: also what looks like the places found, and so on.
        """
        session = self.session
        self._embedded(volumeNode)
        session.state.balance, session.state.spreading = balance, spreading
        session.points.clear()
        for point in positive:
            session.points.addPositive(point)
        for point in negative:
            session.points.addNegative(point)
        session.updateSimilarity(wait=True)
        heatMap = session.exportSimilarity()
        session.wait()
        return heatMap

    def makeSegment(self, volumeNode, point, threshold: float = 95.0, name=None):
        """What looks like a point and is connected to it, as a segment; returns the segmentation and the segment's ID::

        segmentation, segmentID = logic.makeSegment(ct, (-40, 20, -180), threshold=90, name="Alike")
        """
        session = self.session
        self._embedded(volumeNode)
        session.state.threshold = threshold
        session.points.clear()
        session.points.addPositive(point)
        session.updateSimilarity(wait=True)
        segmentID = session.makeSegment(point, name)
        session.wait()
        return session.state.result, segmentID

    def colors(self, volumeNode) -> None:
        """Show the embedding in colours in front of a CT, in the views that show it: ``logic.colors(ct)``."""
        self._embedded(volumeNode)
        self.session.state.view = "colors"
        self.session.wait()

    def match(self, volumeNode, otherVolumeNode, pointListNode):
        """The points of a Markups list in another scan, as a new list::

            found = logic.match(ct, followUp, pointListNode)

        Points that are not found reliably are in the list too, unlocked and described as such.
        """
        session = self.session
        self._embedded(volumeNode)
        session.setTarget(otherVolumeNode)
        session.wait()
        return session.propagate(pointListNode, wait=True)

    def segment(self, volumeNode, strokesNode, resultNode=None, method: str = "auto"):
        """A segmentation from strokes: segments of which a few voxels are painted, one of them the background::

        result = logic.segment(ct, strokesNode)
        logic.saveHead("head.safetensors")
        """
        session = self.session
        self._embedded(volumeNode)
        session.state.headMethod = method
        session.state.strokes = strokesNode
        session.state.result = resultNode
        session.updatePreview(wait=True)
        session.apply(wait=True)
        return session.state.result

    def saveHead(self, path: str) -> None:
        """Write what was learned from the strokes to one file."""
        self.session.saveHead(path)

    def applyHead(self, path: str, volumeNodes) -> None:
        """Segment other scans with a head from a file; a segmentation each::

        logic.applyHead("head.safetensors", [followUp, otherPatient])
        """
        self.session.loadHead(path, wait=True)
        self.session.applyHead(list(volumeNodes), wait=True)

    def applyHeadToFolder(self, path: str, inputFolder: str, outputFolder: str, onLine=print) -> int:
        """Segment all scans of a folder with a head from a file, in a process of its own; returns its exit code::

            logic.applyHeadToFolder("head.safetensors", "scans", "segmented")

        :param onLine: called with every line that the process writes.
        """
        from Vox2VecSlicerLib.BatchProcess import BatchProcess

        batch, codes = BatchProcess(), []
        batch.lineRead.connect(onLine)
        batch.finished.connect(codes.append)
        batch.applyHead(str(path), str(inputFolder), str(outputFolder), self.session.state)
        while not codes:
            batch.poll()
            time.sleep(0.05)
        return codes[0]

    def shutdown(self) -> None:
        """Stop the worker thread and let go of the scene."""
        self.session.shutdown()

    def _embedded(self, volumeNode) -> None:
        if self.session.state.volume is not volumeNode or not self.session.isEmbedded(volumeNode):
            self.embed(volumeNode, self.session.state.roi)


class Vox2VecSlicerTest(ScriptedLoadableModuleTest):
    """A first check inside Slicer, started by "Reload and Test"; ``Testing/Python`` has more."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_logic_refuses_what_is_no_ct()

    def test_logic_refuses_what_is_no_ct(self) -> None:
        """Without PyTorch: a label map is refused with a sentence, and everything is let go of again."""
        self.delayDisplay("Starting the test")
        logic = Vox2VecSlicerLogic()
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        refusal, _warning = logic.session.checkVolume(labels)
        self.assertTrue(refusal)
        logic.shutdown()
        self.delayDisplay("Test passed")
