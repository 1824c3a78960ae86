"""How much tiles should overlap: arithmetic against what changes in the embedding and in matching.

Measured with the shipped model, because a tile's border only means something to trained weights. Tiles have the
trained patch size (so that proportions carry over to the official network and its 128 x 128 x 32), or are larger.
Run as ``python -m Testing.benchmarks.tile_overlap CT``; prints a Markdown table.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from Vox2VecCore.embedding import embed
from Vox2VecCore.grid import grid_scan
from Vox2VecCore.matching import match_points
from Vox2VecCore.model import Model, load_model
from Vox2VecCore.pretraining.evaluation import disturbed_copy
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.shapes import Triple
from Vox2VecCore.tiles import plan_tiles
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
POINTS = 400
COMPARED_VOXELS = 20_000


def tiled(model: Model, tile: Triple, overlap: Triple) -> Model:
    """The same weights under another tile contract."""
    return Model(replace(model.config, tile_shape=tile, tile_overlap=overlap), model.directory)


def agreement(a: FeaturePyramid, b: FeaturePyramid) -> float:
    """Mean cosine over levels and body voxels of one scan embedded under two tile contracts."""
    voxels = a.body_voxels(COMPARED_VOXELS)
    pairs = zip(a.levels, b.levels, strict=True)
    return float(np.mean([(x.unit_vectors(voxels) * y.unit_vectors(voxels)).sum(1).mean() for x, y in pairs]))


def main(ct: Path) -> None:
    """Measure and print."""
    model, volume = load_model(), read_volume(ct)
    copy = disturbed_copy(volume)
    scan = grid_scan(volume, model.config.spacing_mm)
    reference = embed(volume, tiled(model, *REFERENCE), cache=False)
    print("| tiles | computed voxels / grid | cosine to large overlap | median error (mm) | within 10 mm | reliable |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, setting in SETTINGS.items():
        variant = tiled(model, *setting)
        work = sum(int(np.prod(tile.shape)) for tile in plan_tiles(scan.body, variant.config)) / scan.body.size
        here, there = embed(volume, variant, cache=False), embed(copy, variant, cache=False)
        points = here.grid.to_ras(here.body_voxels(POINTS))
        ijk = copy.to_ijk(points)
        points = points[((ijk >= 0) & (ijk <= np.array(copy.shape) - 1)).all(axis=1)]
        matches = match_points(here, there, points)
        error = np.linalg.norm(np.array([m.target_ras for m in matches]) - points, axis=1)
        reliable = np.mean([m.reliable for m in matches])
        print(
            f"| {name} | {work:.2f} | {agreement(here, reference):.3f} | {np.median(error):.1f} | "
            f"{(error < 10).mean():.2f} | {reliable:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
