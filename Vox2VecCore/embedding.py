"""From a scan to its voxel embeddings: grid, tiles, engine, cache."""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.cache import PyramidCache
from Vox2VecCore.config import ModelConfig
from Vox2VecCore.encoding import StoredLevels
from Vox2VecCore.engines import DeviceName, Engine, EngineName, Precision, make_engine
from Vox2VecCore.grid import GriddedScan, grid_scan
from Vox2VecCore.model import DEFAULT_MODEL, Model, load_model
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid, PyramidLevel
from Vox2VecCore.pyramid_files import new_levels, open_pyramid, release_memory, write_description
from Vox2VecCore.shapes import box, triple
from Vox2VecCore.tiles import Tile, plan_tiles
from Vox2VecCore.volume import AIR_HU, Volume
from Vox2VecCore.volume_io import NotCTWarning, check_ct


def embed(
    volume: Volume,
    model: Model | str | Path = DEFAULT_MODEL,
    *,
    cache: PyramidCache | Literal[False] | None = None,
    device: DeviceName = "auto",
    engine: EngineName = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> FeaturePyramid:
    """Voxel embeddings of a CT.

    :param volume: the scan in HU.
    :param model: a loaded model, a model's name, or a model directory.
    :param cache: where pyramids are kept; the user's cache when left out; ``False`` keeps this one in memory.
    :param device: where PyTorch runs; ``auto`` takes a GPU if there is one.
    :param engine: ``auto`` takes OpenVINO on a CPU when it is installed.
    :param precision: ``half`` is faster on hardware that computes with it, and used only if the first tile agrees with
        single precision; ``auto`` is half where it can be had. A cached pyramid answers for either.
    :param progress: told after every tile, asked for cancellation again and again while each is computed.
    :return: the pyramid, its levels memory-mapped from the cache.
    :raises VolumeError: if the scan cannot be a CT (NaN, constant, only air).
    :warns NotCTWarning: if its intensities do not look like HU.
    :raises ModelError: if the model cannot be used.
    :raises CacheError: if the cache cannot be written; nothing half-written is left.
    :raises EngineError: if the engine is not available or out of memory.
    :raises Cancelled: when ``progress`` says so; nothing half-written is left.
    """
    progress = progress or Progress()
    if not isinstance(model, Model):
        model = load_model(model)
    doubt = check_ct(volume)
    if doubt is not None:
        warnings.warn(doubt, NotCTWarning, stacklevel=2)
    if cache is False:
        return _compute(volume, model, None, device, engine, precision, progress)
    cache = cache or PyramidCache()
    key = cache.key(volume, model)
    found = cache.find(key)
    if found is not None:
        model.check_weights()  # not needed here, but a damaged model is said wherever it is asked for
        return found
    with cache.create(key) as folder:
        pyramid = _compute(volume, model, folder, device, engine, precision, progress)
        write_description(folder, pyramid, volume.name)
        del pyramid  # its files are still mapped, and some systems do not rename a folder of mapped files
    return open_pyramid(cache.folder / key)


def _compute(
    volume: Volume,
    model: Model,
    folder: Path | None,
    device: DeviceName,
    engine: EngineName,
    precision: Precision,
    progress: Progress,
) -> FeaturePyramid:
    config = model.config
    scan = grid_scan(volume, config.spacing_mm, progress)
    levels = new_levels(config, scan.grid.shape, folder)
    channels = config.architecture.level_channels
    progress.step("Loading the model", 0, 1)
    module = StoredLevels(model.network(), channels, config.level_statistics).eval()
    run = make_engine(module, device, engine, precision)
    del module  # an engine that needs it keeps it
    fill_levels(scan, plan_tiles(scan.body, config), config, run, levels, progress)
    return FeaturePyramid(
        scan.grid, levels, np.packbits(scan.body), config.level_statistics, config.name, model.hash, folder
    )


def fill_levels(
    scan: GriddedScan,
    tiles: list[Tile],
    config: ModelConfig,
    run: Engine,
    levels: list[PyramidLevel],
    progress: Progress,
) -> None:
    """Compute tiles and write what each owns into the levels."""
    total = sum(int(np.prod(tile.shape)) for tile in tiles)
    done = 0
    progress.step("Embedding", done, total)
    # A tile is stored while the network is at work on the next one, which leaves cores idle now and then.
    with ThreadPoolExecutor(max_workers=1) as worker:
        stored: Future[None] | None = None
        for tile in tiles:
            outputs = run(tile_image(scan.hu, tile, config.window_hu), progress.check)
            if stored is not None:
                stored.result()
            stored = worker.submit(_store, levels, tile, outputs)
            done += int(np.prod(tile.shape))
            progress.step("Embedding", done, total)
        if stored is not None:
            stored.result()


def _store(levels: list[PyramidLevel], tile: Tile, outputs: list[NDArray]) -> None:
    """Write what a tile owns of its outputs, unit vectors and magnitudes of every level, into the levels."""
    for level, unit, magnitude in zip(levels, outputs[::2], outputs[1::2], strict=True):
        cells, own = tile.owned_cells(level.stride, triple(level.magnitude.shape))
        level.unit[cells] = unit[own]
        level.magnitude[cells] = magnitude[own]
    release_memory(levels)


def tile_image(hu: NDArray[np.float32], tile: Tile, window_hu: tuple[float, float]) -> NDArray[np.float32]:
    """A tile of the grid as the network sees it: HU window scaled to [0, 1], air beyond the grid."""
    low, high = window_hu
    inside = hu[box(tile.start, tile.stop)]
    image = np.full(tile.shape, AIR_HU, np.float32)
    image[: inside.shape[0], : inside.shape[1], : inside.shape[2]] = inside
    return np.clip((image - low) / (high - low), 0, 1, out=image)
