"""Embedding volumes in the worker, and the embedded scans of a scene."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import CacheError, DeviceMemoryError, Vox2VecError
from Vox2VecCore.progress import Progress
from Vox2VecSlicerLib import Libraries, Volumes
from Vox2VecSlicerLib.Overlay import blank
from Vox2VecSlicerLib.Scan import Scan
from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.Texts import tr as _
from Vox2VecSlicerLib.Worker import Worker

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode

    from Vox2VecCore.model import Model
    from Vox2VecCore.pyramid import FeaturePyramid


@dataclass(frozen=True)
class Embedded:
    """What comes back from the worker: the pyramid, what the user should know about it, and :attr:`Scan.canvas`."""

    pyramid: "FeaturePyramid"
    warnings: list[str] = field(default_factory=list)
    canvas: NDArray[np.float32] | None = None


def ready(pyramid: "FeaturePyramid", warnings: list[str]) -> Embedded:
    """A pyramid, and all that hovering reads and writes brought into memory: the interface does that itself, at once.
    For the worker."""
    from Vox2VecCore.similarity import prepare

    prepare(pyramid)
    return Embedded(pyramid, warnings, blank(pyramid.grid.shape))


def embedSource(source: Volumes.ScanSource, model: "Model", device: str, engine: str, progress: Progress) -> Embedded:
    """Embed; when the device's memory or the cache's disk is full, do without it and say so. For the worker."""
    Libraries.load()
    from Vox2VecCore.embedding import embed
    from Vox2VecCore.volume_io import check_ct

    volume = source.volume()
    doubt = check_ct(volume)
    warnings = [] if doubt is None else [doubt]
    options: dict[str, Any] = {"device": device, "engine": engine, "progress": progress}
    while True:
        try:
            return ready(embed(volume, model, **options), warnings)
        except DeviceMemoryError as error:
            if options["device"] == "cpu":
                raise
            warnings.append(_("Computed on the CPU instead, which takes longer. {error}").format(error=error))
            options |= {"device": "cpu", "engine": "auto"}
        except CacheError as error:
            if options.get("cache") is False:
                raise
            warnings.append(_("This embedding is not kept for next time. {error}").format(error=error))
            options["cache"] = False


class Embeddings:
    """The embedded volumes of a scene.

    :param embed: takes the place of :func:`embedSource`, for tests.
    """

    def __init__(self, worker: Worker, embed: Callable[..., Embedded] = embedSource) -> None:
        self.embedded = Signal()
        self.warned = Signal()
        self._worker = worker
        self._embed = embed
        self._scans: dict[str, Scan] = {}

    def request(
        self,
        volumeNode: "vtkMRMLScalarVolumeNode | None",
        modelName: str,
        *,
        roi: "vtkMRMLMarkupsROINode | None" = None,
        device: str = "auto",
        engine: str = "auto",
        onFailed: Callable[[Vox2VecError], None] | None = None,
    ) -> None:
        """Embed a volume, or the part of it in a region of interest; :attr:`embedded` tells when it is done.

        :raises VolumeError: if the node cannot be embedded.
        :raises ModelError: if the model cannot be used.
        """
        from Vox2VecCore.model import load_model

        source = Volumes.source(volumeNode, roi)
        assert volumeNode is not None
        model = load_model(modelName)
        embed = self._embed
        self._worker.submit(
            _topic(volumeNode.GetID()),
            _("Embedding {name}").format(name=volumeNode.GetName()),
            lambda progress: embed(source, model, device, engine, progress),
            lambda result: self._done(volumeNode, source, result, onFailed),
            onFailed,
        )

    def requestCached(
        self, volumeNode: "vtkMRMLScalarVolumeNode", modelName: str, roi: "vtkMRMLMarkupsROINode | None" = None
    ) -> None:
        """Take the embedding of a volume, or of a region of it, from the cache, if it is there."""
        from Vox2VecCore.model import load_model

        source = Volumes.source(volumeNode, roi)
        model = load_model(modelName)

        def find(_progress: Progress) -> Embedded | None:
            Libraries.load()
            from Vox2VecCore.cache import PyramidCache

            cache = PyramidCache()
            pyramid = cache.find(cache.key(source.volume(), model))
            return None if pyramid is None else ready(pyramid, [])

        self._worker.submit(
            _topic(volumeNode.GetID()),
            _("Looking for the embedding of {name}").format(name=volumeNode.GetName()),
            find,
            lambda result: None if result is None else self._done(volumeNode, source, result, None),
        )

    def scan(self, volumeNode: "vtkMRMLScalarVolumeNode | None") -> Scan | None:
        """The embedded volume; ``None`` when it is not embedded or has changed since."""
        scan = None if volumeNode is None else self._scans.get(volumeNode.GetID())
        return scan if scan is not None and scan.volumeNode is volumeNode and scan.isCurrent else None

    def isUnderWay(self, volumeNode: "vtkMRMLScalarVolumeNode") -> bool:
        """Whether the volume is being embedded."""
        return self._worker.isBusyWith(_topic(volumeNode.GetID()))

    def forget(self, volumeID: str) -> None:
        """Drop a volume and stop embedding it."""
        self._worker.cancel(_topic(volumeID))
        self._scans.pop(volumeID, None)

    def clear(self) -> None:
        """Drop all volumes; what is in the cache on disk stays."""
        self._scans.clear()

    def _done(
        self,
        volumeNode: "vtkMRMLScalarVolumeNode",
        source: Volumes.ScanSource,
        result: Embedded,
        onFailed: Callable[[Vox2VecError], None] | None,
    ) -> None:
        if volumeNode.GetScene() is None:
            return
        scan = Scan(volumeNode, result.pyramid, source, result.canvas)
        if not scan.isCurrent:
            if onFailed is not None:
                sentence = _("{name} was changed while it was embedded; embed it again.")
                onFailed(Vox2VecError(sentence.format(name=volumeNode.GetName())))
            return
        self._scans[volumeNode.GetID()] = scan
        for text in result.warnings:
            self.warned.emit(text)
        self.embedded.emit(volumeNode)


def _topic(volumeID: str) -> str:
    return f"embed {volumeID}"
