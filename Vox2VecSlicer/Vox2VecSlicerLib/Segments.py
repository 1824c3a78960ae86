"""Segments and voxels: which voxels of a volume a segment holds, and writing voxels into segments.

Writing goes through Slicer's own segment editor logic, so it heeds the masking and overwrite settings that the user
has made in the Segment Editor, and can be undone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk

from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.StoredLabels import StoredLabels
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.ViewsOfScans import liesIn

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLScene,
        vtkMRMLSegmentationNode,
        vtkMRMLSegmentEditorNode,
        vtkMRMLVolumeNode,
        vtkOrientedImageData,
    )

BINARY_LABELMAP = "Binary labelmap"
ON_GRID = 1e-3
"""Segments whose voxels lie within this many voxels of the volume's own need no resampling."""


def newSegmentation(scene: "vtkMRMLScene", name: str, volumeNode: "vtkMRMLVolumeNode") -> "vtkMRMLSegmentationNode":
    """A segmentation on the grid of a volume, which it refers to, in its study, under its transform.

    DICOM export needs reference and study.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().SetSourceRepresentationName(BINARY_LABELMAP)
    refer(node, volumeNode)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item, theirs = (0 if hierarchy is None else hierarchy.GetItemByDataNode(each) for each in (node, volumeNode))
    if item and theirs:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(theirs))
    return node


def refer(segmentationNode: "vtkMRMLSegmentationNode", volumeNode: "vtkMRMLVolumeNode") -> None:
    """Put a segmentation under a volume's transform and on its grid.

    In this order: the geometry that is kept, and that files are written in, depends on the transforms of both.
    """
    segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    liesIn(segmentationNode, volumeNode)


def align(segmentationNode: "vtkMRMLSegmentationNode", volumeNode: "vtkMRMLVolumeNode") -> bool:
    """Bring a segmentation under the parent transform of a volume; its segments stay where they are in the world.

    Painting into a segmentation under another transform than its volume's puts voxels in the wrong place without a
    word (the volume's transform is applied twice).

    :return: whether anything had to be changed.
    """
    own, wanted = segmentationNode.GetParentTransformNode(), volumeNode.GetParentTransformNode()
    if own is wanted:
        return False
    if hasVoxels(segmentationNode):
        transform = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(own, wanted, transform)
        if Geometry.isLinear(segmentationNode) and Geometry.isLinear(volumeNode):
            matrix = vtk.vtkMatrix4x4()
            slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(own, wanted, matrix)
            transform = vtk.vtkTransform()
            transform.SetMatrix(matrix)
        segmentationNode.ApplyTransform(transform)
    refer(segmentationNode, volumeNode)
    return True


def segmentIDs(segmentationNode: "vtkMRMLSegmentationNode") -> list[str]:
    """Segments in their order."""
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]


def addSegment(
    segmentationNode: "vtkMRMLSegmentationNode", name: str, color: tuple[float, float, float], terms: str = ""
) -> str:
    """A new, empty segment; returns its ID.

    :param terms: terminology as Slicer writes it into segments.
    """
    segmentation = segmentationNode.GetSegmentation()
    segmentID = str(segmentation.AddEmptySegment(segmentation.GenerateUniqueSegmentID(name), name, color))
    describe(segmentation.GetSegment(segmentID), name, color, terms)
    return segmentID


def describe(segment: Any, name: str, color: tuple[float, float, float], terms: str) -> None:
    """Name, colour and, if there is any, terminology of a segment."""
    segment.SetName(name)
    segment.SetColor(*color)
    if terms:
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terms)


def tag(segment: Any, name: str) -> str:
    """A tag of a segment, empty when it has none."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def terminology(segment: Any) -> str:
    """Terminology of a segment as Slicer writes it."""
    return tag(segment, slicer.vtkSegment.GetTerminologyEntryTagName())


def hasVoxels(segmentationNode: "vtkMRMLSegmentationNode", segmentID: str | None = None) -> bool:
    """Whether a segment, or any, holds a voxel."""
    wanted = segmentIDs(segmentationNode) if segmentID is None else [segmentID]
    for each in wanted:
        stored = storedLabels(segmentationNode, each)
        if stored is not None and stored.holds(labelValue(segmentationNode, each)):
            return True
    return False


def segmentVoxels(
    segmentationNode: "vtkMRMLSegmentationNode", segmentID: str, volumeNode: "vtkMRMLVolumeNode"
) -> NDArray[np.int64]:
    """Voxels (n, 3) of a volume, as (i, j, k), that a segment holds.

    Only the box that the segment occupies is looked at. The segmentation has to be under the volume's transform
    (:func:`align`).
    """
    return voxelReader(segmentationNode, segmentID, volumeNode)()


def voxelReader(
    segmentationNode: "vtkMRMLSegmentationNode",
    segmentID: str,
    volumeNode: "vtkMRMLVolumeNode",
    copied: dict[int, StoredLabels] | None = None,
) -> Callable[[], NDArray[np.int64]]:
    """What gives :func:`segmentVoxels`.

    :param copied: copy labelmaps, which segments share, into this, so that the worker can read the segment as it is
        now; when left out, the voxels have to be read before anything is painted.
    """
    stored = storedLabels(segmentationNode, segmentID)
    if stored is None:
        return lambda: np.zeros((0, 3), np.int64)
    shift = shiftToVolume(stored, volumeNode)
    if shift is None:
        resampled = resampledVoxels(segmentationNode, segmentID, volumeNode)
        return lambda: resampled
    if copied is not None:
        address = stored.values.__array_interface__["data"][0]
        if address not in copied:
            copied[address] = stored.copy()
        stored = copied[address]
    labels, value, shape = stored, labelValue(segmentationNode, segmentID), volumeNode.GetImageData().GetDimensions()

    def read() -> NDArray[np.int64]:
        voxels = labels.voxels(value)[0] + shift
        return voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]

    return read


def orientedImage(
    labels: NDArray, first: tuple[int, int, int], volumeNode: "vtkMRMLVolumeNode"
) -> "vtkOrientedImageData":
    """Labels (i, j, k) of a box of a volume's voxels as an image in the volume's own space.

    :param first: voxel of the volume that is the first of the box.
    """
    image = slicer.vtkOrientedImageData()
    image.SetImageToWorldMatrix(Geometry.toVtk(Geometry.ijkToLocal(volumeNode)))
    image.SetExtent(*(int(v) for a, n in zip(first, labels.shape, strict=True) for v in (a, a + n - 1)))
    values = numpy_to_vtk(np.ascontiguousarray(labels.T).astype(np.uint8, copy=False).ravel(), deep=True)
    image.GetPointData().SetScalars(values)
    return image


def storedLabels(segmentationNode: "vtkMRMLSegmentationNode", segmentID: str) -> StoredLabels | None:
    """The labelmap of a segment, which it may share with others; ``None`` when it has none or is empty."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentID)
    return None if segment is None else StoredLabels.of(segment.GetRepresentation(BINARY_LABELMAP))


def labelValue(segmentationNode: "vtkMRMLSegmentationNode", segmentID: str) -> int:
    """Value of a segment in its labelmap."""
    return int(segmentationNode.GetSegmentation().GetSegment(segmentID).GetLabelValue())


def shiftToVolume(stored: StoredLabels, volumeNode: "vtkMRMLVolumeNode") -> NDArray[np.int64] | None:
    """What to add to voxels of a labelmap for those of a volume; ``None`` when they do not coincide."""
    toVolume = np.linalg.inv(Geometry.ijkToLocal(volumeNode)) @ stored.toLocal
    shift = np.rint(toVolume[:3, 3])
    first = np.array(stored.first)
    corners = np.stack([first, first + stored.values.shape[::-1]])
    moved = corners @ toVolume[:3, :3].T + toVolume[:3, 3]
    return shift.astype(np.int64) if np.abs(moved - corners - shift).max() < ON_GRID else None


def resampledVoxels(
    segmentationNode: "vtkMRMLSegmentationNode", segmentID: str, volumeNode: "vtkMRMLVolumeNode"
) -> NDArray[np.int64]:
    """Voxels (n, 3) of a volume that a segment holds whose labelmap has another grid."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volumeNode)
    return StoredLabels(array, (0, 0, 0), np.eye(4)).voxels()[0]


def setSharedLabels(
    segmentationNode: "vtkMRMLSegmentationNode", image: "vtkOrientedImageData", segments: dict[str, int]
) -> None:
    """Give segments their voxels in one shared labelmap, whatever they held before, without masking or undo.

    :param segments: label of every segment.
    """
    segmentation = segmentationNode.GetSegmentation()
    for segmentID, label in segments.items():
        segment = segmentation.GetSegment(segmentID)
        segment.SetLabelValue(label)
        segment.AddRepresentation(BINARY_LABELMAP, image)
    segmentation.InvokeEvent(segmentation.SourceRepresentationModified)
    segmentationNode.Modified()


class SegmentWriter:
    """Writes into segments as the Segment Editor would, with its settings, and undoes it.

    :param settings: the user's segment editor node: masking, editable intensities, overwriting.
    """

    def __init__(self, scene: "vtkMRMLScene", settings: "vtkMRMLSegmentEditorNode | None" = None) -> None:
        self._scene = scene
        self._settings = settings
        self._node: Any = None
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(scene)
        self._logic.SetMaximumNumberOfUndoStates(10)

    def begin(self, segmentationNode: "vtkMRMLSegmentationNode", volumeNode: "vtkMRMLVolumeNode") -> None:
        """Before segments are :meth:`put`: what follows is one step for undo.

        :raises Vox2VecError: if the settings mask by a segment that the segmentation does not have.
        """
        self.prepare(segmentationNode, volumeNode)
        self._logic.SaveStateForUndo()

    def put(
        self,
        segmentationNode: "vtkMRMLSegmentationNode",
        segmentID: str,
        volumeNode: "vtkMRMLVolumeNode",
        labels: NDArray[np.uint8],
        first: tuple[int, int, int],
    ) -> None:
        """Make a segment hold labels of a box of voxels that begins at ``first``, as far as the settings allow it."""
        self._node.SetSelectedSegmentID(segmentID)
        self._checkMasks()
        image = self._image(labels, first, volumeNode)
        mode = self._logic.ModificationModeSet
        self._logic.ModifySegmentByLabelmap(segmentationNode, segmentID, image, mode, False, False)

    def undo(self) -> None:
        """Back to before the last :meth:`begin`."""
        self._logic.Undo()

    def redo(self) -> None:
        """Undo :meth:`undo`."""
        self._logic.Redo()

    @property
    def canUndo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._logic.CanUndo())

    @property
    def canRedo(self) -> bool:
        """Whether there is something to redo."""
        return bool(self._logic.CanRedo())

    def forget(self) -> None:
        """Drop the undo states, which are copies of segmentations."""
        self._logic.ClearUndoState()
        if self._node is not None and self._node.GetScene() is not None:
            self._node.SetAndObserveSegmentationNode(None)
            self._node.SetAndObserveSourceVolumeNode(None)

    def release(self) -> None:
        """Take the writer's own node out of the scene."""
        self.forget()
        self._logic.SetSegmentEditorNode(None)
        if self._node is not None and self._node.GetScene() is not None:
            self._scene.RemoveNode(self._node)
        self._node = None

    def prepare(self, segmentationNode: "vtkMRMLSegmentationNode", volumeNode: "vtkMRMLVolumeNode") -> None:
        """The writer's own editor node gets the user's settings: theirs edits the strokes, ours the result.

        :raises Vox2VecError: see :meth:`begin`.
        """
        align(segmentationNode, volumeNode)
        if self._node is None or self._node.GetScene() is None:
            self._node = slicer.vtkMRMLSegmentEditorNode()
            self._node.SetSingletonTag("Vox2VecWriter")
            self._node.SetHideFromEditors(True)
            self._node.SetSaveWithScene(False)
            self._node = self._scene.AddNode(self._node)
            self._logic.SetSegmentEditorNode(self._node)
        node, settings = self._node, self._settings
        if node.GetSegmentationNode() is not segmentationNode:
            self._logic.ClearUndoState()
        node.SetAndObserveSegmentationNode(segmentationNode)
        node.SetAndObserveSourceVolumeNode(volumeNode)
        if settings is None:
            node.SetOverwriteMode(node.OverwriteNone)
            return
        node.SetOverwriteMode(settings.GetOverwriteMode())
        node.SetSourceVolumeIntensityMask(settings.GetSourceVolumeIntensityMask())
        node.SetSourceVolumeIntensityMaskRange(settings.GetSourceVolumeIntensityMaskRange())
        node.SetMaskMode(settings.GetMaskMode())
        if settings.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment:
            node.SetMaskSegmentID(self._maskSegment(segmentationNode))

    def _checkMasks(self) -> None:
        """The editor logic writes nothing, without a word, when it cannot make its masks."""
        masked = self._node.GetMaskMode() != slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
        if masked and not self._logic.UpdateMaskLabelmap():
            raise Vox2VecError(_("The Segment Editor's editable area cannot be used here; set it to 'Everywhere'."))
        if self._node.GetSourceVolumeIntensityMask() and not self._logic.UpdateAlignedSourceVolume():
            raise Vox2VecError(_("The Segment Editor's editable intensity range cannot be used here; switch it off."))

    def _maskSegment(self, segmentationNode: "vtkMRMLSegmentationNode") -> str:
        """The segment to stay inside of: chosen in the strokes, meant by its name in the result."""
        wanted = self._settings.GetMaskSegmentID() or ""
        chosenIn = self._settings.GetSegmentationNode()
        if chosenIn is segmentationNode and wanted in segmentIDs(segmentationNode):
            return wanted
        segment = None if chosenIn is None else chosenIn.GetSegmentation().GetSegment(wanted)
        name = wanted if segment is None else segment.GetName()
        found = segmentationNode.GetSegmentation().GetSegmentIdBySegmentName(name)
        if not found:
            raise Vox2VecError(
                _(
                    "The Segment Editor is set to edit inside segment '{segment}' only, and {result} has no segment of "
                    "that name; choose another editable area."
                ).format(segment=name, result=segmentationNode.GetName())
            )
        return str(found)

    @staticmethod
    def _image(
        labels: NDArray[np.uint8], first: tuple[int, int, int], volumeNode: "vtkMRMLVolumeNode"
    ) -> "vtkOrientedImageData":
        i, j, k = first
        return orientedImage(labels, (i, j, k), volumeNode)
