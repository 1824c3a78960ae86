"""Points of different patients that show the same anatomy, found by the embedding itself while it is trained.

Views of one scan teach an embedding to find a place again in the same patient; nothing in them says that
another patient's liver is the same place as this one's. Two patients' whole scans are therefore matched by the
network as it is so far: points that are each other's most similar and agree on one affine map are kept, and the
map guides a denser, local search. What survives is used as pairs of the same place in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from Vox2VecCore.alignment import agreed_affine
from Vox2VecCore.config import ModelConfig
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.paths import replace_file
from Vox2VecCore.pretraining.features import embedded, pyramid_by
from Vox2VecCore.pretraining.prepare import PreparedScan
from Vox2VecCore.progress import Progress

STAGE = "Matching patients"
STEP = 2
"""Every second voxel along every axis is a candidate."""

FIRST_QUERIES = 300
FIRST_CYCLE_MM = 15.0

QUERIES = 400
REACH_MM = 45.0
CYCLE_MM = 10.0
FEWEST_MATCHES = 80

SEARCH_ROWS = 256


@dataclass(frozen=True, eq=False)
class Matches:
    """The same places in two scans.

    :param scans: ids of the two.
    :param voxels: (2, n, 3) float32 voxels of the two on their grids.
    """

    scans: tuple[str, str]
    voxels: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidate points of a scan: place in millimetres (n, 3) and vectors (n, C), unit scaled."""

    position_mm: Tensor
    vectors: Tensor


def mine_matches(
    network: EmbeddingNetwork,
    config: ModelConfig,
    scans: Sequence[PreparedScan],
    rng: np.random.Generator,
    most_pairs: int = 200,
    progress: Progress | None = None,
) -> list[Matches]:
    """Matches between scans of different subjects, for up to ``most_pairs`` pairs drawn at random.

    Pairs that show different parts of the body yield nothing.
    """
    progress = progress or Progress()
    pairs = [(a, b) for a, b in combinations(range(len(scans)), 2) if scans[a].subject != scans[b].subject]
    if len(pairs) > most_pairs:
        pairs = [pairs[n] for n in sorted(rng.choice(len(pairs), most_pairs, replace=False))]
    needed = sorted({n for pair in pairs for n in pair})
    total = len(needed) + len(pairs)
    candidates = {}
    for done, n in enumerate(needed):
        progress.step(STAGE, done, total)
        candidates[n] = _candidates(network, config, scans[n])
    spacing = np.array(config.spacing_mm, np.float32)
    found = []
    for done, (a, b) in enumerate(pairs):
        progress.step(STAGE, len(needed) + done, total)
        voxels = match_candidates(candidates[a], candidates[b], rng)
        if voxels is not None:
            found.append(Matches((scans[a].id, scans[b].id), (voxels / spacing).astype(np.float32)))
    return found


def match_candidates(a: Candidates, b: Candidates, rng: np.random.Generator) -> NDArray[np.float32] | None:
    """The same places (2, n, 3), in millimetres, of two scans; ``None`` when they do not show the same."""
    queries = _drawn(np.arange(len(a.position_mm)), FIRST_QUERIES, rng)
    there = _best(a.vectors[queries], b.vectors)
    back = _best(b.vectors[there], a.vectors)
    closed = torch.linalg.norm(a.position_mm[back] - a.position_mm[queries], dim=1) < FIRST_CYCLE_MM
    affine = agreed_affine(a.position_mm[queries][closed].numpy(), b.position_mm[there][closed].numpy())
    if affine is None:
        return None
    guess = a.position_mm @ torch.from_numpy(affine[:3]) + torch.from_numpy(affine[3])
    low, high = b.position_mm.amin(0) - FIRST_CYCLE_MM, b.position_mm.amax(0) + FIRST_CYCLE_MM
    shared = torch.nonzero(((guess > low) & (guess < high)).all(1))[:, 0].numpy()
    if len(shared) < FEWEST_MATCHES:
        return None
    queries = _drawn(shared, QUERIES, rng)
    there = _best(a.vectors[queries], b.vectors, guess[queries], b.position_mm)
    back = _best(b.vectors[there], a.vectors, b.position_mm[there], guess)
    closed = torch.linalg.norm(a.position_mm[back] - a.position_mm[queries], dim=1) < CYCLE_MM
    if int(closed.sum()) < FEWEST_MATCHES:
        return None
    return torch.stack([a.position_mm[queries][closed], b.position_mm[there][closed]]).numpy()


def save_matches(matches: Sequence[Matches], path: Path) -> None:
    """Write matches to one file, at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{n}": m.voxels for n, m in enumerate(matches)}
    ids = np.array([m.scans for m in matches], dtype=np.str_).reshape(-1, 2)
    with replace_file(path) as temporary:
        np.savez(temporary, ids=ids, **arrays)  # type: ignore[arg-type]


def load_matches(path: Path) -> list[Matches]:
    """Read what :func:`save_matches` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return [Matches((str(a), str(b)), arrays[f"{n}"]) for n, (a, b) in enumerate(arrays["ids"])]


def _candidates(network: EmbeddingNetwork, config: ModelConfig, scan: PreparedScan) -> Candidates:
    features = embedded(pyramid_by(network, config, scan.gridded(config.spacing_mm)))
    voxels = features.voxels[(features.voxels % STEP == 0).all(axis=1)]
    return Candidates(
        torch.from_numpy((voxels * config.spacing_mm).astype(np.float32)), torch.from_numpy(features.at(voxels)).half()
    )


def _best(queries: Tensor, candidates: Tensor, near: Tensor | None = None, position: Tensor | None = None) -> Tensor:
    """Index of the most similar candidate of every query, within reach of a given place if there is one."""
    candidates = candidates.float()
    found = []
    for start in range(0, len(queries), SEARCH_ROWS):
        similarity = queries[start : start + SEARCH_ROWS].float() @ candidates.T
        if near is not None and position is not None:
            similarity.masked_fill_(torch.cdist(near[start : start + SEARCH_ROWS], position) > REACH_MM, -torch.inf)
        found.append(similarity.argmax(1))
    return torch.cat(found)


def _drawn(index: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.choice(index, min(count, len(index)), replace=False))
