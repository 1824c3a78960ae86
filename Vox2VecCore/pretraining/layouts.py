"""Known data sets found by how they lie on disk. Nothing is downloaded and no image is opened."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.manifest import ScanEntry

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
LABEL_SUFFIXES = ("_labels", "_label", "-label", "_seg")

Found = Iterator[tuple[str, str, Path, Path | None]]
"""id, subject, image, labels"""


def build_manifest(
    root: Path,
    layout: str,
    *,
    licence: str | None = None,
    subject: str | None = None,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
) -> list[ScanEntry]:
    """Index a data set.

    :param root: its folder.
    :param layout: a name of :data:`LAYOUTS`.
    :param licence: recorded in every entry.
    :param subject: regular expression whose first group is the patient in an entry's id, where several scans
        belong to one patient; the layout's own rule when left out.
    :param include: patterns (``*``, ``?``) of image paths below ``root``; one must match.
    :param exclude: patterns of which none may match.
    :return: entries sorted by id; paths start with ``root``.
    :raises PretrainingError: on an unknown layout, a folder that is absent or holds no scan of that layout, a subject
        pattern that does not match, or scans that would have the same id.
    """
    if layout not in LAYOUTS:
        raise PretrainingError(f"Unknown layout '{layout}'; there are {', '.join(LAYOUTS)}.")
    if not root.is_dir():
        raise PretrainingError(f"{root}: no such folder; give the folder that the data set was unpacked to.")
    entries = []
    for id, own_subject, image, labels in LAYOUTS[layout](root):
        path = image.relative_to(root).as_posix()
        if not any(fnmatch(path, p) for p in include) or any(fnmatch(path, p) for p in exclude):
            continue
        person = own_subject if subject is None else _group(subject, id)
        entries.append(
            ScanEntry(id, person, str(image), None if labels is None else str(labels), None, licence, layout)
        )
    if not entries:
        raise PretrainingError(f"{root}: no scan of layout '{layout}' there; check the folder, layout and patterns.")
    twice = next((id for id, count in Counter(entry.id for entry in entries).items() if count > 1), None)
    if twice is not None:
        first, second = [entry.image for entry in entries if entry.id == twice][:2]
        raise PretrainingError(f"{first} and {second} would both be {twice}; index them apart, or leave one out.")
    return sorted(entries, key=lambda entry: entry.id)


def _flat(root: Path) -> Found:
    """Any images in the folder or below; ``case_labels.nii.gz`` and the like are labels of ``case``."""
    images = {path.with_name(image_stem(path)): path for path in image_files(root, recursive=True)}
    for name, path in images.items():
        if any(name.name.endswith(s) and name.with_name(name.name.removesuffix(s)) in images for s in LABEL_SUFFIXES):
            continue
        labels = next((images[c] for s in LABEL_SUFFIXES if (c := name.with_name(name.name + s)) in images), None)
        id = name.relative_to(root).as_posix().replace("/", "_")
        yield id, id, path, labels


def _msd(root: Path) -> Found:
    """Medical Segmentation Decathlon: Task folders of CT, or one of them."""
    for task in _data_sets(root, "Task*"):
        for part in ("Tr", "Ts"):
            for path in image_files(task / f"images{part}"):
                labels = task / f"labels{part}" / path.name
                id = f"{task.name}_{image_stem(path)}"
                yield id, id, path, labels if labels.is_file() else None


def _nnunet(root: Path) -> Found:
    """nnU-Net raw data: ``imagesTr/case_0000.nii.gz`` and ``labelsTr/case.nii.gz``; no other channels, no MR."""
    for data_set in _data_sets(root, "Dataset*"):
        prefix = "" if data_set == root else f"{data_set.name}_"
        for part in ("Tr", "Ts"):
            for path in image_files(data_set / f"images{part}"):
                case, channel = image_stem(path).rpartition("_")[::2]
                if channel == "0000":
                    yield prefix + case, prefix + case, path, _sibling(data_set / f"labels{part}", case)


def _data_sets(root: Path, pattern: str) -> list[Path]:
    """The folder itself if it holds ``imagesTr``, else those in it, without those whose ``dataset.json`` says MR."""
    folders = [root] if (root / "imagesTr").is_dir() else sorted(p for p in root.glob(pattern) if p.is_dir())
    return [folder for folder in folders if not _is_mr(folder / "dataset.json")]


def _is_mr(description: Path) -> bool:
    try:
        values = json.loads(description.read_text(encoding="utf-8"))
        channels = values.get("channel_names") or values.get("modality") or {}
        return any(re.match("MR|T1|T2|FLAIR|ADC|DWI", str(name), re.IGNORECASE) for name in channels.values())
    except (OSError, ValueError, AttributeError):
        return False


def _btcv(root: Path) -> Found:
    """BTCV "Beyond the Cranial Vault": ``Training/img/img0001`` with ``Training/label/label0001``, ``Testing/img``."""
    base = root / "RawData" if (root / "RawData").is_dir() else root
    for part in ("Training", "Testing"):
        for path in image_files(base / part / "img"):
            number = image_stem(path).removeprefix("img")
            yield f"btcv_{number}", f"btcv_{number}", path, _sibling(base / part / "label", f"label{number}")


def _amos(root: Path) -> Found:
    """AMOS22: cases from 500 to 4999 are MR and left out."""
    for part in ("Tr", "Va", "Ts"):
        for path in image_files(root / f"images{part}"):
            case = image_stem(path)
            number = case.removeprefix("amos_")
            if number.isdigit() and not 500 <= int(number) < 5000:
                yield case, case, path, _sibling(root / f"labels{part}", case)


def _flare(root: Path) -> Found:
    """FLARE22: labelled cases with ``labels`` beside ``images``, and folders of unlabelled ones."""
    for path in image_files(root, recursive=True):
        if path.parent.name == "labels":
            continue
        case = re.sub(r"_0000$", "", image_stem(path))
        yield case, case, path, _sibling(path.parent.parent / "labels", case)


def _totalseg(root: Path) -> Found:
    """TotalSegmentator and AbdomenAtlas: a folder per case with ``ct.nii.gz`` and a folder of masks."""
    for path in sorted(root.glob("*/ct.nii.gz")):
        masks = path.parent / "segmentations"
        yield path.parent.name, path.parent.name, path, masks if masks.is_dir() else None


def _kits(root: Path) -> Found:
    """KiTS: ``case_00000/imaging.nii.gz`` and ``segmentation.nii.gz``."""
    base = root / "dataset" if (root / "dataset").is_dir() else root
    for path in sorted(base.glob("case_*/imaging.nii.gz")):
        labels = path.with_name("segmentation.nii.gz")
        yield path.parent.name, path.parent.name, path, labels if labels.is_file() else None


def _dicom(root: Path) -> Found:
    """Trees of DICOM series (NLST, LIDC-IDRI, NSCLC-Radiomics, MIDRC): every folder with slices is a series.

    The first folder below the root is the patient; of a patient's series the one with most slices is taken
    (localisers, structure sets and the like are small), and none with fewer than 32.
    """
    series: dict[str, list[tuple[int, Path]]] = {}
    for folder in sorted({path.parent for path in root.rglob("*.dcm")}):
        count = sum(1 for _ in folder.glob("*.dcm"))
        if count >= FEWEST_SLICES:
            patient = folder.relative_to(root).parts[0] if folder != root else root.name
            series.setdefault(patient, []).append((count, folder))
    for patient, found in series.items():
        yield patient, patient, max(found, key=lambda pair: pair[0])[1], None


FEWEST_SLICES = 32

LAYOUTS: dict[str, Callable[[Path], Found]] = {
    "flat": _flat,
    "msd": _msd,
    "nnunet": _nnunet,
    "btcv": _btcv,
    "amos": _amos,
    "flare": _flare,
    "totalseg": _totalseg,
    "kits": _kits,
    "dicom": _dicom,
}


def image_files(folder: Path, recursive: bool = False) -> list[Path]:
    """Files of a folder whose names are those of scans, in order."""
    # Archives made on a Mac hold a "._" twin of every file.
    found = folder.rglob("*") if recursive else folder.glob("*")
    return sorted(p for p in found if p.name.endswith(IMAGE_SUFFIXES) and not p.name.startswith("."))


def image_stem(path: Path) -> str:
    """Name without the suffix, which may be ``.nii.gz``."""
    return next(path.name.removesuffix(suffix) for suffix in IMAGE_SUFFIXES if path.name.endswith(suffix))


def _sibling(folder: Path, stem: str) -> Path | None:
    return next((p for suffix in IMAGE_SUFFIXES if (p := folder / (stem + suffix)).is_file()), None)


def _group(pattern: str, id: str) -> str:
    try:
        match = re.search(pattern, id)
        if match is None:
            raise PretrainingError(f"The subject pattern '{pattern}' does not match id {id}; correct it.")
        return match.group(1)
    except (re.error, IndexError) as error:
        raise PretrainingError(
            f"'{pattern}' is not a pattern with one group ({error}); such as '^(case_[0-9]+)'."
        ) from error
