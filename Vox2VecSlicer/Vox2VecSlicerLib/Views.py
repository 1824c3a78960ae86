"""What is drawn in front of the scans: the overlays of the module, and which of them is shown."""

from typing import TYPE_CHECKING

from numpy.typing import NDArray

from Vox2VecSlicerLib.Colors import DOUBT, LIKENESS
from Vox2VecSlicerLib.Layers import ForegroundLayers
from Vox2VecSlicerLib.Overlay import Overlay
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Texts import tr as _

if TYPE_CHECKING:
    from slicer import vtkMRMLScene, vtkMRMLVolumeNode

NAMES = {"similarity": "Vox2Vec similarity", "colors": "Vox2Vec colors", "uncertainty": "Vox2Vec uncertainty"}
HIGHEST = 100.0


class Views:
    """One overlay of each kind for the volume and one for the volume it is compared with, made when first needed."""

    def __init__(self, scene: "vtkMRMLScene", state: ModuleState) -> None:
        self._scene = scene
        self._state = state
        self._layers = ForegroundLayers(scene)
        self._overlays: dict[tuple[str, str], Overlay] = {}
        self._filled: set[tuple[str, str]] = set()
        self._legend = False
        self._active = True
        state.changed.connect(self._onState)

    def overlay(self, kind: str, volumeNode: "vtkMRMLVolumeNode") -> Overlay:
        """The overlay of a kind (``similarity``, ``colors``, ``uncertainty``) for the volume or its target."""
        key = self._key(kind, volumeNode)
        if key not in self._overlays:
            name = NAMES[kind] if key[1] == "volume" else f"{NAMES[kind]} (target)"
            self._overlays[key] = Overlay(self._scene, name, colors=kind == "colors")
        return self._overlays[key]

    def fill(self, kind: str, scan: Scan, step: int = 1) -> Overlay:
        """The overlay of a kind, laid over a scan, to be written to and then shown.

        :param step: see :meth:`Overlay.fit`.
        """
        overlay = self.overlay(kind, scan.volumeNode)
        overlay.fit(scan, step)
        self._filled.add(self._key(kind, scan.volumeNode))
        return overlay

    def setMap(self, kind: str, scan: Scan, values: NDArray) -> Overlay:
        """The overlay of a kind, showing a whole map of a scan (:meth:`Overlay.setMap`)."""
        overlay = self.overlay(kind, scan.volumeNode)
        overlay.setMap(scan, values)
        self._filled.add(self._key(kind, scan.volumeNode))
        return overlay

    def empty(self, kind: str) -> None:
        """Nothing to show of a kind; its overlays stay for next time."""
        self._filled = {key for key in self._filled if key[0] != kind}
        self.update()

    def update(self) -> None:
        """Show what the parameters say."""
        for (kind, role), overlay in self._overlays.items():
            if overlay.node is None or overlay.scan is None:
                continue
            volumeNode = overlay.scan.volumeNode
            shown = kind == self._state.view and (kind, role) in self._filled and self._active
            shown = shown and getattr(self._state, role) is volumeNode
            if shown:
                lowest = self._state.threshold if kind == "similarity" else 0.0
                overlay.setRange(lowest, HIGHEST, LIKENESS if kind == "similarity" else DOUBT)
                self._layers.show(overlay.node, volumeNode, self._state.opacity)
            else:
                self._layers.hide(overlay.node)
            if kind != "colors":
                title = _("Similarity\n(percentile)") if kind == "similarity" else _("Uncertainty\n(%)")
                overlay.showLegend(shown and self._legend, title)

    def follow(self) -> None:
        """Overlays lie under the parent transforms that their scans have by now."""
        for overlay in self._overlays.values():
            overlay.follow()

    def showLegend(self, shown: bool) -> None:
        """A legend of the overlay's colours."""
        self._legend = shown
        self.update()

    def enter(self) -> None:
        """Show overlays again."""
        self._active = True
        self.update()

    def exit(self) -> None:
        """Give the views back as they were."""
        self._active = False
        self.update()

    @property
    def isActive(self) -> bool:
        """Whether overlays are shown, between :meth:`enter` and :meth:`exit`."""
        return self._active

    def clear(self) -> None:
        """Former foregrounds back, overlays out of the scene, memory free."""
        self._layers.hide()
        for overlay in self._overlays.values():
            overlay.remove()
        self._filled.clear()

    def release(self) -> None:
        """:meth:`clear`, and no observer left."""
        self.clear()
        self._layers.release()
        self._state.changed.disconnect(self._onState)

    def _key(self, kind: str, volumeNode: "vtkMRMLVolumeNode") -> tuple[str, str]:
        return kind, "target" if volumeNode is self._state.target else "volume"

    def _onState(self, name: str) -> None:
        if name in ("view", "threshold", "opacity", "volume", "target"):
            self.update()
