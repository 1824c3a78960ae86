"""The module in a real Slicer: it opens quickly and without PyTorch, survives scene close, reload and leaving."""

import sys
import time
import unittest

import slicer
from Vox2VecGeometryTest import scan


class Vox2VecModuleTest(unittest.TestCase):
    """The panel."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def widget(self):
        """The module's panel, opened."""
        slicer.util.selectModule("Vox2VecSlicer")
        slicer.app.processEvents()
        return slicer.util.getModuleWidget("Vox2VecSlicer")

    def test_opens_quickly_without_pytorch(self) -> None:
        before = "torch" in sys.modules
        start = time.perf_counter()
        self.widget()
        self.assertLess(time.perf_counter() - start, 1.0)  # 0.3 s of ours, and the application's own
        self.assertEqual("torch" in sys.modules, before)

    def test_every_widget_of_the_panel_is_there(self) -> None:
        ui = self.widget().ui
        for name in ("volumeSelector", "positivePlaceWidget", "thresholdSlider", "segmentEditorWidget", "batchLog"):
            self.assertTrue(hasattr(ui, name), name)

    def test_embed_is_refused_without_a_volume_and_offered_with_one(self) -> None:
        widget = self.widget()
        self.assertFalse(widget.ui.embedButton.enabled)
        ct = scan()
        widget.ui.volumeSelector.setCurrentNode(ct)
        slicer.app.processEvents()
        self.assertIs(widget.session.state.volume, ct)
        self.assertTrue(widget.ui.embedButton.enabled)

    def test_scene_close_and_leaving(self) -> None:
        widget = self.widget()
        slicer.mrmlScene.Clear()
        slicer.app.processEvents()
        self.assertIsNone(widget.session.state.volume)
        slicer.util.selectModule("Data")
        slicer.app.processEvents()
        slicer.util.selectModule("Vox2VecSlicer")

    def test_reload(self) -> None:
        before = self.widget()
        before.onReload()
        after = slicer.util.getModuleWidget("Vox2VecSlicer")
        self.assertIsNot(after, before)
        self.assertIsNotNone(after.logic)

    def test_sample_data_is_registered(self) -> None:
        import SampleData

        names = [source.sampleName for source in slicer.modules.sampleDataSources["Vox2Vec"]]
        self.assertEqual(sorted(names), ["CTChest", "CTLiver"])
        self.assertTrue(SampleData)
