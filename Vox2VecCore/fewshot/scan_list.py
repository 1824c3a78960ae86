"""The scans that a head is applied to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from Vox2VecCore.errors import HeadError
from Vox2VecCore.pretraining.layouts import IMAGE_SUFFIXES, build_manifest, image_files, image_stem
from Vox2VecCore.pretraining.manifest import read_manifest

SEGMENTATION = ".seg"
"""Before the suffix of what Slicer and we write: no scan."""


@dataclass(frozen=True)
class Scan:
    """A scan to segment.

    :param name: unique among the scans of a run; what its results are called.
    :param path: file, or folder of a DICOM series.
    """

    name: str
    path: Path


def find_scans(paths: Sequence[Path], manifest: Path | None = None, without: Path | None = None) -> list[Scan]:
    """Scans behind paths, in order of path, each once.

    A folder stands for the images in it and below, label maps (``case_labels.nii.gz`` beside ``case.nii.gz``, and
    ``.seg.nrrd``) left out; one without images for a DICOM series, or, when it holds nothing but folders, for one
    DICOM series in each of them.

    :param manifest: more scans, as ``vox2vec manifest`` lists them.
    :param without: folder of results: nothing is taken from it when it lies in one of the folders.
    :raises HeadError: if there is none.
    :raises PretrainingError: if the manifest cannot be read.
    """
    results = None if without is None else without.absolute()
    given = [path for path in paths if len(paths) == 1 or path.absolute() != results]
    found = [scan for path in given for scan in _behind(path) if not _is_result(scan, path, results)]
    if manifest is not None:
        found += [Scan(entry.id.replace("/", "_"), Path(entry.image)) for entry in read_manifest(manifest)]
    once = {scan.path.absolute(): scan for scan in found}
    if not once:
        where = ", ".join(map(str, paths)) or "no path given"
        raise HeadError(f"No scans were found ({where}); give CT files, DICOM folders, or a folder of scans.")
    return _with_own_names([once[path] for path in sorted(once)])


def scan_name(path: Path) -> str:
    """File name without suffix, or the folder's name."""
    return image_stem(path) if path.name.endswith(IMAGE_SUFFIXES) else (path.absolute().name or "scan")


def _is_result(scan: Scan, given: Path, results: Path | None) -> bool:
    """Whether a scan was found in the folder of results on the way through another folder."""
    path = scan.path.absolute()
    if results is None or given.absolute() in (path, results):
        return False
    return results == path or results in path.parents


def _behind(path: Path) -> list[Scan]:
    if not path.is_dir():
        return [Scan(scan_name(path), path)]
    images = [each for each in image_files(path, recursive=True) if not image_stem(each).endswith(SEGMENTATION)]
    if images:
        entries = build_manifest(path, "flat")
        taken = {str(each) for each in images}
        return [Scan(entry.id, Path(entry.image)) for entry in entries if entry.image in taken]
    inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    if any(each.is_file() for each in inside):
        return [Scan(scan_name(path), path)]
    return [Scan(scan_name(each), each) for each in inside]


def _with_own_names(scans: Sequence[Scan]) -> list[Scan]:
    """Names told apart by the folder above, then by number."""
    count = Counter(scan.name for scan in scans)
    longer = [
        scan if count[scan.name] == 1 else replace(scan, name=f"{scan.path.absolute().parent.name}_{scan.name}")
        for scan in scans
    ]
    named: list[Scan] = []
    used: set[str] = set()
    for scan in longer:
        name, number = scan.name, 2
        while name.lower() in used:  # file systems may not tell upper case from lower
            name, number = f"{scan.name}_{number}", number + 1
        used.add(name.lower())
        named.append(replace(scan, name=name))
    return named
