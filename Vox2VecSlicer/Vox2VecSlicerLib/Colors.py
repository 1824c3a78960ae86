"""Colour tables of the overlays, made once in a scene, and the colours of structures and segments."""

from typing import TYPE_CHECKING

import numpy as np

from Vox2VecCore.fewshot.classes import COLOURS

if TYPE_CHECKING:
    from slicer import vtkMRMLColorTableNode, vtkMRMLScene, vtkMRMLSegmentationNode

ENTRIES = 256
# Perceptually even ramps that stand out from grey: violet to yellow for likeness, dark to light blue for doubt.
RAMPS: dict[str, list[tuple[float, float, float]]] = {
    "Vox2Vec likeness": [(0.35, 0.0, 0.65), (0.7, 0.12, 0.6), (0.9, 0.3, 0.4), (0.99, 0.6, 0.2), (0.97, 0.97, 0.2)],
    "Vox2Vec doubt": [(0.0, 0.15, 0.4), (0.0, 0.5, 0.75), (0.5, 0.95, 1.0)],
}
LIKENESS, DOUBT = RAMPS


def ramp(name: str) -> np.ndarray:
    """Colours (256, 3) from 0 to 1 of a table, lowest first."""
    stops = np.array(RAMPS[name])
    places = np.linspace(0, len(stops) - 1, ENTRIES)
    return np.stack([np.interp(places, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=1)


def nextColor(*segmentationNodes: "vtkMRMLSegmentationNode | None") -> tuple[float, float, float]:
    """For a further segment: of the palette's colours the first that the fewest segments of some segmentations have."""
    used = []
    for node in segmentationNodes:
        for n in range(0 if node is None else node.GetSegmentation().GetNumberOfSegments()):
            r, g, b = (round(c, 3) for c in node.GetSegmentation().GetNthSegment(n).GetColor())
            used.append((r, g, b))
    return min(COLOURS, key=used.count)


def colorTable(scene: "vtkMRMLScene", name: str) -> "vtkMRMLColorTableNode":
    """The scene's colour table of that name; it is not saved, because it is made again."""
    node = scene.GetSingletonNode(name.replace(" ", ""), "vtkMRMLColorTableNode")
    if node is not None:
        return node
    import slicer

    node = slicer.vtkMRMLColorTableNode()
    node.SetSingletonTag(name.replace(" ", ""))
    node.SetName(name)
    node.SetTypeToUser()
    node.SetNumberOfColors(ENTRIES)
    for index, (r, g, b) in enumerate(ramp(name)):
        node.SetColor(index, f"{index * 100 / (ENTRIES - 1):.0f}", r, g, b, 1.0)
    node.SetSaveWithScene(False)
    return scene.AddNode(node)
