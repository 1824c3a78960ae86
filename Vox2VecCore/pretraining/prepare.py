"""Scans brought to the model's grid once, and opened again without reading them whole."""

import hashlib
import json
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.grid import GriddedScan, ModelGrid, grid_scan
from Vox2VecCore.paths import new_folder
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.manifest import ScanEntry
from Vox2VecCore.progress import Progress
from Vox2VecCore.shapes import Triple
from Vox2VecCore.volume_io import check_ct, read_volume

Spacing = tuple[float, float, float]

VERSION = 1
SMALLEST_BODY_VOXELS = 1000


@dataclass(frozen=True)
class PreparedScan:
    """A scan on the model's grid, in a folder of its own.

    :param folder: holds ``hu.npy`` (int16), ``body.npy`` (packed bits) and ``scan.json``.
    """

    id: str
    subject: str
    shape: Triple
    licence: str | None
    folder: Path = field(compare=False)

    @cached_property
    def hu(self) -> NDArray[np.int16]:
        """(X, Y, Z) memory-mapped Hounsfield units; axes run to the patient's right, front and head."""
        return self._mapped("hu.npy")

    @cached_property
    def packed_body(self) -> NDArray[np.uint8]:
        """(X, Y, ceil(Z / 8)) memory-mapped body mask, eight voxels along Z to a byte."""
        return self._mapped("body.npy")

    def _mapped(self, name: str) -> NDArray:
        try:
            return np.load(self.folder / name, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise PretrainingError(
                f"{self.folder / name}: the prepared scan cannot be read ({error}); remove the folder "
                f"{self.folder.name} and resume, it will be made again."
            ) from error

    def __getstate__(self) -> dict[str, object]:
        # Memory maps are opened again by every worker process instead of being copied to it.
        return {k: v for k, v in self.__dict__.items() if k not in ("hu", "packed_body")}

    def body(self, box: tuple[slice, slice, slice]) -> NDArray[np.bool_]:
        """Body mask of a box of the grid, unpacking nothing but that box."""
        x, y, z = box
        start, stop, _ = z.indices(self.shape[2])
        bits = np.unpackbits(self.packed_body[x, y, start // 8 : -(-stop // 8)], axis=2)
        return bits[:, :, start % 8 : start % 8 + stop - start].view(bool)

    def gridded(self, spacing_mm: Spacing) -> GriddedScan:
        """The whole scan in memory, its first voxel at the origin."""
        affine = np.diag([*spacing_mm, 1.0])
        grid = ModelGrid(self.shape, affine, self.shape, affine)
        return GriddedScan(grid, np.asarray(self.hu, np.float32), self.body((slice(None),) * 3))

    def random_body_voxel(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A voxel (3,) drawn evenly from the body, by rejection."""
        while True:
            candidates = rng.integers(0, self.shape, (64, 3))
            i, j, k = candidates.T
            inside = self.packed_body[i, j, k // 8] >> (7 - k % 8) & 1
            if inside.any():
                return candidates[np.flatnonzero(inside)[0]]


@dataclass(frozen=True)
class Skipped:
    """A scan that cannot be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class PreparedData:
    """What preparation made."""

    scans: list[PreparedScan]
    skipped: list[Skipped]


def prepare_scans(
    entries: Sequence[ScanEntry],
    folder: Path,
    spacing_mm: Spacing,
    *,
    workers: int = 1,
    begin: int = 0,
    progress: Progress | None = None,
) -> PreparedData:
    """Bring scans to a grid; those that are there already are not read again.

    A scan that cannot be read or used is skipped and listed with its reason. When a worker process dies (out of
    memory, say) the scans it left are tried once more, one by one.

    :param folder: one folder per scan is made in it.
    :param workers: processes.
    :param begin: entry to begin with. Processes that prepare the same scans and begin at different ones share the work.
    :raises PretrainingError: if no scan is left, or the folder cannot be written.
    :raises Cancelled: when ``progress`` says so; finished scans stay.
    """
    progress = progress or Progress()
    results: dict[str, PreparedScan | Skipped] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for entry, result in _run([*entries[begin:], *entries[:begin]], folder, spacing_mm, workers):
        results[entry.id] = result
        progress.step("Preparing scans", len(results), len(entries))
    ordered = [results[entry.id] for entry in entries]
    scans = [r for r in ordered if isinstance(r, PreparedScan)]
    skipped = [r for r in ordered if isinstance(r, Skipped)]
    if not scans:
        why = f" The first reason: {skipped[0].reason}" if skipped else ""
        raise PretrainingError(f"None of the {len(entries)} scans can be used.{why}")
    return PreparedData(scans, skipped)


def _run(
    entries: Sequence[ScanEntry], folder: Path, spacing_mm: Spacing, workers: int
) -> Iterator[tuple[ScanEntry, PreparedScan | Skipped]]:
    left = {entry.id: entry for entry in entries}
    if workers > 1:
        # Forking a process that has threads (torch has) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, leave_interrupts_to_parent) as pool:
            futures = {pool.submit(prepare_scan, entry, folder, spacing_mm): entry for entry in entries}
            try:
                for future in as_completed(futures):
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        continue
                    yield left.pop(futures[future].id), result
            finally:
                pool.shutdown(cancel_futures=True)
    for entry in list(left.values()):
        yield entry, prepare_scan(entry, folder, spacing_mm)


def leave_interrupts_to_parent() -> None:
    """For a process that works for another: Ctrl-C reaches both, and the other one ends this one in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def prepare_scan(entry: ScanEntry, folder: Path, spacing_mm: Spacing) -> PreparedScan | Skipped:
    """Bring one scan to the grid, or say why not."""
    try:
        target = folder / f"{entry.id}-{_fingerprint(entry, spacing_mm)}"
        if not (target / "scan.json").is_file():
            _write(entry, target, spacing_mm)
        description = json.loads((target / "scan.json").read_text(encoding="utf-8"))
    except Vox2VecError as error:
        return Skipped(entry.id, str(error))
    except MemoryError:
        return Skipped(entry.id, f"{entry.image}: does not fit into memory.")
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(folder)):
            return Skipped(entry.id, f"{entry.image}: cannot be read ({error.strerror}).")
        raise PretrainingError(
            f"{folder}: prepared scans cannot be written ({error}); check space and rights."
        ) from error
    return PreparedScan(entry.id, entry.subject, tuple(description["shape"]), entry.licence, target)


def _write(entry: ScanEntry, target: Path, spacing_mm: Spacing) -> None:
    volume = read_volume(entry.image)
    check_ct(volume)
    scan = grid_scan(volume, spacing_mm)
    if scan.body.sum() < SMALLEST_BODY_VOXELS:
        raise PretrainingError(f"{entry.image}: no body of a usable size was found; is it a CT in Hounsfield units?")
    limits = np.iinfo(np.int16)
    hu = np.clip(np.round(scan.hu), limits.min, limits.max).astype(np.int16)
    with new_folder(target) as folder:
        np.save(folder / "hu.npy", hu)
        np.save(folder / "body.npy", np.packbits(scan.body, axis=2))
        description = {"id": entry.id, "shape": hu.shape, "spacing_mm": spacing_mm, "image": entry.image}
        (folder / "scan.json").write_text(json.dumps(description), encoding="utf-8")


def _fingerprint(entry: ScanEntry, spacing_mm: Spacing) -> str:
    """Changes when the image, the grid or the way of preparing changes."""
    image = Path(entry.image)
    try:
        files = sorted(image.rglob("*")) if image.is_dir() else [image]  # as DICOM is read, folders below too
        states = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    except OSError as error:
        raise PretrainingError(f"{entry.image}: cannot be read ({error.strerror}).") from error
    return hashlib.sha256(repr((VERSION, spacing_mm, str(image), states)).encode()).hexdigest()[:12]
