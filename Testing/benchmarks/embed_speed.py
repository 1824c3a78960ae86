"""``embed`` against the published way, on one real scan, in one run.

The published way: plain PyTorch in single precision, patches of 128 x 128 x 32 voxels with half overlap in every
direction, every patch computed (Goncharov et al. 2023 and the official sliding window). Ours: the same network
on the tiles that hold body, each once, by the engine that ``auto`` picks, and written into the pyramid as it is
stored. Resampling and reading are left out on both sides.

Both are measured in turn, because other users of a machine make it slower or faster by half from one minute to the
next: all of ours, a layer of the published patches, all of ours, the next layer. Every patch and every tile counts with
the shortest of its times, and the published time is that of one layer, times their number.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Testing.benchmarks.machine import best_in_rounds, matmul
from Testing.support.models import random_model
from Vox2VecCore.embedding import fill_levels
from Vox2VecCore.encoding import StoredLevels
from Vox2VecCore.engines import Engine, cpu_computes_bfloat16, make_engine
from Vox2VecCore.grid import GriddedScan, grid_scan
from Vox2VecCore.model import Model
from Vox2VecCore.model_import import OFFICIAL_OVERLAP, OFFICIAL_TILE
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid_files import new_levels
from Vox2VecCore.shapes import Triple, box
from Vox2VecCore.sliding_window import sliding_window
from Vox2VecCore.tiles import Tile, plan_tiles
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume

GRID: Triple = (320, 320, 160)
PATCH: Triple = (128, 128, 32)
SPACING_MM = (1.0, 1.0, 2.0)
LAYERS = (0, 48, 80, 128)
"""First slices of the layers of published patches that are measured; there are more, as they half overlap."""
LAYERS_IN_ALL = 1 + (GRID[2] - PATCH[2]) // (PATCH[2] // 2)


def official_model(folder: Path) -> Model:
    """The official size with random weights, and the tiles that an import gives the official weights."""
    return random_model(
        folder,
        base_channels=16,
        num_scales=6,
        spacing_mm=SPACING_MM,
        tile_shape=OFFICIAL_TILE,
        tile_overlap=OFFICIAL_OVERLAP,
        name="official-size",
    )


def stretched(ct: Path, shape: Triple, spacing_mm: tuple[float, float, float]) -> Volume:
    """A real CT whose body is stretched to fill a grid of a given shape."""
    volume = read_volume(ct)
    body = grid_scan(volume, (4.0, 4.0, 4.0)).grid
    scale = np.array(shape) * np.array(spacing_mm) / (np.array(body.shape) * body.spacing_mm)
    affine = volume.affine.copy()
    affine[:3, :3] *= scale[np.abs(affine[:3, :3]).argmax(axis=0)]
    return Volume(volume.array, affine, volume.name)


def scan_of(ct: Path, shape: Triple = GRID, spacing_mm: tuple[float, float, float] = SPACING_MM) -> GriddedScan:
    """A real CT on a grid of exactly a given shape, which its body fills."""
    scan = grid_scan(stretched(ct, shape, spacing_mm), spacing_mm)
    inside = box((0, 0, 0), map(min, scan.hu.shape, shape))
    hu, body = np.full(shape, -1024, np.float32), np.zeros(shape, bool)
    hu[inside], body[inside] = scan.hu[inside], scan.body[inside]
    return GriddedScan(scan.grid, hu, body)


def published_times(network: EmbeddingNetwork, hu: np.ndarray) -> list[float]:
    """Seconds of every patch of the published way over a layer one patch high."""
    image = torch.from_numpy(((hu + 1350) / 2350).clip(0, 1))[None, None]
    moments = [time.perf_counter()]

    @torch.no_grad()
    def predict(patch: torch.Tensor) -> torch.Tensor:
        found = network(patch)[0][:, :1]
        moments.append(time.perf_counter())
        return found

    sliding_window(image, predict, PATCH)
    return np.diff(moments).tolist()


def our_times(model: Model, scan: GriddedScan, run: Engine, tiles: list[Tile]) -> list[float]:
    """Seconds of every tile of a whole grid, and of storing the last."""
    levels = new_levels(model.config, scan.body.shape, None)  # type: ignore[arg-type]
    moments: list[float] = []
    fill_levels(scan, tiles, model.config, run, levels, Progress(lambda _: moments.append(time.perf_counter())))
    return np.diff([*moments, time.perf_counter()]).tolist()


def engine_for(model: Model, name: str, precision: str = "single") -> Engine:
    """Engine with the network and its storage encoding."""
    module = StoredLevels(model.network(), model.config.architecture.level_channels, None).eval()
    return make_engine(module, "cpu", name, precision)  # type: ignore[arg-type]


def measure(ct: Path, model: Model) -> dict[str, Any]:
    """Everything about the speed of ``embed`` that README quotes."""
    scan = scan_of(ct)
    network = model.network()
    gflop = count_flops(network) / 1e9
    patch = np.random.default_rng(0).random(PATCH, np.float32)
    engines = {"openvino": engine_for(model, "openvino"), "torch": engine_for(model, "torch")}
    multiply, operations = matmul()
    best = best_in_rounds({"matmul": multiply} | {name: lambda e=e: e(patch) for name, e in engines.items()})  # type: ignore[misc]
    if cpu_computes_bfloat16():
        engines["half"] = engine_for(model, "openvino", "half")
        engines["half"](patch)

    tiles = plan_tiles(scan.body, model.config)
    times: dict[str, list[list[float]]] = {name: [] for name in (*engines, "published")}
    for first in LAYERS:
        for name, engine in engines.items():
            if name != "torch" or first in LAYERS[::2]:  # it takes long
                times[name].append(our_times(model, scan, engine, tiles))
        times["published"].append(published_times(network, scan.hu[:, :, first : first + PATCH[2]]))
    took = {name: float(np.min(rounds, axis=0).sum()) for name, rounds in times.items()}
    patches = LAYERS_IN_ALL * len(times["published"][0])
    published = LAYERS_IN_ALL * took["published"]
    in_turn = [LAYERS_IN_ALL * sum(a) / sum(b) for a, b in zip(times["published"], times["openvino"], strict=True)]
    return {
        "grid": list(GRID),
        "body_share": float(scan.body.mean()),
        "computed_share": sum(float(np.prod(tile.shape)) for tile in tiles) / scan.body.size,
        "patch_gflop": gflop,
        "matmul_gflops": operations / 1e9 / best["matmul"],
        "openvino_gflops": gflop / best["openvino"],
        "torch_gflops": gflop / best["torch"],
        "openvino_patch_s": best["openvino"],
        "torch_patch_s": best["torch"],
        "ours_openvino_s": took["openvino"],
        "ours_torch_s": took["torch"],
        "ours_openvino_bfloat16_s": took.get("half"),
        "published_s": published,
        "published_patches": patches,
        "speedup_openvino": published / took["openvino"],
        "speedup_openvino_in_turn": in_turn,
        "speedup_torch": published / took["torch"],
        "load_average": os.getloadavg()[0],
    }


def count_flops(network: torch.nn.Module, shape: Triple = PATCH) -> float:
    """Floating-point operations of one patch, by PyTorch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, *shape))
    return float(counter.get_total_flops())
