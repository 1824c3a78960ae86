"""Embed: choose a CT and a region, compute its vectors."""

import time
from collections.abc import Callable

from slicer.i18n import tr as _

from Vox2VecSlicerPanels.Actions import Actions
from Vox2VecSlicerPanels.Binding import Binding


class EmbedPanel:
    """The button says by itself when it cannot be pressed, and why.

    :param status: the ``StatusPanel`` for warnings about the chosen scan.
    :param onTimed: called with the seconds that a scan took that was not in the cache.
    """

    def __init__(
        self, ui, session, binding: Binding, actions: Actions, status, onTimed: Callable[[float], None]
    ) -> None:
        self._ui, self._session, self._status, self._onTimed = ui, session, status, onTimed
        self._started: float | None = None
        binding.node(ui.volumeSelector, "volume")
        binding.node(ui.roiSelector, "roi")
        actions.button(ui.embedButton, self.embed)
        actions.follow(session.state.changed, self._follow)
        actions.follow(session.regionMoved, self.refresh)
        actions.follow(session.embedded, self._embedded)
        actions.follow(session.similarityUpdated, self.refresh)  # a transform may have turned the scan around
        actions.follow(session.progressChanged, lambda _progress: self._enable())
        self.refresh()

    def _follow(self, name: str) -> None:
        if name in ("volume", "roi", "model"):
            self.refresh()

    def embed(self) -> None:
        """Start, and note the time: on a processor people want to know what to expect."""
        self._cacheBytes = self._session.cacheBytes()
        self._started = time.monotonic()
        self._session.embed()

    def _embedded(self, _node) -> None:
        if self._started is not None and self._session.cacheBytes() > self._cacheBytes:  # computed, not found
            self._onTimed(time.monotonic() - self._started)
        self._started = None
        self._ui.exploreSection.collapsed = False
        self.refresh()

    def refresh(self) -> None:
        """Say whether the chosen scan can be embedded, and whether it is."""
        volume = self._session.state.volume
        self._refusal, warning = self._session.checkVolume(volume)
        self._status.showWarning(warning or "", about="volume")
        self._ui.embedLabel.text = self._standing(volume)
        self._enable()

    def _enable(self) -> None:
        self._ui.embedButton.enabled = not self._refusal and not self._session.busy
        self._ui.embedButton.toolTip = self._refusal or _(
            "Compute the vector of every voxel. Once for each scan; afterwards it comes from the cache."
        )

    def _standing(self, volume) -> str:
        if volume is None:
            return _("Choose a CT. The Sample Data module has CTChest and CTLiver to try.")
        if self._refusal:
            return self._refusal
        if self._session.isEmbedded(volume) and not self._session.isRegionEmbedded:
            return _("Embedded, but not in this region of interest: maps show the former part. Press Embed.")
        if self._session.isEmbedded(volume):
            return _("Embedded: point at a voxel under Explore.")
        return _("Not embedded yet; a scan that was embedded before is there at once.")
