"""``embed`` against the published way, on one real scan, in one run.

The published way: plain PyTorch in single precision, patches of 128 x 128 x 32 voxels with half overlap in every
direction, every patch computed (Goncharov et al. 2023 and the official sliding window). Ours: the same network
on the tiles that hold body, each once, by the engine that ``auto`` picks, and written into the pyramid as it is
stored. Resampling and reading are left out on both sides.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from Testing.benchmarks.machine import best_seconds, matmul_gflops, seconds
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
from Vox2VecCore.tiles import plan_tiles
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume

GRID: Triple = (320, 320, 160)
PATCH: Triple = (128, 128, 32)
SPACING_MM = (1.0, 1.0, 2.0)


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


def published_seconds(network: EmbeddingNetwork, hu: np.ndarray) -> tuple[float, int]:
    """Time and number of patches of the published way over a whole grid."""
    image = torch.from_numpy(((hu + 1350) / 2350).clip(0, 1))[None, None]
    patches = 0

    @torch.no_grad()
    def predict(patch: torch.Tensor) -> torch.Tensor:
        nonlocal patches
        patches += 1
        return network(patch)[0][:, :1]

    return seconds(lambda: sliding_window(image, predict, PATCH)), patches


def our_seconds(model: Model, scan: GriddedScan, run: Engine) -> tuple[float, float]:
    """Time over a whole grid, and the computed share of its voxels."""
    tiles = plan_tiles(scan.body, model.config)
    levels = new_levels(model.config, scan.body.shape, None)  # type: ignore[arg-type]
    taken = seconds(lambda: fill_levels(scan, tiles, model.config, run, levels, Progress()))
    return taken, sum(float(np.prod(tile.shape)) for tile in tiles) / scan.body.size


def engine_for(model: Model, name: str, precision: str = "single") -> Engine:
    """Engine with the network and its storage encoding."""
    module = StoredLevels(model.network(), model.config.architecture.level_channels, None).eval()
    return make_engine(module, "cpu", name, precision)  # type: ignore[arg-type]


def measure(ct: Path, model: Model) -> dict[str, Any]:
    """Everything about the speed of ``embed`` that README quotes."""
    scan = scan_of(ct)
    network = model.network()
    flops = count_flops(network)
    patch = np.random.default_rng(0).random(PATCH, np.float32)
    openvino, plain = engine_for(model, "openvino"), engine_for(model, "torch")

    matmul = matmul_gflops()
    patch_s = {"openvino": best_seconds(lambda: openvino(patch)), "torch": best_seconds(lambda: plain(patch))}
    ours, share = our_seconds(model, scan, openvino)
    with_torch, _ = our_seconds(model, scan, plain)
    half_s = None
    if cpu_computes_bfloat16():
        half = engine_for(model, "openvino", "half")
        half(patch)
        half_s, _ = our_seconds(model, scan, half)
    published, patches = published_seconds(network, scan.hu)
    # Before and after the reference, which takes minutes in which a machine may become busier or warmer.
    ours = (ours + our_seconds(model, scan, openvino)[0]) / 2
    return {
        "grid": list(GRID),
        "body_share": float(scan.body.mean()),
        "computed_share": share,
        "patch_gflop": flops / 1e9,
        "matmul_gflops": matmul,
        "openvino_gflops": flops / 1e9 / patch_s["openvino"],
        "torch_gflops": flops / 1e9 / patch_s["torch"],
        "openvino_patch_s": patch_s["openvino"],
        "torch_patch_s": patch_s["torch"],
        "ours_openvino_s": ours,
        "ours_torch_s": with_torch,
        "ours_openvino_bfloat16_s": half_s,
        "published_s": published,
        "published_patches": patches,
        "speedup_openvino": published / ours,
        "speedup_torch": published / with_torch,
    }


def count_flops(network: torch.nn.Module, shape: Triple = PATCH) -> float:
    """Floating-point operations of one patch, by PyTorch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, *shape))
    return float(counter.get_total_flops())
