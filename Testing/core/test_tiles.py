"""The tile contract: every body voxel is owned once, on the pooling grid, whatever the grid and the body are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from Vox2VecCore.config import Architecture, ModelConfig
from Vox2VecCore.shapes import ceil_divide
from Vox2VecCore.tiles import Tile, plan_tiles


def config(tile: tuple[int, int, int], overlap: tuple[int, int, int], scales: int = 4) -> ModelConfig:
    return ModelConfig("m", Architecture(base_channels=2, num_scales=scales), (1, 1, 2), tile, tile, overlap, "")


TILINGS = [config((32, 32, 16), (0, 0, 0)), config((32, 32, 16), (16, 16, 0)), config((48, 32, 32), (16, 0, 16))]


def owners(tiles: list[Tile], shape: tuple[int, int, int], stride: tuple[int, int, int]) -> NDArray[np.int64]:
    """How many tiles own each cell of a level."""
    cells = ceil_divide(shape, stride)
    count = np.zeros(cells, int)
    for tile in tiles:
        to_level, from_tile = tile.owned_cells(stride, cells)
        assert [s.stop - s.start for s in to_level] == [s.stop - s.start for s in from_tile]
        tile_cells = [n // s for n, s in zip(tile.shape, stride, strict=True)]
        assert all(0 <= s.start <= s.stop <= n for s, n in zip(from_tile, tile_cells, strict=True))
        count[to_level] += 1
    return count


@given(
    shape=st.tuples(*[st.integers(1, 90)] * 3),
    tiling=st.sampled_from(TILINGS),
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.0005, 0.01, 1.0]),
)
def test_every_body_voxel_is_owned_once(
    shape: tuple[int, int, int], tiling: ModelConfig, seed: int, share: float
) -> None:
    body = np.random.default_rng(seed).random(shape) < share
    tiles = plan_tiles(body, tiling)
    for stride in tiling.architecture.level_strides:
        count = owners(tiles, shape, stride)
        assert count.max(initial=0) <= 1
        voxels = np.argwhere(body)
        assert (count[tuple((voxels // np.array(stride)).T)] == 1).all()
    for tile in tiles:
        coarsest = tiling.architecture.level_strides[-1]
        assert all(a % s == 0 and b % s == 0 for a, b, s in zip(tile.start, tile.stop, coarsest, strict=True))
        assert all(n <= t for n, t in zip(tile.shape, tiling.tile_shape, strict=True))


def test_overlapping_tiles_own_their_middles() -> None:
    tiles = plan_tiles(np.ones((64, 16, 16), bool), config((32, 32, 16), (16, 0, 0)))
    assert [(t.start[0], t.stop[0], t.own_start[0], t.own_stop[0]) for t in tiles] == [
        (0, 32, 0, 24),
        (16, 48, 24, 40),
        (32, 64, 40, 64),
    ]


def test_tiles_are_cut_to_the_body_and_air_is_skipped() -> None:
    body = np.zeros((96, 64, 16), bool)
    body[40:50, 3:5, 2] = True
    (tile,) = plan_tiles(body, config((32, 32, 16), (0, 0, 0)))
    assert (tile.start, tile.stop) == ((40, 0, 0), (56, 8, 8))
    assert plan_tiles(np.zeros((96, 64, 16), bool), TILINGS[0]) == []


def test_shifting_the_body_by_a_tile_shifts_the_tiles() -> None:
    body = np.random.default_rng(0).random((64, 64, 32)) < 0.01
    shifted = np.zeros((96, 64, 32), bool)
    shifted[32:] = body
    tiling = TILINGS[0]
    here, there = plan_tiles(body, tiling), plan_tiles(shifted, tiling)
    assert [(t.start[0] + 32, t.shape) for t in here] == [(t.start[0], t.shape) for t in there]


@pytest.mark.parametrize("size", [1, 31, 32, 33, 95, 96, 97])
def test_volumes_smaller_and_larger_than_a_tile(size: int) -> None:
    tiles = plan_tiles(np.ones((size, 1, 1), bool), TILINGS[1])
    assert owners(tiles, (size, 1, 1), (1, 1, 1)).tolist() == np.ones((size, 1, 1), int).tolist()
