"""Nodes of the scene and what hangs on them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLStorableNode


def removeFromScene(scene: "vtkMRMLScene", node: "vtkMRMLStorableNode") -> None:
    """Take a node, its displays and its storage out of the scene."""
    if node.IsA("vtkMRMLDisplayableNode"):
        for index in reversed(range(node.GetNumberOfDisplayNodes())):
            scene.RemoveNode(node.GetNthDisplayNode(index))
    if node.GetStorageNode() is not None:
        scene.RemoveNode(node.GetStorageNode())
    scene.RemoveNode(node)
