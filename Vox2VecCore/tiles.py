"""Which tiles a grid is computed in, and which of their voxels count.

The receptive field of the network is larger than a tile, so the embedding of a voxel is defined by the tile it
was computed in. The contract: tile origins lie on multiples of the coarsest stride, counted from the grid's
first voxel; a tile never moves to fit (that would break the pooling grid): it is cut where the body in it ends, to
a multiple of the coarsest stride; where tiles overlap, the border between what they own runs through the middle of
the overlap, on the coarsest stride too, and features of two tiles are never mixed. Tiles that own no body voxel
are not computed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.config import ModelConfig
from Vox2VecCore.shapes import Box, Triple, box, ceil_divide, triple


@dataclass(frozen=True)
class Tile:
    """A box of the grid, computed in one go.

    :param start: first voxel; every component is a multiple of the coarsest stride.
    :param stop: one past the last voxel; may lie beyond the grid, where the image is padded with air.
    :param own_start: first voxel that the tile owns.
    :param own_stop: one past the last voxel that it owns.
    """

    start: Triple
    stop: Triple
    own_start: Triple
    own_stop: Triple

    @property
    def shape(self) -> Triple:
        """Voxels along each axis."""
        return triple(b - a for a, b in zip(self.start, self.stop, strict=True))

    def owned_cells(self, stride: Triple, level_shape: Triple) -> tuple[Box, Box]:
        """Cells of a level that the tile owns: where they lie in the level, and where in the tile's own output."""
        first = triple(a // s for a, s in zip(self.own_start, stride, strict=True))
        last = triple(map(min, ceil_divide(self.own_stop, stride), level_shape))
        offset = triple(a // s for a, s in zip(self.start, stride, strict=True))
        in_tile = (triple(a - o for a, o in zip(ends, offset, strict=True)) for ends in (first, last))
        return box(first, last), box(*in_tile)


def plan_tiles(body: NDArray[np.bool_], config: ModelConfig) -> list[Tile]:
    """Tiles that cover all body voxels of a grid.

    :param body: mask (X, Y, Z) on the grid.
    """
    coarsest = config.architecture.level_strides[-1]
    axes = [
        list(_intervals(size, tile, overlap))
        for size, tile, overlap in zip(body.shape, config.tile_shape, config.tile_overlap, strict=True)
    ]
    tiles = []
    for intervals in product(*axes):
        starts, stops, own_starts, own_stops = zip(*intervals, strict=True)
        if body[box(own_starts, own_stops)].any():
            tiles.append(_cut_to_body(intervals, body[box(starts, stops)], coarsest))
    return tiles


def _intervals(size: int, tile: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Start, stop, first owned and one past the last owned voxel of every tile along one axis."""
    step = tile - overlap
    count = max(1, -(-(size - overlap) // step))
    for n in range(count):
        start = n * step
        own_start = 0 if n == 0 else start + overlap // 2
        own_stop = size if n == count - 1 else start + step + overlap // 2
        yield start, start + tile, own_start, own_stop


def _cut_to_body(intervals: Sequence[tuple[int, int, int, int]], body: NDArray[np.bool_], coarsest: Triple) -> Tile:
    start, stop, own_start, own_stop = [], [], [], []
    for axis, ((a, _, own_a, own_b), stride) in enumerate(zip(intervals, coarsest, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(body.any(axis=others))
        first = a + int(inside[0]) // stride * stride
        last = a + -(-(int(inside[-1]) + 1) // stride) * stride
        start.append(first)
        stop.append(last)
        own_start.append(max(own_a, first))
        own_stop.append(min(own_b, last))
    return Tile(triple(start), triple(stop), triple(own_start), triple(own_stop))
