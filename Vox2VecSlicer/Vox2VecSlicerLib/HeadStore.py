"""A trained head inside the scene: as text in a node, so that it is saved and loaded with everything else."""

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Vox2VecCore.errors import ModelError
from Vox2VecSlicerLib.Heads import HeadTool
from Vox2VecSlicerLib.Nodes import removeFromScene
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Texts import tr as _

if TYPE_CHECKING:
    from slicer import vtkMRMLScene

NODE_NAMES = {"head": "Vox2Vec head", "loadedHead": "Vox2Vec loaded head"}
"""By parameter: what is used now, and what was loaded from a file, which strokes are added to."""

FILE_NAME = "head.safetensors"


def headText(tool: HeadTool, head: Any) -> str:
    """A head as text. For the worker: it takes a moment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        tool.save(head, path)
        return base64.b64encode(path.read_bytes()).decode("ascii")


def storeHead(scene: "vtkMRMLScene", state: ModuleState, text: str, role: str = "head") -> None:
    """Keep the text of a head in a node of the scene, made on first use.

    :param role: a key of :data:`NODE_NAMES`.
    """
    node = getattr(state, role)
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLTextNode", NODE_NAMES[role])
        node.SetForceCreateStorageNode(True)
        setattr(state, role, node)
    if node.GetText() != text:
        node.SetText(text)


def dropHead(scene: "vtkMRMLScene", state: ModuleState) -> None:
    """Take the heads that are kept in the scene out of it."""
    for role in NODE_NAMES:
        node = getattr(state, role)
        if node is not None:
            setattr(state, role, None)
            removeFromScene(scene, node)


def storedTexts(state: ModuleState) -> tuple[str | None, str | None]:
    """The texts of the heads in the scene: of the one that is used, and of the one that was loaded."""
    used, loaded = ((node.GetText() or None) if (node := getattr(state, role)) else None for role in NODE_NAMES)
    return used, loaded


def headOf(tool: HeadTool, text: str) -> Any:
    """The head of a text. For the worker: it may bring PyTorch.

    :raises ModelError: if it is damaged or of another version.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ModelError(_("The head that was saved with this scene is damaged; train it again.")) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        path.write_bytes(content)
        return tool.load(path)
