"""Actions of a session on models, device, cache, and the embedding of volumes."""

from typing import TYPE_CHECKING

from Vox2VecCore.errors import VolumeError
from Vox2VecSlicerLib import Setup, Volumes
from Vox2VecSlicerLib.SessionParts import SessionParts
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Worker import NOW

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode


class SetupActions(SessionParts):
    """Set-up, and Embed."""

    def models(self) -> list[str]:
        """Models that can be chosen by name."""
        return Setup.models()

    def checkModel(self, nameOrFolder: str) -> str | None:
        """Why a model cannot be used, in one sentence, or ``None``."""
        return Setup.checkModel(nameOrFolder)

    def describeModel(self, nameOrFolder: str) -> str:
        """What a model is, in one line."""
        return Setup.describeModel(nameOrFolder)

    def fetchModel(self, name: str = "vox2vec") -> None:
        """Download a published model in the worker; :attr:`modelsChanged` tells when it is there."""
        self._worker.submit(
            "fetch",
            _("Downloading {name}").format(name=name),
            lambda progress: Setup.fetchModel(name, progress),
            lambda _: self.modelsChanged.emit(),
            self._fail,
        )

    def requestDeviceDescription(self) -> None:
        """Look at device, memory and engine in the worker; the answer comes by :attr:`deviceDescribed`."""
        device, engine = self.state.device, self.state.engine
        self._worker.submit(
            "device",
            _("Looking at this computer"),
            lambda _: Setup.describeDevice(device, engine),
            lambda found: self.deviceDescribed.emit(*found),
            self._fail,
            urgency=NOW,
        )

    def cacheBytes(self) -> int:
        """Size of the embedding cache on disk."""
        return Setup.cacheBytes()

    def clearCache(self) -> int:
        """Empty the embedding cache on disk; returns the bytes freed. Embeddings in use are dropped."""
        self.releaseMemory()
        return Setup.clearCache()

    def checkVolume(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> tuple[str | None, str | None]:
        """Why a volume cannot be embedded in its region, and what speaks against it: one sentence each, or ``None``."""
        return Volumes.check(volumeNode, self._roiOf(volumeNode))

    def embed(self, volumeNode: "vtkMRMLScalarVolumeNode | None" = None, wait: bool = False) -> None:
        """Embed a volume (the chosen one when left out; the region of interest crops the chosen one).

        :raises VolumeError: if the node cannot be embedded.
        :raises ModelError: if the model cannot be used.
        """
        if volumeNode is not None and self.state.volume is None:
            self.state.volume = volumeNode
        volumeNode = volumeNode or self.state.volume
        self.embeddings.request(
            volumeNode,
            self.state.model,
            roi=self._roiOf(volumeNode),
            device=self.state.device,
            engine=self.state.engine,
            onFailed=self._fail,
        )
        if wait:
            self.wait()

    def isEmbedded(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> bool:
        """Whether a volume is embedded as it is now."""
        return self.embeddings.scan(volumeNode) is not None

    @property
    def isRegionEmbedded(self) -> bool:
        """Whether the volume is embedded, and in the region of interest that is chosen now."""
        scan = self.embeddings.scan(self.state.volume)
        try:
            wanted = None if scan is None else Volumes.source(self.state.volume, self.state.roi)
        except VolumeError:  # the region lies outside
            return False
        return scan is not None and wanted is not None and scan.source.isSamePart(wanted)

    def _roiOf(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> "vtkMRMLMarkupsROINode | None":
        """The region of interest belongs to the chosen volume, not to its target."""
        return self.state.roi if volumeNode is self.state.volume else None
