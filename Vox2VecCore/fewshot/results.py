"""What applying a head leaves on disk: label maps, probabilities, and a table of volumes."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from Vox2VecCore.dicom_segments import SUFFIX as DICOM_SUFFIX
from Vox2VecCore.dicom_segments import check_source, segment_volumes_ml, write_dicom_segments
from Vox2VecCore.errors import HeadError, VolumeError
from Vox2VecCore.fewshot.classes import HeadClass, told_apart
from Vox2VecCore.fewshot.segmenting import Segmentation, volumes_ml
from Vox2VecCore.paths import alone, replace_file
from Vox2VecCore.slicer_segments import SUFFIX, FileSegment, write_segments
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import WRITABLE, read_labels, write_volume

SUFFIXES = (f".seg{DICOM_SUFFIX}", DICOM_SUFFIX, SUFFIX, *WRITABLE)
"""What a label map's name may end in; the longer of two comes first."""
TABLE = "volumes.csv"
COLUMNS = ("scan", "structure", "ml")


@dataclass(frozen=True)
class Results:
    """Files of one scan.

    :param labels: the label map; it is written last, so that the scan is done when it is there.
    """

    labels: Path

    def probability(self, value: int) -> Path:
        """Probabilities of a class, beside the label map."""
        suffix = next(each for each in SUFFIXES if self.labels.name.endswith(each))
        return self.labels.with_name(f"{self.labels.name.removesuffix(suffix)}_probability_{value}.nii.gz")

    def done_since(self, *sources: Path) -> bool:
        """Whether the label map is there and was made after the head and whatever else it is made with."""
        try:
            return self.labels.stat().st_mtime >= max(each.stat().st_mtime for each in sources)
        except FileNotFoundError:
            return False

    @property
    def is_dicom(self) -> bool:
        """Whether the label map is a DICOM SEG."""
        return self.labels.name.endswith(DICOM_SUFFIX)

    def check(self, scan: Path) -> None:
        """Say before the long work that results of this kind cannot be made of a scan.

        :raises VolumeError: if the scan is not DICOM and a DICOM SEG is wanted.
        :raises MissingExtraError: if highdicom is wanted and not installed.
        """
        if self.is_dicom:
            check_source(scan)

    def write(self, found: Segmentation, scan: Path, *, probabilities: bool = False) -> None:
        """Write all files of the scan, or none.

        :param scan: what was read.
        :raises VolumeError: if one cannot be written.
        """
        structures = [each for each in found.classes if not each.background]
        made: list[Path] = []
        with _or_none(made):
            for each in structures if probabilities else ():
                path = self.probability(each.value)
                write_volume(found.probability(each.value), path)
                made.append(path)
            labels = Volume(_narrow(found.labels), found.labels.affine, str(scan))
            segments = [_segment(each) for each in structures]
            if self.is_dicom:
                write_dicom_segments(labels, segments, scan, self.labels)
            elif self.labels.name.endswith(SUFFIX):
                write_segments(labels, segments, self.labels)
            else:
                write_volume(labels, self.labels)

    def volumes_ml(self, structures: Sequence[HeadClass]) -> dict[int, float]:
        """Millilitres of every structure, by class value, from the label map on disk.

        :raises VolumeError: if it cannot be read.
        """
        if self.is_dicom:
            return segment_volumes_ml(self.labels, [_segment(each) for each in structures])
        return volumes_ml(read_labels(self.labels), structures)


class VolumeTable:
    """A table of scan, structure and millilitres that is complete on disk after every scan.

    Several processes write one table: each puts in its own scans and leaves those of the others.

    :param path: rewritten at once.
    :param structures: of the head.
    :param scans: names of all scans of the run, in the table's order; ``own`` are this process's.
    :raises HeadError: if the table cannot be written.
    """

    def __init__(self, path: Path, structures: Sequence[HeadClass], scans: Sequence[str], own: Sequence[str]) -> None:
        self.path = path
        self._structures = structures
        self._order = {name: n for n, name in enumerate(scans)}
        self._others = set(scans) - set(own)
        self._rows: list[list[str]] = []
        if self._others and path.exists():  # without what an earlier run said about own scans
            self._write()

    def add(self, scan: str, volumes_ml: Mapping[int, float]) -> None:
        """Add a scan.

        :raises HeadError: if the table cannot be written.
        """
        self._rows += [[scan, name, f"{volumes_ml[value]:.3f}"] for value, name in told_apart(self._structures).items()]
        self._write()

    def _write(self) -> None:
        try:
            with alone(self.path):
                others = [row for row in _rows_of(self.path) if row[0] in self._others]
                rows = sorted(self._rows + others, key=lambda row: self._order[row[0]])
                text = io.StringIO()
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow(COLUMNS)
                writer.writerows(rows)
                with replace_file(self.path) as temporary:
                    temporary.write_text(text.getvalue(), encoding="utf-8")
        except OSError as error:
            raise HeadError(f"{self.path}: cannot be written ({error.strerror}); check space and rights.") from error


def _rows_of(table: Path) -> list[list[str]]:
    """Rows of a table that may not be there."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        return []
    return [row for row in rows[1:] if len(row) == len(COLUMNS)] if rows[:1] == [list(COLUMNS)] else []


def is_file_name(path: Path) -> bool:
    """Whether ``--out`` names a label map and not a folder.

    :raises VolumeError: if it may be meant as a file of a kind that label maps are not written in.
    """
    if path.is_dir():
        return False
    is_file = path.name.endswith(SUFFIXES)
    if not is_file and path.suffix[1:2].isalpha():
        endings = ", ".join(SUFFIXES)
        raise VolumeError(f"{path}: label maps are written as {endings}; make the folder first if it shall be one.")
    return is_file


def make_folder(folder: Path) -> None:
    """Make a folder for results, and see that files can be written in it.

    :raises VolumeError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise VolumeError(f"{folder}: cannot be written to ({error.strerror}); choose another folder.") from error


@contextmanager
def _or_none(made: Sequence[Path]) -> Iterator[None]:
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            for path in made:
                path.unlink(missing_ok=True)


def _narrow(labels: Volume) -> np.ndarray:
    """Values of one byte where they fit."""
    array = labels.array
    return array.astype(np.uint8) if array.size and array.max() < 256 else array


def _segment(each: HeadClass) -> FileSegment:
    return FileSegment(each.value, each.name, each.colour, each.terminology)
