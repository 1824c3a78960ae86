"""The main job on a real CT: embed it, ask where it looks like here, find the same places in another scan, and
segment it from a few strokes.

Usage: ``python demo.py CT [--out FOLDER] [--model M]``. Beside ``NAME.nii.gz`` the demo looks for a label map
``NAME_labels.nii.gz`` and its ``structures.csv``, and if they are there queries structures by name and
paints a few strokes in some of them, simulated from these labels, to segment the scan. The other scan
is a copy of the first, turned, shifted, resampled and made noisier, so that the true places are known.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the simulated strokes are test support

from Testing.support.strokes import simulate_strokes
from Vox2VecCore import Volume, match_points, read_volume, similarity_map, train_head
from Vox2VecCore.cli.console import show
from Vox2VecCore.cli.guard import guarded
from Vox2VecCore.cli.options import DEFAULT_MODEL
from Vox2VecCore.cli.scans import Embedded, Setup, embed_scan, prepare
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.fewshot.segmenting import segment
from Vox2VecCore.figures import colours_figure, match_figure, need_matplotlib, save, similarity_figure
from Vox2VecCore.pca import fit_pca, pca_colours
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.resampling import resample_linear
from Vox2VecCore.segmentation_figure import segmentation_figure
from Vox2VecCore.volume import AIR_HU, apply_affine
from Vox2VecCore.volume_io import read_labels

QUERIES = {
    "vertebrae_T8": "vertebra T8",
    "liver": "liver",
    "aorta": "aorta",
    "kidney_left": "left kidney",
    "heart": "heart",
    "trachea": "trachea",
}
"""Structures, and what to call them."""
QUERY_COUNT = len(QUERIES)
SHOWN = 4
"""Of the queries, how many get a picture of their own."""
BALANCE = 0.4
"""For the pictures: more what a place is made of than where it lies."""
DEEP_SHARE = 0.5
TURN_DEGREES = (4.0, -3.0, 6.0)
SHIFT_MM = (14.0, -9.0, 21.0)
COPY_SPACING_MM = (1.0, 1.0, 3.0)
COPY_BLUR_VOXELS = (0.5, 0.5, 0.5)
NOISE_HU = 30.0
MATCHED_POINTS = 200
PAINTED = {
    "liver": ("liver",),
    "spleen": ("spleen",),
    "right kidney": ("kidney_right",),
    "left kidney": ("kidney_left",),
    "right lung": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    "left lung": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "aorta": ("aorta",),
    "heart": ("heart",),
}
"""Structures that get strokes, and the labels that each is made of."""
STROKES = 5

Point = tuple[float, float, float]


@dataclass
class Diary:
    """What was done, and how long it took."""

    steps: list[tuple[str, float, str]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; what is put into the list is said beside it."""
        said: list[str] = []
        start = time.perf_counter()
        yield said
        self.steps.append((name, time.perf_counter() - start, "; ".join(said)))

    def table(self) -> Table:
        """For the end."""
        table = Table(box=None, header_style="cyan", padding=(0, 2, 0, 0))
        table.add_column("Step", no_wrap=True)
        table.add_column("Seconds", justify="right")
        table.add_column("", overflow="fold")
        for name, seconds, result in self.steps:
            table.add_row(name, f"{seconds:.1f}", result)
        return table


def demo(ct: Path, out: Path, model: str) -> None:
    """Do it all and say what was done.

    :raises Vox2VecError: if the scan, the model, or the folder for the pictures cannot be used.
    """
    need_matplotlib()
    setup = prepare(model, "auto", "auto")
    diary = Diary()
    written: list[Path] = []
    with diary.step("Read the CT") as said:
        volume = read_volume(ct)
        said.append(f"{times(volume.shape)} voxels of {times(volume.spacing_mm)} mm")
    queried = {said: (name,) for name, said in QUERIES.items()}
    masks = read_structures(ct, volume, {**queried, **PAINTED})
    labels = {name: masks[name] for name in queried if name in masks}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VolumeError(f"{out}: the folder for the pictures cannot be made ({error.strerror}).") from error

    with diary.step(f"Embed it with {setup.model.name}") as said:
        source = embedded(embed_scan(volume, setup, label="The CT"), setup, said)
    queries = {name: deepest(inside, volume) for name, inside in labels.items()} or points_inside(source, QUERY_COUNT)
    centre = next(iter(queries.values()))
    for name, point in list(queries.items())[:SHOWN]:
        with diary.step(f"Where does it look like: {name}") as said:
            heat = similarity_map(source, [point], balance=BALANCE, spreading=True)
            figure = similarity_figure(volume, heat, [point], title=f"Where does it look like this? ({name})")
            written.append(out / f"similarity_{name.replace(' ', '_')}.png")
            save(figure, written[-1])
            if name in labels:
                median = np.median(heat.array[labels[name]])
                said.append(f"half of the {name} looks more like it than {median:.0f} % of the body")
    with diary.step("Colour the embedding"):
        finer = replace(source, levels=source.levels[: max(1, len(source.levels) - 2)])
        colours = {"finer levels: tissue": in_colours(finer), "all levels: tissue and place": in_colours(source)}
        written.append(out / "embedding_in_colours.png")
        save(colours_figure(volume, colours, centre), written[-1])

    structures = {name: masks[name] for name in PAINTED if name in masks}
    if structures:
        with diary.step(f"Segment it from {STROKES} strokes a structure (simulated from its labels)") as said:
            written.append(out / "segmentation.png")
            said.append(segmented(volume, source, structures, written[-1]))

    low, high = extent_ras(volume)
    if (high - low > 2 * np.abs(SHIFT_MM)).all():
        written.append(out / "matches.png")
        found_again(volume, source, queries, setup, diary, written[-1])
    else:
        with diary.step("Scan the patient again (simulated)") as said:
            said.append(f"left out: the scan is too small to be shifted by {times(np.abs(SHIFT_MM))} mm")

    show(diary.table())
    show("\n".join(["", f"Pictures in {out}:", *(f"  {path.name}" for path in written)]))


def found_again(
    volume: Volume,
    source: FeaturePyramid,
    queries: Mapping[str, Point],
    setup: Setup,
    diary: Diary,
    picture: Path,
) -> None:
    """Scan the patient again and find the points there."""
    with diary.step("Scan the patient again (simulated)") as said:
        other, movement = moved_copy(volume)
        moved = f"turned, shifted by {np.linalg.norm(SHIFT_MM):.0f} mm"
        said.append(f"{moved}, voxels of {times(COPY_SPACING_MM)} mm, {NOISE_HU:.0f} HU of noise")
    with diary.step("Embed that") as said:
        target = embedded(embed_scan(other, setup, label="The other scan"), setup, said)
    with diary.step("Find the queried points in it") as said:
        truth = movement(list(queries.values())).tolist()
        matches = match_points(source, target, list(queries.values()))
        save(match_figure(volume, other, matches, names=list(queries), truth=truth), picture)
        off = np.linalg.norm(np.array([match.target_ras for match in matches]) - truth, axis=1)
        said.append(", ".join(f"{name} {error:.1f} mm off" for name, error in zip(queries, off, strict=True)))
    with diary.step(f"Find {MATCHED_POINTS} points of the body in it") as said:
        said.append(accuracy(source, target, movement))


def embedded(done: Embedded, setup: Setup, said: list[str]) -> FeaturePyramid:
    """An embedding, after saying where it came from."""
    how = "from the cache" if done.cached else f"on {setup.device} with {setup.engine}"
    said.append(f"{done.pyramid.channels} numbers for every voxel, {how}")
    return done.pyramid


def in_colours(pyramid: FeaturePyramid) -> NDArray[np.uint8]:
    """Principal components of an embedding as colours on the CT's grid."""
    colours = pca_colours(pyramid, fit_pca([pyramid]), smooth=True)
    return np.stack([pyramid.grid.to_source(colours[..., c], nearest=True) for c in range(3)], axis=-1)


def read_structures(ct: Path, volume: Volume, wanted: Mapping[str, Sequence[str]]) -> dict[str, NDArray[np.bool_]]:
    """Masks of structures, each of one or several labels, where labels and names lie beside the scan; else none."""
    labels_path = ct.with_name(ct.name.replace(".nii", "_labels.nii"))
    names_path = ct.with_name("structures.csv")
    if labels_path == ct or not (labels_path.is_file() and names_path.is_file()):
        return {}
    try:
        with names_path.open(encoding="utf-8", newline="") as stream:
            values = {row["structure"]: int(row["id"]) for row in csv.DictReader(stream)}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise VolumeError(f"{names_path}: has no columns 'structure' and 'id' of whole numbers; remove it.") from error
    labels = read_labels(labels_path)
    if labels.shape != volume.shape:
        raise VolumeError(f"{labels_path}: does not have the shape of {ct}; remove it or put the right one there.")
    number = np.zeros(int(labels.array.max()) + 1, np.uint8)
    for n, names in enumerate(wanted.values(), start=1):
        number[[values[name] for name in names if values.get(name, len(number)) < len(number)]] = n
    shown = number[labels.array.clip(0)]
    masks = {said: shown == n for n, said in enumerate(wanted, start=1)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def segmented(
    volume: Volume, pyramid: FeaturePyramid, structures: Mapping[str, NDArray[np.bool_]], picture: Path
) -> str:
    """Paint, learn, segment, and compare with the labels; returns what is to be said of it."""
    reference = np.zeros(volume.shape, np.int16)
    for value, mask in enumerate(structures.values(), start=2):
        reference[mask] = value
    body = pyramid.grid.to_source(pyramid.body.astype(np.uint8), nearest=True) > 0
    values = range(2, len(structures) + 2)
    strokes = simulate_strokes(volume.with_array(reference), [[value] for value in values], body, per_structure=STROKES)
    head = train_head([(pyramid, strokes)], volumes=[volume], names=dict(zip(values, structures, strict=True)))
    found = segment(pyramid, head, volume=volume, strokes=strokes).labels.array
    dice = {}
    for value in values:
        one, other = found == value, reference == value
        dice[value] = 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
    painted = strokes.array > 0  # the planes with most paint
    best = [int(painted.sum(axis=tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3)]
    centre = as_point(volume.to_ras(best)[0])
    rows = {"strokes": strokes.array, "from the strokes": found, "reference": reference}
    remarks = {value: f"Dice {each:.2f}" for value, each in dice.items()}
    figure = segmentation_figure(
        volume, rows, head.structures, centre, remarks=remarks, title="Segmentation from a few strokes"
    )
    save(figure, picture)
    return f"{head.method}; Dice with the labels: " + ", ".join(
        f"{name} {dice[value]:.2f}" for value, name in zip(values, structures, strict=True)
    )


def deepest(inside: NDArray[np.bool_], volume: Volume) -> Point:
    """The point of a structure that is farthest from its surface."""
    (box,) = ndimage.find_objects(inside.astype(np.uint8))
    depth = ndimage.distance_transform_edt(np.pad(inside[box], 1), sampling=volume.spacing_mm)
    voxel = np.array(np.unravel_index(depth.argmax(), depth.shape)) - 1 + [part.start for part in box]
    return as_point(volume.to_ras(voxel)[0])


def points_inside(pyramid: FeaturePyramid, count: int) -> dict[str, Point]:
    """Points far from each other and well below the skin: each next one is farthest from those before."""
    depth = ndimage.distance_transform_edt(np.pad(pyramid.body, 1), sampling=pyramid.grid.spacing_mm)[1:-1, 1:-1, 1:-1]
    points = pyramid.grid.to_ras(np.argwhere(depth >= DEEP_SHARE * depth.max())[::50])
    chosen = [points[np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()]]
    while len(chosen) < count:
        chosen.append(points[np.linalg.norm(points[:, None] - chosen, axis=2).min(axis=1).argmax()])
    return {f"point {i}": as_point(point) for i, point in enumerate(chosen, start=1)}


def extent_ras(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest RAS millimetres of the centres of a scan's voxels."""
    corners = volume.to_ras(np.array(list(np.ndindex(2, 2, 2))) * (np.array(volume.shape) - 1))
    return corners.min(axis=0), corners.max(axis=0)


def moved_copy(volume: Volume, seed: int = 0) -> tuple[Volume, "Movement"]:
    """The patient as if scanned again: lying otherwise, other voxels, a field of view of the same size, more noise."""
    low, high = extent_ras(volume)
    movement = Movement.about((low + high) / 2)
    spacing = np.array(COPY_SPACING_MM)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    hu = np.empty(np.ceil((high - low) / spacing).astype(int), np.float32, order="F")
    to_volume = volume.ras_to_ijk @ np.linalg.inv(movement.matrix) @ affine
    resample_linear(volume.array, to_volume, hu, fill=AIR_HU, sigma=COPY_BLUR_VOXELS, floor=AIR_HU)
    noise = np.random.default_rng(seed).normal(0, NOISE_HU, hu.shape)
    values = np.round(hu + noise).clip(AIR_HU, 3071).astype(np.int16)
    return Volume(values, affine, f"{volume.name} scanned again"), movement


@dataclass(frozen=True)
class Movement:
    """How the patient lies in the copy: a rotation and a shift, (4, 4) from RAS mm to RAS mm."""

    matrix: NDArray[np.float64]

    @classmethod
    def about(cls, centre: NDArray[np.float64]) -> "Movement":
        """The demo's turn about a point, and its shift."""
        matrix = np.eye(4)
        for axis, degrees in enumerate(TURN_DEGREES):
            a, b = [other for other in range(3) if other != axis]
            turn = np.eye(4)
            turn[[a, b], [a, b]] = np.cos(np.radians(degrees))
            turn[a, b], turn[b, a] = -np.sin(np.radians(degrees)), np.sin(np.radians(degrees))
            matrix = turn @ matrix
        matrix[:3, 3] = centre + SHIFT_MM - matrix[:3, :3] @ centre
        return cls(matrix)

    def __call__(self, points_ras: NDArray[np.float64] | list[Point]) -> NDArray[np.float64]:
        """Where points (n, 3) of the scan lie in the copy."""
        return apply_affine(self.matrix, points_ras)


def accuracy(source: FeaturePyramid, target: FeaturePyramid, movement: Movement) -> str:
    """How far from the truth random body voxels are found, and whether 'reliable' tells which ones."""
    points = source.grid.to_ras(source.body_voxels(MATCHED_POINTS, seed=1))
    truth = movement(points)
    voxels = target.grid.to_voxels(truth)
    seen = ((voxels >= 0) & (voxels <= np.array(target.grid.shape) - 1)).all(axis=1)
    matches = match_points(source, target, points[seen])
    off = np.linalg.norm(np.array([match.target_ras for match in matches]) - truth[seen], axis=1)
    sure = np.array([match.reliable for match in matches])
    said = f"{len(off)} of them in view; median {np.median(off):.1f} mm off"
    if sure.any():
        said += f"; the {sure.mean():.0%} called reliable {np.median(off[sure]):.1f} mm"
    return said


def times(values: Sequence[float] | NDArray) -> str:
    """Sizes along axes for people."""
    return " x ".join(f"{value:.3g}" for value in values)


def as_point(values: NDArray[np.float64]) -> Point:
    """Three plain numbers."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def main() -> int:
    """Read the arguments and run the demo."""
    parser = argparse.ArgumentParser(description="Vox2Vec's main job on one CT.")
    parser.add_argument("ct", type=Path, help="NIfTI, NRRD or MHA file, or DICOM folder")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or directory of a model")
    arguments = parser.parse_args()

    def job() -> int:
        demo(arguments.ct, arguments.out, arguments.model)
        return 0

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
