"""How much tiles should overlap: arithmetic against what changes in the embedding and in matching.

Measured with the shipped model, because a tile's border only means something to trained weights. Tiles have the
trained patch size, 88 x 80 x 72, rounded down to the coarsest stride (so that proportions carry over to the official
network and its 128 x 128 x 32), or are larger.
Run as ``python -m Testing.benchmarks.tile_overlap CT``; prints a Markdown table.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from Vox2VecCore.embedding import embed
from Vox2VecCore.grid import grid_scan
from Vox2VecCore.matching import match_points
from Vox2VecCore.model import Model, load_model
from Vox2VecCore.pretraining.evaluation import disturbed_copy
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.shapes import Triple, box
from Vox2VecCore.tiles import Tile, plan_tiles
from Vox2VecCore.volume_io import read_volume

REFERENCE: tuple[Triple, Triple] = ((80, 80, 64), (64, 64, 32))
SETTINGS: dict[str, tuple[Triple, Triple]] = {
    "patch size, no overlap": ((80, 80, 64), (0, 0, 0)),
    "patch size, overlap in x and y": ((80, 80, 64), (32, 32, 0)),
    "patch size, overlap everywhere": ((80, 80, 64), (32, 32, 32)),
    "patch size, large overlap": REFERENCE,
    "twice the patch size, no overlap": ((160, 160, 128), (0, 0, 0)),
    "twice the patch size, overlap": ((160, 128, 128), (64, 64, 64)),
}
BENCHED = ("patch size, no overlap", "patch size, overlap in x and y", "twice the patch size, no overlap")
POINTS = 400
COMPARED_VOXELS = 20_000
BORDER_VOXELS = 6


def tiled(model: Model, tile: Triple, overlap: Triple) -> Model:
    """The same weights under another tile contract."""
    return Model(replace(model.config, tile_shape=tile, tile_overlap=overlap), model.directory)


def near_borders(tiles: Sequence[Tile], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Body voxels close to where one tile's ownership ends and another's begins."""
    owner = np.full(body.shape, -1)
    for number, tile in enumerate(tiles):
        owner[box(tile.own_start, tile.own_stop)] = number
    near = np.zeros(body.shape, bool)
    for axis in range(3):
        a, b = np.moveaxis(owner, axis, 0)[:-1], np.moveaxis(owner, axis, 0)[1:]
        seam = np.zeros(np.moveaxis(owner, axis, 0).shape, bool)
        seam[1:] = (a != b) & (a >= 0) & (b >= 0)
        seam = maximum_filter1d(seam, 2 * BORDER_VOXELS + 1, axis=0)
        near |= np.moveaxis(seam, 0, axis)
    return near & body


def agreement(a: FeaturePyramid, b: FeaturePyramid, among: NDArray[np.bool_]) -> float:
    """Mean cosine over levels and some voxels of one scan embedded under two tile contracts."""
    voxels = np.argwhere(among)
    if not len(voxels):
        return float("nan")
    if len(voxels) > COMPARED_VOXELS:
        voxels = np.random.default_rng(0).choice(voxels, COMPARED_VOXELS, replace=False)
    pairs = zip(a.levels, b.levels, strict=True)
    return float(np.mean([(x.unit_vectors(voxels) * y.unit_vectors(voxels)).sum(1).mean() for x, y in pairs]))


def measure(ct: Path, names: Sequence[str] = tuple(SETTINGS)) -> dict[str, dict[str, Any]]:
    """For some settings: arithmetic, agreement with largely overlapping tiles, and matching in a disturbed copy."""
    model, volume = load_model(), read_volume(ct)
    copy = disturbed_copy(volume)
    scan = grid_scan(volume, model.config.spacing_mm)
    reference = embed(volume, tiled(model, *REFERENCE), cache=False)
    found = {}
    for name in names:
        variant = tiled(model, *SETTINGS[name])
        tiles = plan_tiles(scan.body, variant.config)
        borders = near_borders(tiles, scan.body)
        here, there = embed(volume, variant, cache=False), embed(copy, variant, cache=False)
        points = here.grid.to_ras(here.body_voxels(POINTS))
        ijk = copy.to_ijk(points)
        points = points[((ijk >= 0) & (ijk <= np.array(copy.shape) - 1)).all(axis=1)]
        matches = match_points(here, there, points)
        error = np.linalg.norm(np.array([m.target_ras for m in matches]) - points, axis=1)
        found[name] = {
            "computed_share": sum(int(np.prod(tile.shape)) for tile in tiles) / scan.body.size,
            "cosine": agreement(here, reference, scan.body),
            "cosine_near_borders": agreement(here, reference, borders) if borders.any() else None,
            "median_error_mm": float(np.median(error)),
            "within_10_mm": float((error < 10).mean()),
            "reliable": float(np.mean([m.reliable for m in matches])),
        }
    return found


def or_dash(share: float | None) -> str:
    """A scan that is one tile has no borders inside."""
    return "-" if share is None else f"{share:.3f}"


def main(ct: Path) -> None:
    """Measure and print."""
    print(
        "| tiles | computed voxels / grid | cosine to large overlap | the same near borders of tiles | "
        "median error (mm) | within 10 mm | reliable |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, row in measure(ct).items():
        print(
            f"| {name} | {row['computed_share']:.2f} | {row['cosine']:.3f} | {or_dash(row['cosine_near_borders'])} | "
            f"{row['median_error_mm']:.1f} | {row['within_10_mm']:.2f} | {row['reliable']:.2f} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
