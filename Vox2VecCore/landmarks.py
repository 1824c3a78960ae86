"""How two scans lie to each other as a whole: body voxels that match there and back, spread over one of them.

A single match is ambiguous (one rib looks like the next, skin like skin), but wrong matches of different places
point in different directions. What the surroundings of a point say about its displacement therefore helps to
choose between candidates, and tells a true match from the best of a scan that shows another part of the body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.alignment import AGREE_MM, agreed_affine
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.search import best_voxels

COUNT = 150
RETURN_MM = 12.0
"""A body voxel is a landmark if its match leads back to within this distance."""
NEAR_MM = 150.0
ALIKE_MM = 40.0
"""Patients differ in size and posture: displacements that differ by less than this still support each other."""
FEW = 5


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Body voxels of two scans that correspond, as far as there and back can tell.

    :param asked: (m, 3) RAS millimetres of all voxels that were tried.
    :param here: (n, 3) of those that came back.
    :param there: (n, 3) their matches in the other scan.
    """

    asked: NDArray[np.float64]
    here: NDArray[np.float64]
    there: NDArray[np.float64]

    def support(self, point: NDArray[np.float64], displacements: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many of the voxels tried near a point are landmarks that moved about alike, 0 to 1.

        :param point: (3,) RAS millimetres.
        :param displacements: (k, 3) candidates, millimetres.
        :return: (k,).
        """
        near = np.linalg.norm(self.here - point, axis=1) < NEAR_MM
        moved = (self.there - self.here)[near]
        alike = np.linalg.norm(displacements[:, None] - moved, axis=-1) < ALIKE_MM
        tried = (np.linalg.norm(self.asked - point, axis=1) < NEAR_MM).sum()
        return alike.sum(axis=1) / max(int(tried), FEW)

    def agreement(self, affine: NDArray[np.float64]) -> float:
        """Share of the voxels tried that are landmarks and lie where an affine map (4, 3) leads, 0 to 1."""
        apart = np.linalg.norm(self.here @ affine[:3] + affine[3] - self.there, axis=1)
        return float((apart < AGREE_MM[-1]).sum()) / max(len(self.asked), FEW)

    def reversed(self, asked: NDArray[np.float64]) -> "Landmarks":
        """The same correspondences seen from the other scan."""
        return Landmarks(asked, self.there, self.here)


def agreed_map(landmarks: Landmarks, returning: Landmarks) -> NDArray[np.float64] | None:
    """Affine map (4, 3) from one scan to the other, ``there = here @ map[:3] + map[3]``; ``None`` without agreement.

    :param returning: landmarks that were looked for from the other scan.
    """
    here = np.concatenate([landmarks.here, returning.there])
    affine = agreed_affine(here, np.concatenate([landmarks.there, returning.here]))
    return None if affine is None else affine.astype(np.float64)


def inverse_map(affine: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """The map that leads back."""
    if affine is None:
        return None
    inverse = np.linalg.inv(affine[:3])
    return np.concatenate([inverse, (-affine[3] @ inverse)[None]])


def find_landmarks(source: FeaturePyramid, target: FeaturePyramid, weights: Sequence[float]) -> Landmarks:
    """Match a fixed sample of body voxels there and back. The answer is kept as long as both pyramids."""
    kept = _found.setdefault(source, WeakKeyDictionary()).setdefault(target, {})
    key = tuple(weights)
    if key not in kept:
        voxels = source.body_voxels(COUNT)
        matches, _ = best_voxels(target, source, voxels, weights)
        returned, _ = best_voxels(source, target, matches, weights)
        asked, there = source.grid.to_ras(voxels), target.grid.to_ras(matches)
        stable = np.linalg.norm(source.grid.to_ras(returned) - asked, axis=1) < RETURN_MM
        kept[key] = Landmarks(asked, asked[stable], there[stable])
    return kept[key]


_found: WeakKeyDictionary[FeaturePyramid, WeakKeyDictionary[FeaturePyramid, dict[tuple[float, ...], Landmarks]]] = (
    WeakKeyDictionary()
)
