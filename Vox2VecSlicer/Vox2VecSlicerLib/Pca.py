"""Colours of the embedding: the three strongest directions as red, green and blue, the same in both volumes."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib.Overlay import inImageOrder
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.State import ModuleState
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Views import Views
from Vox2VecSlicerLib.Worker import NOW, Worker

KIND = "colors"


class PcaColors:
    """Computes the colours when ``state.view`` asks for them."""

    def __init__(
        self,
        state: ModuleState,
        worker: Worker,
        views: Views,
        shownScans: Callable[[], list[Scan]],
        onFailed: Callable[[Vox2VecError], None],
    ) -> None:
        self._state = state
        self._worker = worker
        self._views = views
        self._shownScans = shownScans
        self._onFailed = onFailed
        self._shown: list[Scan] = []
        state.changed.connect(self._onState)

    def update(self) -> None:
        """Colour the scans that are embedded, if colours are wanted and not there yet."""
        scans = self._shownScans()
        if self._state.view != KIND or not scans or scans == self._shown:
            return
        pyramids = [scan.pyramid for scan in scans]

        def work(progress: Progress) -> list[NDArray]:
            from Vox2VecCore.pca import fit_pca, pca_colours

            basis = fit_pca(pyramids)
            return [inImageOrder(pca_colours(pyramid, basis, progress, smooth=True)) for pyramid in pyramids]

        self._worker.submit(
            KIND, _("Colors"), work, lambda colors: self._show(scans, colors), self._onFailed, urgency=NOW
        )

    def clear(self) -> None:
        """Forget the colours."""
        self._worker.cancel(KIND)
        self._shown = []

    def release(self) -> None:
        """:meth:`clear`, and no longer follow the parameters."""
        self.clear()
        self._state.changed.disconnect(self._onState)

    def _show(self, scans: list[Scan], colors: list[Any]) -> None:
        current = [(scan, values) for scan, values in zip(scans, colors, strict=True) if scan.isCurrent]
        for scan, values in current:
            self._views.setMap(KIND, scan, values)
        self._shown = [scan for scan, _values in current]
        self._views.update()

    def _onState(self, name: str) -> None:
        if name in ("view", "volume", "target"):
            self.update()
