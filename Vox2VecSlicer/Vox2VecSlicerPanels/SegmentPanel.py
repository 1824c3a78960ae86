"""Segment: strokes in Slicer's own editor, a preview after each of them, Apply."""

import slicer
from slicer.i18n import tr as _

from Vox2VecSlicerPanels.Actions import Actions
from Vox2VecSlicerPanels.Binding import Binding

EFFECTS = ["Paint", "Draw", "Erase", "Level tracing", "Scissors", "Threshold"]
"""Tools of the editor that make strokes."""

UNDO_STATES = 10


class SegmentPanel:
    """The editor gets an editor node of its own, so that Slicer's Segment Editor keeps its choices."""

    def __init__(self, ui, session, binding: Binding, actions: Actions) -> None:
        self._ui, self._session, self._actions = ui, session, actions
        self._entered = False
        editor = ui.segmentEditorWidget
        editor.setMaximumNumberOfUndoStates(UNDO_STATES)
        editor.setEffectNameOrder(EFFECTS)
        editor.unorderedEffectsVisible = False
        editor.segmentationNodeSelectorVisible = False
        editor.sourceVolumeNodeSelectorVisible = False
        editor.autoShowSourceVolumeNode = False  # it would take the views of a second scan
        editor.switchToSegmentationsButtonVisible = False
        binding.flag(ui.autoUpdateCheckBox, "autoUpdate")
        binding.node(ui.resultSelector, "result")
        binding.choice(
            ui.headMethodComboBox,
            "headMethod",
            [
                ("auto", _("Automatic")),
                ("prototype", _("Nearest class")),
                ("ridge", _("Ridge")),
                ("logistic", _("Logistic regression")),
                ("mlp", _("Small neural network")),
            ],
        )
        actions.on(ui.segmentSection, "contentsCollapsed(bool)", lambda collapsed: self.showEditor(not collapsed))
        actions.button(ui.addStructureButton, self.addStructure)
        actions.button(ui.updatePreviewButton, session.updatePreview)
        actions.button(ui.clearPreviewButton, session.clearPreview)
        actions.button(ui.paintNextButton, self.paintNext)
        for button, action in (
            (ui.applyButton, session.apply),
            (ui.undoButton, session.undo),
            (ui.redoButton, session.redo),
        ):
            actions.button(button, lambda action=action: (action(), self.refresh()))
        actions.follow(session.previewUpdated, self.refresh)
        actions.follow(session.strokes.changed, self.refresh)
        actions.follow(session.progressChanged, lambda _progress: self.refresh())
        actions.follow(session.state.changed, self._follow)

    def _follow(self, name: str) -> None:
        chosen = name in ("volume", "strokes") and getattr(self._session.state, name) is not None
        if chosen and self._entered and not self._ui.segmentSection.collapsed:
            self.showEditor(True)
        if name in ("strokes", "result", "volume"):
            self.refresh()

    def enter(self) -> None:
        """The module is shown: the editor may listen to the slice views."""
        self._entered = True
        self.showEditor(not self._ui.segmentSection.collapsed)

    def leave(self) -> None:
        """The module is left, or the scene closes: the editor lets go of views and keyboard."""
        self._entered = False
        self.showEditor(False)

    def showEditor(self, shown: bool) -> None:
        """Give the editor its nodes in the order that it needs, or take everything from it.

        Editor node before scene, segmentation before source volume: the other way round Slicer reports errors.
        """
        editor = self._ui.segmentEditorWidget
        if not (shown and self._entered and self._session.state.volume is not None):
            editor.setActiveEffect(None)
            editor.uninstallKeyboardShortcuts()
            editor.removeViewObservations()
            return
        editor.setMRMLSegmentEditorNode(self._session.segmentEditorNode())
        editor.setMRMLScene(slicer.mrmlScene)
        editor.setSegmentationNode(self._session.strokesNode())
        editor.setSourceVolumeNode(self._session.state.volume)
        editor.setupViewObservations()
        editor.installKeyboardShortcuts()
        self.refresh()

    def release(self) -> None:
        """Detach the editor from every node; the scene is going."""
        self.leave()
        editor = self._ui.segmentEditorWidget
        editor.setSegmentationNode(None)
        editor.setMRMLSegmentEditorNode(None)

    def addStructure(self) -> None:
        """A structure more, chosen for painting."""
        self.showEditor(True)
        self._ui.segmentEditorWidget.setCurrentSegmentID(self._session.addStructure())

    def paintNext(self) -> None:
        """Jump to where a stroke helps most, or say that nothing is left to ask."""
        place = self._session.whereToPaintNext()
        if place is not None:
            self._session.jumpTo(place)
        elif self._session.fewShot.preview is None:
            self._actions.showError(_("There is no preview yet: paint a few strokes first."))
        else:
            self._actions.showError(_("No place stands out as uncertain: look through the slices and apply."))

    def refresh(self) -> None:
        """What is missing before a preview, and which buttons make sense."""
        ui, session = self._ui, self._session
        missing = session.strokesStatus() if session.state.strokes is not None else _("Paint in at least two segments.")
        partial = session.fewShot.isPartial
        ui.strokesLabel.text = missing or (_("So far only the displayed slices are segmented.") if partial else "")
        ui.updatePreviewButton.enabled = not missing
        ui.applyButton.enabled = session.hasHead and not missing and not partial and not session.isWriting
        ui.paintNextButton.enabled = session.hasHead and not partial
        ui.undoButton.enabled = session.canUndo
        ui.redoButton.enabled = session.canRedo
