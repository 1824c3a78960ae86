"""From volume nodes to the core's volumes: what can be embedded, which part of it, and its voxels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy

from Vox2VecCore.errors import VolumeError
from Vox2VecCore.stored_scan import StoredScan, as_intensities
from Vox2VecCore.volume import Volume, apply_affine
from Vox2VecCore.volume_io import check_ct_range
from Vox2VecSlicerLib import Geometry
from Vox2VecSlicerLib.Texts import tr as _

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLVolumeNode

CORNERS = np.array(list(np.ndindex(2, 2, 2)), np.float64)
AFFINE_DECIMALS = 5
OVERLAY = "Vox2Vec.Overlay"
"""Attribute of the volumes that are drawn over a scan."""
NOT_CT = ("MR", "PT", "NM", "US", "XA", "MG")


def refusal(volumeNode: "vtkMRMLVolumeNode | None") -> str | None:
    """Why a node cannot be embedded, in one sentence, or ``None``."""
    if volumeNode is None:
        return _("Choose a CT volume.")
    name = volumeNode.GetName()
    if volumeNode.GetAttribute(OVERLAY) is not None:
        return _("{name} is what Vox2Vec draws over a CT; choose the CT itself.").format(name=name)
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("{name} is a label map; choose the CT that it belongs to.").format(name=name)
    image = volumeNode.GetImageData()
    if volumeNode.IsA("vtkMRMLVectorVolumeNode") or (image is not None and image.GetNumberOfScalarComponents() != 1):
        sentence = _("{name} holds a vector or a colour in every voxel; choose a CT with one value a voxel.")
        return sentence.format(name=name)
    if not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        return _("{name} is not a volume with one value a voxel; choose a CT.").format(name=name)
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return _("{name} has no voxels; load its image or choose another volume.").format(name=name)
    return None


def check(
    volumeNode: "vtkMRMLVolumeNode | None", roiNode: "vtkMRMLMarkupsROINode | None" = None
) -> tuple[str | None, str | None]:
    """Why a node cannot be embedded in a region, and what speaks against doing so: one sentence each, or ``None``."""
    try:
        source(volumeNode, roiNode)
    except VolumeError as error:
        return str(error), None
    assert volumeNode is not None
    modality = _modality(volumeNode)
    if modality in NOT_CT:
        sentence = _("{name}: its DICOM modality is {modality}, not CT; results will be poor.")
        return None, sentence.format(name=volumeNode.GetName(), modality=modality)
    low, high = volumeNode.GetImageData().GetScalarRange()
    try:
        return None, check_ct_range(volumeNode.GetName(), low, high)
    except VolumeError as error:
        return str(error), None


def voxels(volumeNode: "vtkMRMLScalarVolumeNode") -> NDArray:
    """The voxels of a node, indexed (i, j, k), sharing its memory."""
    image = volumeNode.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1]).T


@dataclass(frozen=True)
class Part:
    """A box of a node's voxels.

    :param first: index in the node of its first voxel.
    :param flipped: whether it is read against k.
    """

    first: tuple[int, int, int]
    flipped: bool

    def turned(self, array: NDArray) -> NDArray:
        """Values of the part in the node's order of voxels, or back."""
        return array[:, :, ::-1] if self.flipped else array


@dataclass(frozen=True)
class ScanSource:
    """What is needed to embed a volume, read from its node on the main thread.

    A left-handed volume is turned over along k, as Slicer itself does when it saves one: so a scene that was saved and
    loaded finds its embedding in the cache again. For the same reason the matrix is rounded to 0.00001 mm.

    :param array: voxels (i, j, k) of the part to embed; shares the node's memory until :meth:`volume` copies it.
    :param affine: indices of ``array`` to the scan's space.
    :param part: where the part lies among the node's voxels.
    :param fromLocal: the node's own space to the scan's space (:func:`Geometry.correction`).
    :param fingerprint: changes when the node's voxels or geometry change.
    """

    array: NDArray
    affine: NDArray[np.float64]
    part: "Part"
    fromLocal: NDArray[np.float64]
    fingerprint: tuple
    name: str

    def isSamePart(self, other: "ScanSource") -> bool:
        """Whether another source of the same node holds the same voxels."""
        return self.part == other.part and self.array.shape == other.array.shape

    def volume(self) -> Volume:
        """A core volume with voxels of its own, int16 or float32. For the worker: copying takes a while.

        :raises VolumeError: for values that are not finite.
        """
        array = np.array(self.array, order="F")
        if array.dtype not in (np.int16, np.float32):
            i, j, k = array.shape
            slabs = (array[:, :, n : n + 1] for n in range(k))
            array = as_intensities(StoredScan(slabs, (i, j, k), self.affine), self.name)
        return Volume(array, self.affine, self.name)


def fingerprint(volumeNode: "vtkMRMLVolumeNode") -> tuple:
    """Changes when a node's voxels or geometry change, or what the network has to see of its parent transform."""
    image = volumeNode.GetImageData()
    geometry = Geometry.ijkToLocal(volumeNode), Geometry.correction(volumeNode)
    return (None if image is None else image.GetMTime(), *(matrix.tobytes() for matrix in geometry))


def source(volumeNode: "vtkMRMLScalarVolumeNode | None", roiNode: "vtkMRMLMarkupsROINode | None" = None) -> ScanSource:
    """What is needed to embed a volume, or the part of it in a region of interest.

    :raises VolumeError: if the node cannot be embedded or the region misses it.
    """
    reason = refusal(volumeNode)
    if reason is not None:
        raise VolumeError(reason)
    assert volumeNode is not None
    first, last = _part(volumeNode, roiNode)
    own = Geometry.ijkToLocal(volumeNode)
    flipped = bool(np.linalg.det(own[:3, :3]) < 0)
    i, j, k = (int(index) for index in first)
    part = Part((i, j, k), flipped)
    array = part.turned(voxels(volumeNode)[tuple(slice(a, b) for a, b in zip(first, last, strict=True))])
    toNode = np.eye(4)
    toNode[:3, 3] = first
    if flipped:
        toNode[2, 2], toNode[2, 3] = -1, last[2] - 1
    fromLocal = Geometry.correction(volumeNode)
    affine = np.round(fromLocal @ own @ toNode, AFFINE_DECIMALS)
    return ScanSource(array, affine, part, fromLocal, fingerprint(volumeNode), volumeNode.GetName())


def fitRegion(roiNode: "vtkMRMLMarkupsROINode", volumeNode: "vtkMRMLVolumeNode") -> None:
    """Let a region of interest without extent, as a new one is, hold a whole volume: there it can be drawn smaller."""
    if min(roiNode.GetSize()) > 0 or refusal(volumeNode) is not None:
        return
    bounds = [0.0] * 6
    volumeNode.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    roiNode.SetCenterWorld(*(low + high) / 2)
    roiNode.SetSizeWorld(*(high - low))


def _part(
    volumeNode: "vtkMRMLScalarVolumeNode", roiNode: "vtkMRMLMarkupsROINode | None"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last voxel of the smallest box that holds a region of interest."""
    shape = np.array(volumeNode.GetImageData().GetDimensions())
    if roiNode is None:
        return np.zeros(3, np.int64), shape
    half = np.array(roiNode.GetSize()) / 2
    toWorld = Geometry.toNumpy(roiNode.GetObjectToWorldMatrix())
    corners = apply_affine(toWorld, (2 * CORNERS - 1) * half)
    ijk = Geometry.worldToIjk(volumeNode, corners)
    first = np.clip(np.ceil(ijk.min(axis=0) - 1e-6), 0, shape).astype(np.int64)
    last = np.clip(np.floor(ijk.max(axis=0) + 1e-6) + 1, 0, shape).astype(np.int64)
    if (last <= first).any():
        sentence = _("The region of interest {region} lies outside {name}; move it.")
        raise VolumeError(sentence.format(region=roiNode.GetName(), name=volumeNode.GetName()))
    return first, last


def _modality(volumeNode: "vtkMRMLVolumeNode") -> str:
    """DICOM modality that the subject hierarchy knows for a volume, or an empty string."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    return str(hierarchy.GetItemAttribute(item, "DICOM.Modality")) if item else ""
