"""Data sets found by their layout, and the manifest file."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.layouts import LAYOUTS, build_manifest
from Vox2VecCore.pretraining.manifest import (
    ScanEntry,
    licence_report,
    read_manifest,
    split_by_subject,
    write_manifest,
)


def slices(series: str, count: int) -> list[str]:
    return [f"{series}/{n:03}.dcm" for n in range(count)]


TREES: dict[str, tuple[list[str], dict[str, tuple[str, str | None]]]] = {
    "flat": (
        ["a.nii.gz", "a_labels.nii.gz", "sub/b.nrrd", "._a.nii.gz", "notes.txt", "c.mha"],
        {"a": ("a.nii.gz", "a_labels.nii.gz"), "c": ("c.mha", None), "sub_b": ("sub/b.nrrd", None)},
    ),
    "msd": (
        [
            "Task03_Liver/dataset.json",
            "Task03_Liver/imagesTr/liver_0.nii.gz",
            "Task03_Liver/imagesTr/._liver_0.nii.gz",
            "Task03_Liver/labelsTr/liver_0.nii.gz",
            "Task03_Liver/imagesTs/liver_132.nii.gz",
        ],
        {
            "Task03_Liver_liver_0": (
                "Task03_Liver/imagesTr/liver_0.nii.gz",
                "Task03_Liver/labelsTr/liver_0.nii.gz",
            ),
            "Task03_Liver_liver_132": ("Task03_Liver/imagesTs/liver_132.nii.gz", None),
        },
    ),
    "nnunet": (
        ["imagesTr/case_1_0000.nii.gz", "imagesTr/case_1_0001.nii.gz", "labelsTr/case_1.nii.gz"],
        {"case_1": ("imagesTr/case_1_0000.nii.gz", "labelsTr/case_1.nii.gz")},
    ),
    "btcv": (
        [
            "RawData/Training/img/img0001.nii.gz",
            "RawData/Training/label/label0001.nii.gz",
            "RawData/Testing/img/img0061.nii.gz",
        ],
        {
            "btcv_0001": ("RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz"),
            "btcv_0061": ("RawData/Testing/img/img0061.nii.gz", None),
        },
    ),
    "amos": (
        [
            "imagesTr/amos_0001.nii.gz",
            "labelsTr/amos_0001.nii.gz",
            "imagesTr/amos_0507.nii.gz",
            "imagesVa/amos_5001.nii.gz",
        ],
        {
            "amos_0001": ("imagesTr/amos_0001.nii.gz", "labelsTr/amos_0001.nii.gz"),
            "amos_5001": ("imagesVa/amos_5001.nii.gz", None),
        },
    ),
    "flare": (
        [
            "Training/FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz",
            "Training/FLARE22_LabeledCase50/labels/FLARE22_Tr_0001.nii.gz",
            "Training/FLARE22_UnlabeledCase/TU0001_0000.nii.gz",
        ],
        {
            "FLARE22_Tr_0001": (
                "Training/FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz",
                "Training/FLARE22_LabeledCase50/labels/FLARE22_Tr_0001.nii.gz",
            ),
            "TU0001": ("Training/FLARE22_UnlabeledCase/TU0001_0000.nii.gz", None),
        },
    ),
    "totalseg": (
        ["s0000/ct.nii.gz", "s0000/segmentations/spleen.nii.gz", "s0001/ct.nii.gz", "meta.csv"],
        {"s0000": ("s0000/ct.nii.gz", "s0000/segmentations"), "s0001": ("s0001/ct.nii.gz", None)},
    ),
    "kits": (
        [
            "dataset/case_00000/imaging.nii.gz",
            "dataset/case_00000/segmentation.nii.gz",
            "dataset/case_00400/imaging.nii.gz",
        ],
        {
            "case_00000": ("dataset/case_00000/imaging.nii.gz", "dataset/case_00000/segmentation.nii.gz"),
            "case_00400": ("dataset/case_00400/imaging.nii.gz", None),
        },
    ),
    "dicom": (
        [
            *slices("patientA/study/series1", 40),
            *slices("patientA/study/series2", 33),
            *slices("patientB/study/scout", 2),
        ],
        {"patientA": ("patientA/study/series1", None)},
    ),
}

COLLECTIONS = {
    "NLST": (
        [*slices("100012/study/01-02-1999/2.000000-0OPA", 35), *slices("100012/study/01-02-2001/3.000000-2OPA", 48)],
        {"100012": "100012/study/01-02-2001/3.000000-2OPA"},
    ),
    "LIDC-IDRI": (
        [
            *slices("LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192", 33),
            "LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192/069.xml",
            *slices("LIDC-IDRI-0001/01-01-2000-35511/3000923.000000-62357", 2),
        ],
        {"LIDC-IDRI-0001": "LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192"},
    ),
    "NSCLC-Radiomics": (
        [
            *slices("LUNG1-001/09-18-2008-StudyID-NA-69331/0.000000-NA-82046", 34),
            *slices("LUNG1-001/09-18-2008-StudyID-NA-69331/3.000000-NA-78236", 1),
            *slices("LUNG1-001/09-18-2008-StudyID-NA-69331/300.000000-Segmentation-9.554", 1),
        ],
        {"LUNG1-001": "LUNG1-001/09-18-2008-StudyID-NA-69331/0.000000-NA-82046"},
    ),
    "MIDRC-RICORD-1a": (
        [
            "annotations.json",
            *slices("RICORD-1A-000082/08-02-2002-CT CHEST-04614/2.000000-ROUTINE-54216", 40),
            *slices("RICORD-1A-000082/08-02-2002-CT CHEST-04614/1.000000-SCOUT-1", 2),
        ],
        {"RICORD-1A-000082": "RICORD-1A-000082/08-02-2002-CT CHEST-04614/2.000000-ROUTINE-54216"},
    ),
}
"""DICOM trees as the archives lay them out."""


def plant(root: Path, files: list[str]) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_every_layout_has_a_tree() -> None:
    assert set(TREES) == set(LAYOUTS)


@pytest.mark.parametrize("layout", TREES)
def test_layout(layout: str, tmp_path: Path) -> None:
    files, expected = TREES[layout]
    entries = build_manifest(plant(tmp_path, files), layout, licence="CC BY 4.0")
    found = {
        e.id: (
            Path(e.image).relative_to(tmp_path).as_posix(),
            None if e.labels is None else Path(e.labels).relative_to(tmp_path).as_posix(),
        )
        for e in entries
    }
    assert found == expected
    assert {e.licence for e in entries} == {"CC BY 4.0"} and {e.layout for e in entries} == {layout}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_dicom_collections(collection: str, tmp_path: Path) -> None:
    files, expected = COLLECTIONS[collection]
    entries = build_manifest(plant(tmp_path, files), "dicom")
    assert {e.id: Path(e.image).relative_to(tmp_path).as_posix() for e in entries} == expected


@pytest.mark.parametrize(
    ("layout", "names", "key"),
    [
        ("msd", ("Task01_BrainTumour", "Task03_Liver"), "modality"),
        ("nnunet", ("Dataset001_BR", "Dataset003_Li"), "channel_names"),
    ],
)
def test_data_sets_of_mr_are_left_out(layout: str, names: tuple[str, str], key: str, tmp_path: Path) -> None:
    for name, kind in zip(names, ("FLAIR", "CT"), strict=True):
        plant(tmp_path, [f"{name}/imagesTr/a_0000.nii.gz"])
        (tmp_path / name / "dataset.json").write_text(json.dumps({key: {"0": kind}}))
    assert [Path(e.image).parts[-3] for e in build_manifest(tmp_path, layout)] == [names[1]]


def test_ids_are_unique(tmp_path: Path) -> None:
    plant(tmp_path, [f"Dataset00{n}_X/imagesTr/case_0000.nii.gz" for n in (1, 2)])
    assert [e.id for e in build_manifest(tmp_path, "nnunet")] == ["Dataset001_X_case", "Dataset002_X_case"]
    plant(tmp_path, ["one/TU0001_0000.nii.gz", "two/TU0001_0000.nii.gz"])
    with pytest.raises(PretrainingError, match=r"one.*two.* would both be TU0001"):
        build_manifest(tmp_path, "flare", exclude=["Data*"])


def test_patterns_and_subjects(tmp_path: Path) -> None:
    plant(tmp_path, ["p1_a.nii.gz", "p1_b.nii.gz", "p2_a.nii.gz", "other/p3_a.nii.gz"])
    entries = build_manifest(tmp_path, "flat", subject="^(p[0-9])", include=["p*"], exclude=["p1_b*"])
    assert [(e.id, e.subject) for e in entries] == [("p1_a", "p1"), ("p2_a", "p2")]


@pytest.mark.parametrize(
    ("folder", "layout", "subject", "message"),
    [
        (".", "nonsense", None, "Unknown layout"),
        ("absent", "flat", None, "no such folder"),
        (".", "kits", None, "no scan of layout"),
        (".", "flat", "^(x)", "does not match"),
        (".", "flat", "(", "not a pattern"),
        (".", "flat", "a", "not a pattern"),
    ],
)
def test_refusals(tmp_path: Path, folder: str, layout: str, subject: str | None, message: str) -> None:
    plant(tmp_path, ["a.nii.gz"])
    with pytest.raises(PretrainingError, match=message):
        build_manifest(tmp_path / folder, layout, subject=subject)


def test_written_manifest_is_read_back(tmp_path: Path) -> None:
    entries = [
        ScanEntry("a", "p1", "a.nii.gz", "a_labels.nii.gz", "train", "CC BY 3.0", "flat"),
        ScanEntry("b", "p2", "/elsewhere/b.nii.gz"),
    ]
    write_manifest(entries, tmp_path / "data.jsonl")
    first, second = read_manifest(tmp_path / "data.jsonl")
    assert first.image == str(tmp_path / "a.nii.gz") and first.labels == str(tmp_path / "a_labels.nii.gz")
    assert second == entries[1]
    assert licence_report(entries) == {"CC BY 3.0": 1, "not stated": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no scan"),
        ("{", "not valid JSON"),
        ('{"id": "a"}', "needs id, subject and image"),
        ('{"id": "a", "subject": "a", "image": "a", "colour": "red"}', "needs id"),
        ('{"id": "a", "subject": "a", "image": 3}', "texts"),
        ('{"id": "a", "subject": "a", "image": "a"}\n' * 2, "more than once"),
    ],
)
def test_bad_manifest(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data.jsonl").write_text(text)
    with pytest.raises(PretrainingError, match=message):
        read_manifest(tmp_path / "data.jsonl")


@given(subjects=st.lists(st.text("abcdef", min_size=1), min_size=1, unique=True), seed=st.integers(0, 100))
def test_scans_of_a_subject_share_a_split(subjects: list[str], seed: int) -> None:
    entries = [ScanEntry(f"{s}{n}", s, "x") for s in subjects for n in range(2)]
    splits = split_by_subject(entries, {"train": 0.7, "val": 0.3}, seed)
    of = {}
    for entry in splits:
        assert entry.split in ("train", "val")
        assert of.setdefault(entry.subject, entry.split) == entry.split
    # Adding scans moves nobody.
    assert split_by_subject(entries[:2], {"train": 0.7, "val": 0.3}, seed) == splits[:2]


def test_split_shares_are_about_right() -> None:
    entries = [ScanEntry(str(n), str(n), "x") for n in range(2000)]
    splits = split_by_subject(entries, {"train": 0.8, "val": 0.2})
    assert 0.77 < sum(e.split == "train" for e in splits) / 2000 < 0.83
