"""How good an embedding is without any training: matching, and segmentation from few voxels.

Three questions on labelled scans, asked of a network while it is trained (``probe.py``), and of a model and its
references by ``vox2vec evaluate`` (:mod:`Vox2VecCore.evaluation.matching`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from Vox2VecCore.embedding import embed
from Vox2VecCore.fewshot.classes import BACKGROUND, UNLABELLED
from Vox2VecCore.fewshot.predicting import Predictor
from Vox2VecCore.fewshot.training import train_head
from Vox2VecCore.grid import ModelGrid, grid_scan
from Vox2VecCore.matching import match_points
from Vox2VecCore.model import Model, save_model
from Vox2VecCore.network import EmbeddingNetwork
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.features import VoxelFeatures, embedded, hand_made
from Vox2VecCore.progress import Progress
from Vox2VecCore.resampling import resample_linear
from Vox2VecCore.volume import AIR_HU, Volume

NEAR_MM = 10.0
SHIFT_MM = (7.3, -5.1, 11.7)
COPY_SPACING = 1.15
COPY_NOISE_HU = 20.0
SAME_POINTS = 500
ORGAN_POINTS = 30
MATCHED_SAME_POINTS = 100
MATCHED_ORGAN_POINTS = 10
"""``match_points`` looks up 27 seeds a point there and back, so that it is given the first of the same points only."""
FEW_SHOT_VOXELS = 100
BACKGROUND_VOXELS = 2000
SMALLEST_ORGAN_VOXELS = 20
DICE_VOXELS = 150_000
VOTE_TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2)

Extract = Callable[[Volume, Progress], VoxelFeatures]
Find = Callable[[VoxelFeatures, NDArray[np.int64], VoxelFeatures], NDArray[np.float64]]
"""Where voxels (n, 3) of the first features are in the second: (n, 3) RAS millimetres."""
Classify = Callable[[VoxelFeatures, NDArray[np.int64]], NDArray[np.int64]]
"""Classes (n,) of voxels (n, 3); 0 is the rest."""
Learn = Callable[[VoxelFeatures, NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]], Classify]
"""From features, known voxels (n, 3), the class (n,) of each, and the share of every class in the body."""


@dataclass(frozen=True)
class Scores:
    """Results of one kind of features.

    :param same_median_mm: same patient: median error of 500 matches in a shifted, resampled, noisier copy.
    :param same_within_10mm: share of them within 10 mm.
    :param hit_rate: across patients: share of points whose match lies in the same organ, mean over organs.
    :param dice_source: few-shot segmentation: mean Dice on the scan the voxels are from.
    :param dice_target: and on the other patient.
    """

    same_median_mm: float
    same_within_10mm: float
    hit_rate: float
    dice_source: float
    dice_target: float


def feature_kinds(model: Model, folder: Path, device: str = "auto", engine: str = "auto") -> dict[str, Extract]:
    """Ways from a scan to features: the model, and the two references that need a scan.

    :param folder: where the untrained network is kept meanwhile.
    """
    torch.manual_seed(0)
    network = EmbeddingNetwork(model.config.architecture)
    untrained = save_model(network, replace(model.config, name="random", level_statistics=None), folder / "random")

    def by(one: Model) -> Extract:
        return lambda volume, progress: embedded(
            embed(volume, one, cache=False, device=device, engine=engine, progress=progress)  # type: ignore[arg-type]
        )

    return {
        "model": by(model),
        "random weights": by(untrained),
        "hand-made": lambda volume, _: hand_made(grid_scan(volume, model.config.spacing_mm)),
    }


def score(
    here: VoxelFeatures,
    copy: VoxelFeatures,
    other: VoxelFeatures,
    source_labels: Volume,
    target_labels: Volume,
) -> Scores:
    """Scores of features of the source, of its disturbed copy, and of another patient."""
    rng = np.random.default_rng(0)
    error = same_patient_errors(here, copy, rng)
    own, others = labels_of(here, source_labels), labels_of(other, target_labels)
    organs = shared_organs(own, others)
    dice = few_shot_dice(here, own, [(here, own), (other, others)], organs, rng)
    hits = hit_rates(here, own, other, others, organs, rng)
    return Scores(float(np.median(error)), float((error < NEAR_MM).mean()), mean(hits), mean(dice[0]), mean(dice[1]))


def score_alone(here: VoxelFeatures, copy: VoxelFeatures, labels: Volume) -> Scores:
    """Scores of features of one scan and of its disturbed copy; NaN for what needs another patient.

    :raises PretrainingError: if the labels mark no organ of at least 20 voxels.
    """
    rng = np.random.default_rng(0)
    error = same_patient_errors(here, copy, rng)
    own = labels_of(here, labels)
    dice = few_shot_dice(here, own, [(here, own)], shared_organs(own, own), rng)
    return Scores(float(np.median(error)), float((error < NEAR_MM).mean()), np.nan, mean(dice[0]), np.nan)


def mean(of_organs: Mapping[int, float]) -> float:
    """Mean over organs."""
    return float(np.mean(list(of_organs.values())))


def disturbed_copy(volume: Volume, seed: int = 0) -> Volume:
    """The same anatomy as another scanner might have stored it: other voxel size, shifted grid, more noise."""
    rng = np.random.default_rng(seed)
    affine = volume.affine.copy()
    affine[:3, :3] *= COPY_SPACING
    shift = np.array(SHIFT_MM) / volume.spacing_mm
    affine[:3, 3] = volume.to_ras(shift)[0]
    left = np.array(volume.shape) - 1 - np.abs(shift)
    shape = tuple(np.maximum(1, left / COPY_SPACING).astype(int))
    hu = np.empty(shape, np.float32)
    resample_linear(np.asarray(volume.array), volume.ras_to_ijk @ affine, hu, fill=AIR_HU)
    hu += rng.normal(0, COPY_NOISE_HU, shape).astype(np.float32)
    return Volume(np.maximum(hu, AIR_HU), affine, f"copy of {volume.name}")


def labels_of(features: VoxelFeatures, labels: Volume) -> NDArray[np.int64]:
    """Label of every body voxel of the features; 0 outside the label map."""
    return _labels_at(features.grid, features.voxels, labels)


def shared_organs(first: NDArray[np.int64], second: NDArray[np.int64]) -> list[int]:
    """Labels with at least 20 voxels in both.

    :raises PretrainingError: if there is none.
    """
    (a, n), (b, m) = (np.unique(labels, return_counts=True) for labels in (first, second))
    enough = set(a[n >= SMALLEST_ORGAN_VOXELS]) & set(b[m >= SMALLEST_ORGAN_VOXELS]) - {0}
    if not enough:
        raise PretrainingError("The two label maps share no organ; give scans that show the same structures.")
    return sorted(int(label) for label in enough)


def _labels_at(grid: ModelGrid, voxels: NDArray[np.int64], labels: Volume) -> NDArray[np.int64]:
    index = np.round(labels.to_ijk(grid.to_ras(voxels))).astype(np.int64)
    inside = ((index >= 0) & (index < np.array(labels.shape))).all(axis=1)
    values = np.zeros(len(voxels), np.int64)
    values[inside] = np.asarray(labels.array)[tuple(index[inside].T)]
    return values


def most_similar_places(here: VoxelFeatures, voxels: NDArray[np.int64], there: VoxelFeatures) -> NDArray[np.float64]:
    """The most similar voxel of all."""
    return there.grid.to_ras(there.most_similar(here.at(voxels)))


def matched_places(here: VoxelFeatures, voxels: NDArray[np.int64], there: VoxelFeatures) -> NDArray[np.float64]:
    """What ``match_points`` answers, reliable or not."""
    matches = match_points(here.pyramid, there.pyramid, here.grid.to_ras(voxels))
    return np.array([match.target_ras for match in matches])


def same_patient_errors(
    here: VoxelFeatures, copy: VoxelFeatures, rng: np.random.Generator, find: Find = most_similar_places
) -> NDArray[np.float64]:
    """Distances in millimetres between random body points and where they are found in the copy."""
    points = here.grid.to_ras(here.voxels)
    nearest = copy.grid.to_voxels(points)
    # The copy shows a little less: a point that it does not show cannot be found in it.
    shown = ((nearest >= 0) & (nearest <= np.array(copy.grid.shape) - 1)).all(axis=1)
    chosen = rng.choice(np.flatnonzero(shown), min(SAME_POINTS, int(shown.sum())), replace=False)
    if find is matched_places:
        chosen = chosen[:MATCHED_SAME_POINTS]
    return np.linalg.norm(find(here, here.voxels[chosen], copy) - points[chosen], axis=1)


def hit_rates(
    here: VoxelFeatures,
    own: NDArray[np.int64],
    other: VoxelFeatures,
    others: NDArray[np.int64],
    organs: Sequence[int],
    rng: np.random.Generator,
    find: Find = most_similar_places,
) -> dict[int, float]:
    """Share of every organ's points that are found in the same organ of the other patient.

    :param own: label of every body voxel, ``others`` the same of the other patient, see :func:`labels_of`.
    """
    chosen = [_some(own == organ, ORGAN_POINTS, rng) for organ in organs]
    if find is matched_places:
        chosen = [points[:MATCHED_ORGAN_POINTS] for points in chosen]
    places = find(here, here.voxels[np.concatenate(chosen)], other)
    found = np.clip(np.rint(other.grid.to_voxels(places)).astype(np.int64), 0, np.array(other.grid.shape) - 1)
    everywhere = np.zeros(other.grid.shape, np.int64)  # beside the body: no organ
    everywhere[tuple(other.voxels.T)] = others
    label = everywhere[tuple(found.T)]
    wanted = np.repeat(organs, [len(c) for c in chosen])
    return {organ: float((label[wanted == organ] == organ).mean()) for organ in organs}


def few_shot_dice(
    here: VoxelFeatures,
    own: NDArray[np.int64],
    scans: Sequence[tuple[VoxelFeatures, NDArray[np.int64]]],
    organs: Sequence[int],
    rng: np.random.Generator,
    learn: Learn | None = None,
) -> list[dict[int, float]]:
    """Dice of every organ on every scan, learnt from 100 voxels an organ and 2000 of the rest.

    It is measured on a random part of the body.

    :param learn: :func:`votes` when left out.
    """
    classes = [0, *organs]
    known = np.where(np.isin(own, organs), own, 0)
    chosen = [_some(known == c, BACKGROUND_VOXELS if c == 0 else FEW_SHOT_VOXELS, rng) for c in classes]
    index = np.repeat(np.arange(len(classes)), [len(c) for c in chosen])
    prior = np.array([(known == c).mean() for c in classes], np.float32)
    classify = (learn or votes)(here, here.voxels[np.concatenate(chosen)], index, prior)
    results = []
    for features, labels in scans:
        part = _some(np.ones(len(labels), bool), DICE_VOXELS, rng)
        predicted = np.array(classes)[classify(features, features.voxels[part])]
        results.append({c: _dice(predicted == c, labels[part] == c) for c in organs})
    return results


def votes(
    here: VoxelFeatures, voxels: NDArray[np.int64], index: NDArray[np.int64], prior: NDArray[np.float32]
) -> Classify:
    """By votes of the known voxels, weighted by similarity; the organs' sizes are the prior.

    How sharply votes fall with similarity is chosen by leaving each of these voxels out, so that features of any
    spread are treated alike.
    """
    vectors = here.at(voxels)
    cast = (np.eye(len(prior))[index] / np.bincount(index)[index, None]).astype(np.float32)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)

    def left_out(temperature: float) -> float:
        predicted = _voted(similarity, temperature, cast).argmax(axis=1)
        return float(np.mean([(predicted[index == n] == n).mean() for n in range(len(prior))]))

    best = max(VOTE_TEMPERATURES, key=left_out)

    def classify(features: VoxelFeatures, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        blocks = np.array_split(wanted, max(1, len(wanted) // 5000))
        winners = [(_voted(features.at(v) @ vectors.T, best, cast) * prior).argmax(axis=1) for v in blocks]
        return np.concatenate(winners)

    return classify


def head_of_strokes(
    here: VoxelFeatures, voxels: NDArray[np.int64], index: NDArray[np.int64], prior: NDArray[np.float32]
) -> Classify:
    """By the head that :func:`train_head` learns when every known voxel is a stroke; no CT, no post-processing."""
    painted = np.zeros(here.grid.shape, np.int16)
    painted[tuple(voxels.T)] = index + BACKGROUND
    head = train_head([(here.pyramid, Volume(painted, here.grid.affine, "voxels"))])

    def classify(features: VoxelFeatures, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        labels = Predictor(head, features.pyramid, None).whole().labels[tuple(wanted.T)]
        return np.where(labels == UNLABELLED, 0, labels - BACKGROUND)

    return classify


def _voted(similarity: NDArray[np.float32], temperature: float, votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Votes (n, classes) weighted by ``exp(similarity / temperature)``; their scale means nothing."""
    return np.exp((similarity - similarity.max(axis=1, keepdims=True)) / temperature) @ votes


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))


def chance_errors(here: VoxelFeatures, rng: np.random.Generator) -> NDArray[np.float64]:
    """Distances in millimetres between pairs of random body points."""
    points = here.grid.to_ras(here.voxels)
    a, b = (points[rng.integers(0, len(points), SAME_POINTS)] for _ in range(2))
    return np.linalg.norm(a - b, axis=1)


def chance_overlaps(
    own: NDArray[np.int64], others: NDArray[np.int64], organs: Sequence[int], rng: np.random.Generator
) -> tuple[dict[int, float], list[dict[int, float]]]:
    """What guessing gives: hit rate of every organ, and its Dice on the source and on the target."""
    hits = {organ: float((others == organ).mean()) for organ in organs}
    guesses = ((rng.permutation(own), own), (rng.choice(own, len(others)), others))
    return hits, [{c: _dice(guess == c, labels == c) for c in organs} for guess, labels in guesses]


def _some(mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    index = np.flatnonzero(mask)
    return rng.choice(index, min(count, len(index)), replace=False)
