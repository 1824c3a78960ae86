"""The most similar voxel of a scan for many vectors at once, coarse to fine.

The similarity of all cells is computed on the coarse levels, down to the finest one that is still small (a matrix
product); its best cells, one for every block of neighbours, are followed into the finer levels. The result is that
of a search through every voxel unless the fine levels alone favour a place that the coarse ones do not.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.separable import in_threads, level_tensors

DENSE_CELLS = 60_000
BEAM = (8, 6, 4)
"""Places followed into the first, second and every further level below the dense ones."""
GROUPS_AT_ONCE = 16
FORBIDDEN = -10.0


def best_voxels(
    target: FeaturePyramid,
    source: FeaturePyramid,
    voxels: NDArray[np.int64],
    weights: Sequence[float],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Body voxel of a scan with the largest weighted mean cosine to each of Q voxels of another one.

    :param voxels: (Q, 3) on the grid of ``source``.
    :param weights: of the levels, finest first, summing to 1.
    :return: voxels (Q, 3) on the grid of ``target`` and their similarities (Q,).
    """
    if target not in _searches:
        _searches[target] = _Search(target)
    search = _searches[target]
    # Neighbouring voxels share their cells of the coarse levels, which are then searched once for all of them.
    coarse = voxels // search.strides[search.dense].numpy()
    group = np.unique(coarse, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order] // GROUPS_AT_ONCE)) + 1)
    scales = [w * level.unit_scale for w, level in zip(weights, target.levels, strict=True)]

    def find(part: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        vectors = [
            torch.from_numpy(level.unit_vectors(voxels[part])) * scale
            for level, scale in zip(source.levels, scales, strict=True)
        ]
        own = group[part]
        return search(vectors, torch.from_numpy(own))

    found = np.zeros_like(voxels)
    similarities = np.zeros(len(voxels), np.float32)
    for part, (cells, values) in zip(parts, in_threads(find, parts), strict=True):
        found[part], similarities[part] = cells.numpy(), values.numpy()
    return found, similarities


class _Search:
    """What searches in a scan have in common, kept as long as its pyramid."""

    def __init__(self, pyramid: FeaturePyramid) -> None:
        self.stored = level_tensors(pyramid)
        self.strides = torch.tensor([level.stride for level in pyramid.levels])
        cells = [int(np.prod(stored.shape[:3])) for stored in self.stored]
        self.dense = next((i for i, n in enumerate(cells) if n <= DENSE_CELLS), len(cells) - 1)
        self.body = self._body_cells(pyramid)
        self.parents = [self._parents(i) for i in range(self.dense, len(cells) - 1)]
        self.vectors = [stored.reshape(-1, stored.shape[3]).float() for stored in self.stored[self.dense :]]

    def _body_cells(self, pyramid: FeaturePyramid) -> list[Tensor]:
        """Cells (X_l, Y_l, Z_l) that hold a body voxel, of every level down from the dense one, finest first."""
        levels = [torch.from_numpy(pyramid.body)]
        for level in range(self.dense):
            body = levels[-1]
            for axis, ratio in enumerate((self.strides[level + 1] // self.strides[level]).tolist()):
                finer = body.movedim(axis, 0)
                cells = finer[::ratio].clone()
                for k in range(1, min(ratio, len(finer))):
                    others = finer[k::ratio]
                    cells[: len(others)] |= others
                body = cells.movedim(0, axis)
            levels.append(body)
        return levels

    def _parents(self, level: int) -> Tensor:
        """Flat index of the next coarser cell of every cell of a level."""
        steps = [
            torch.arange(n) * int(s) // int(t)
            for n, s, t in zip(self.stored[level].shape[:3], self.strides[level], self.strides[level + 1], strict=True)
        ]
        _, y, z = self.stored[level + 1].shape[:3]
        return ((steps[0][:, None, None] * y + steps[1][:, None]) * z + steps[2]).reshape(-1)

    def __call__(self, queries: list[Tensor], group: Tensor) -> tuple[Tensor, Tensor]:
        """Best voxels (Q, 3) and their similarities (Q,).

        :param queries: (Q, C_l) weighted vectors a level, finest first.
        :param group: (Q,) ascending; queries of a group have the same vectors on the dense levels.
        """
        _, sizes = group.unique_consecutive(return_counts=True)
        first = sizes.cumsum(0) - sizes
        group = torch.repeat_interleave(sizes)
        dense = self._dense_scores([q[first] for q in queries])
        allowed = torch.where(self.body[self.dense].reshape(-1, 1), dense, FORBIDDEN)
        shape = self.stored[self.dense].shape[:3]
        if self.dense == 0:
            best, flat = allowed.max(0)
            return _unravel(flat, shape)[group], best[group]
        cells = _block_maxima(allowed, shape, BEAM[0])[group]
        dense = dense.T.contiguous()
        start = (group * dense.shape[1])[:, None, None]
        for step, level in enumerate(range(self.dense - 1, -1, -1), start=1):
            cells = self._children(cells, level)
            values = self._scores(cells, queries, dense.view(-1), start, level)
            # On every level: a cell followed for its looks alone may have no body voxel in it or next to it.
            values = torch.where(self.body[level][tuple(cells.unbind(-1))], values, values + FORBIDDEN)
            best, which = values.max(2)
            cells = cells.gather(2, which[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
            keep = 1 if level == 0 else BEAM[min(step, len(BEAM) - 1)]
            best, which = best.topk(min(keep, best.shape[1]), dim=1)
            cells = cells.gather(1, which[..., None].expand(-1, -1, 3))
        return cells[:, 0], best[:, 0]

    def _dense_scores(self, queries: list[Tensor]) -> Tensor:
        """Similarity (cells, Q) on the dense level, as far as it and the coarser ones decide it."""
        scores = self.vectors[-1] @ queries[-1].T
        for level in range(len(self.stored) - 2, self.dense - 1, -1):
            i = level - self.dense
            scores = torch.addmm(scores[self.parents[i]], self.vectors[i], queries[level].T)
        return scores

    def _children(self, cells: Tensor, level: int) -> Tensor:
        """Cells (Q, K, P, 3) of a level in the coarser cells (Q, K, 3) and next to them."""
        ratio = (self.strides[level + 1] // self.strides[level]).tolist()
        offsets = torch.stack(torch.meshgrid(*[torch.arange(-1, r + 1) for r in ratio], indexing="ij"), -1).view(-1, 3)
        children = cells[:, :, None] * torch.tensor(ratio) + offsets
        return children.clamp_min(0).minimum(torch.tensor(self.stored[level].shape[:3]) - 1)

    def _scores(self, cells: Tensor, queries: list[Tensor], dense: Tensor, start: Tensor, level: int) -> Tensor:
        """Similarity (Q, K, P) of cells (Q, K, P, 3) of a level, as far as it and the coarser ones decide it.

        :param dense: similarities on the dense level, flat.
        :param start: (Q, 1, 1) where those of every query start.
        """
        values = dense[start + self._flat(cells, level, self.dense)]
        for i in range(level, self.dense):
            rows = self._flat(cells, level, i).view(-1)
            vectors = self.stored[i].view(-1, self.stored[i].shape[3]).index_select(0, rows)
            vectors = vectors.float().view(len(cells), -1, vectors.shape[1])
            values += torch.bmm(vectors, queries[i][:, :, None]).view(values.shape)
        return values

    def _flat(self, cells: Tensor, level: int, other: int) -> Tensor:
        """Flat indices of the cells of another, coarser level around cells of a level."""
        return _ravel(cells * self.strides[level] // self.strides[other], self.stored[other].shape)


def _block_maxima(scores: Tensor, shape: Sequence[int], count: int) -> Tensor:
    """The best cells (Q, count, 3), at most one of every 2 x 2 x 2 block."""
    blocks = scores.view(*shape, -1)
    for axis in range(3):
        even = blocks.index_select(axis, torch.arange(0, blocks.shape[axis], 2))
        odd = blocks.index_select(axis, torch.arange(1, blocks.shape[axis], 2))
        even.narrow(axis, 0, odd.shape[axis]).copy_(torch.maximum(even.narrow(axis, 0, odd.shape[axis]), odd))
        blocks = even
    flat = blocks.view(-1, blocks.shape[3]).T.contiguous()
    block = _unravel(flat.topk(min(count, flat.shape[1]), dim=1).indices, blocks.shape)
    corners = torch.tensor(list(np.ndindex(2, 2, 2)))
    cells = (block[:, :, None] * 2 + corners).minimum(torch.tensor(shape) - 1)
    best = scores.T.gather(1, _ravel(cells, shape).flatten(1)).view(cells.shape[:3]).argmax(2)
    return cells.gather(2, best[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]


_searches: WeakKeyDictionary[FeaturePyramid, _Search] = WeakKeyDictionary()


def _unravel(flat: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.stack([flat // (shape[1] * shape[2]), flat // shape[2] % shape[1], flat % shape[2]], -1)


def _ravel(cells: Tensor, shape: Sequence[int]) -> Tensor:
    return (cells[..., 0] * shape[1] + cells[..., 1]) * shape[2] + cells[..., 2]
