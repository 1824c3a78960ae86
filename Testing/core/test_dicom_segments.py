"""DICOM SEG: the right voxels at the right place, tied to the slices that were segmented, and the command around it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from Testing.support.commands import Run, answer, runner
from Testing.support.dicom_series import write_series
from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore.cli import console
from Vox2VecCore.dicom_segments import segment_volumes_ml, write_dicom_segments
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.slicer_segments import FileSegment
from Vox2VecCore.volume import Volume
from Vox2VecCore.volume_io import read_volume, write_volume

TAGS = {
    (0x8, 0x20): ("DA", "20260101"),
    (0x8, 0x30): ("TM", "120000"),
    (0x8, 0x50): ("SH", ""),
    (0x8, 0x90): ("PN", ""),
    (0x10, 0x10): ("PN", "Nobody"),
    (0x10, 0x20): ("LO", "P7"),
    (0x10, 0x30): ("DA", ""),
    (0x10, 0x40): ("CS", "O"),
    (0x20, 0xD): ("UI", "1.2.840.1"),
    (0x20, 0x10): ("SH", "1"),
    (0x20, 0x52): ("UI", "1.2.840.2"),
}
"""What scanners write and a segmentation refers to."""
KIDNEY = "list~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^24028007^Right~list~^^~^^"
MASS = "list~SCT^49755003^Morphologically Altered Structure~SCT^4147007^Mass~^^~list~SCT^39607008^Lung~SCT^7771000^Left"
SEGMENTS = [FileSegment(2, "kidney", (0.8, 0.4, 0.2), KIDNEY), FileSegment(3, "absent", (0, 1, 0)),
            FileSegment(7, "Gefäß", (0, 0, 1), MASS)]  # fmt: skip


def oblique() -> np.ndarray:
    """Voxel-to-LPS matrix, turned about two axes, with three spacings."""
    a, b = np.radians((20, -35))
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tip * (0.8, 0.7, 2.5)
    affine[:3, 3] = (-100, -90, -300)
    return affine


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An oblique series whose file names are in no order."""
    write_series(tmp_path / "scan", np.random.default_rng(0).integers(0, 2000, (9, 8, 6)).astype("u2"), oblique(),
                 tags=TAGS)  # fmt: skip
    return tmp_path / "scan"


def labels_of(scan: Path) -> Volume:
    volume = read_volume(scan)
    array = np.zeros(volume.shape, np.int16)
    array[1:4, 2:7, 1:3], array[6, 6, 2:6] = 2, 7
    return volume.with_array(array)


def ras_points(found: Any) -> dict[int, set[tuple[float, ...]]]:
    """Places of every segment's voxels, from the bare headers and without the code under test."""
    shared = found.SharedFunctionalGroupsSequence[0]
    rows, columns = (float(mm) for mm in shared.PixelMeasuresSequence[0].PixelSpacing)
    along = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    places: dict[int, set[tuple[float, ...]]] = {}
    for frame, pixels in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        first = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for row, column in np.argwhere(pixels):
            lps = first + along[0] * columns * column + along[1] * rows * row
            places.setdefault(number, set()).add(tuple(np.round(lps * (-1, -1, 1), 2).tolist()))
    return places


def test_every_voxel_is_where_it_was_and_belongs_to_the_patient(scan: Path, tmp_path: Path) -> None:
    labels = labels_of(scan)
    path = tmp_path / "found.seg.dcm"
    write_dicom_segments(labels, SEGMENTS, scan, path)
    found = pydicom.dcmread(path)
    expected = {
        n: {tuple(np.round(p, 2).tolist()) for p in labels.to_ras(np.argwhere(labels.array == value))}
        for n, value in ((1, 2), (3, 7))
    }
    places = ras_points(found)
    for n, wanted in expected.items():
        got, want = (np.array(sorted(each)) for each in (places[n], wanted))
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=0.02)
    assert 2 not in places
    assert (found.PatientID, found.StudyInstanceUID, found.FrameOfReferenceUID) == ("P7", "1.2.840.1", "1.2.840.2")
    assert found.Modality == "SEG" and found.SeriesInstanceUID != "1.2.3"
    described = found.SegmentSequence
    assert [str(each.SegmentLabel) for each in described] == ["kidney", "absent", "Gefäß"]
    kidney, tissue, mass = (each.SegmentedPropertyTypeCodeSequence[0] for each in described)
    assert (kidney.CodeValue, tissue.CodeMeaning, mass.CodeMeaning) == ("64033007", "Tissue", "Mass")
    assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Right"
    (lung,) = described[2].AnatomicRegionSequence
    assert (lung.CodeMeaning, lung.AnatomicRegionModifierSequence[0].CodeMeaning) == ("Lung", "Left")
    scanned = {pydicom.dcmread(each).SOPInstanceUID for each in scan.iterdir()}
    (series,) = found.ReferencedSeriesSequence
    assert {each.ReferencedSOPInstanceUID for each in series.ReferencedInstanceSequence} <= scanned
    for frame in found.PerFrameFunctionalGroupsSequence:
        (slice_,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert slice_.ReferencedSOPInstanceUID in scanned
    lab = [each.RecommendedDisplayCIELabValue for each in described]
    assert len({tuple(each) for each in lab}) == 3
    ml = 0.8 * 0.7 * 2.5 / 1000
    assert segment_volumes_ml(path, SEGMENTS) == pytest.approx({2: 30 * ml, 3: 0, 7: 4 * ml}, rel=1e-4)


def test_the_grid_tells_the_series(scan: Path, tmp_path: Path) -> None:
    """A larger series in the folder, and one of the same size beside it, are not taken for what was segmented."""
    labels, slices = labels_of(scan), sorted(scan.iterdir())
    elsewhere = oblique()
    elsewhere[:3, 3] += 5 * elsewhere[:3, 0]
    write_series(scan / "larger", np.zeros((9, 8, 12), "u2"), oblique(), tags=TAGS, uid="1.2.2")
    write_series(scan / "elsewhere", np.zeros((9, 8, 6), "u2"), elsewhere, tags=TAGS, uid="1.2.1")
    (scan / "notes.txt").write_text("not DICOM")
    for source in (scan, slices[2]):
        write_dicom_segments(labels, SEGMENTS, source, tmp_path / "a.seg.dcm")
        (series,) = pydicom.dcmread(tmp_path / "a.seg.dcm").ReferencedSeriesSequence
        assert series.SeriesInstanceUID == "1.2.3"
    slices[3].unlink()
    with pytest.raises(VolumeError, match="its slices have changed"):
        write_dicom_segments(labels, SEGMENTS, scan, tmp_path / "a.seg.dcm")


def test_nothing_found_and_next_to_no_headers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """De-identified as far as it goes: what DICOM lets be empty may be missing, too."""
    bare = tmp_path / "bare"
    needed = {tag: TAGS[tag] for tag in ((0x20, 0xD), (0x20, 0x52))}
    write_series(bare, np.zeros((9, 8, 6), "u2"), oblique(), tags=needed)
    labels = read_volume(bare)
    write_dicom_segments(labels.with_array(np.zeros(labels.shape, np.uint8)), SEGMENTS, bare, tmp_path / "a.seg.dcm")
    assert segment_volumes_ml(tmp_path / "a.seg.dcm", SEGMENTS) == {2: 0, 3: 0, 7: 0}
    assert caplog.messages == []


def test_what_cannot_be_is_refused_and_leaves_nothing(scan: Path, tmp_path: Path) -> None:
    labels = labels_of(scan)
    bare = tmp_path / "bare"
    write_series(bare, np.zeros((9, 8, 6), "u2"), oblique(), without=[(0x20, 0xD)])
    with pytest.raises(VolumeError, match="headers lack"):
        write_dicom_segments(labels, SEGMENTS, bare, tmp_path / "a.seg.dcm")
    with pytest.raises(VolumeError, match="not the scan that was read"):
        write_dicom_segments(Volume(labels.array[1:], labels.affine), SEGMENTS, scan, tmp_path / "a.seg.dcm")
    with pytest.raises(VolumeError, match="cannot be written"):
        write_dicom_segments(labels, SEGMENTS, scan, tmp_path / "absent" / "a.seg.dcm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "scan"]
    write_dicom_segments(labels, SEGMENTS, scan, tmp_path / "a.seg.dcm")
    with pytest.raises(VolumeError, match="other structures"):
        segment_volumes_ml(tmp_path / "a.seg.dcm", SEGMENTS[:2])
    whole = (tmp_path / "a.seg.dcm").read_bytes()
    (tmp_path / "cut.seg.dcm").write_bytes(whole[:400])
    with pytest.raises(VolumeError, match="make it again"):
        segment_volumes_ml(tmp_path / "cut.seg.dcm", SEGMENTS)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line in a folder with a DICOM scan, a file of the same, and a head."""
    random_model(tmp_path / "models", tile_shape=(64, 64, 64), statistics=True, name="vox2vec-small")
    monkeypatch.setenv("VOX2VEC_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("VOX2VEC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(console, "LOG_EVERY_S", np.inf)
    monkeypatch.setitem(sys.modules, "openvino", None)  # compiling takes longer than embedding this scan
    monkeypatch.chdir(tmp_path)
    ct = phantom()
    write_series(Path("scan"), (ct.array + 1024).clip(0).astype("u2"), np.diag([-1.0, -1, 1, 1]) @ ct.affine,
                 tags=TAGS)  # fmt: skip
    write_volume(read_volume("scan"), "file.nii.gz")
    array = np.zeros(ct.shape, np.int16)
    array[33, 17:23, 14], array[20:28, 30, 15] = 2, 1
    write_volume(ct.with_array(array), "strokes.nii.gz")
    run = runner(capsys)
    answer(run, "head", "train", "scan", "strokes.nii.gz", "-o", "head.safetensors")
    return run


def test_the_command_writes_dicom_for_dicom(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = ("head", "apply", "scan", "file.nii.gz", "--head", "head.safetensors", "-o", "out", "--format", "seg.dcm")
    code, out, err = run(*apply, "--json")
    result = json.loads(out)
    assert code == 2 and [each["scan"] for each in result["failed"]] == ["file.nii.gz"] and "is not DICOM" in err
    (done,) = result["scans"]
    assert done["labels"] == "out/scan.seg.dcm"
    (name,) = done["ml"]
    expected = answer(run, "head", "apply", "scan", "--head", "head.safetensors", "-o", "labels.nii.gz")
    assert done["ml"][name] == pytest.approx(expected["scans"][0]["ml"][name]) and done["ml"][name] > 0
    again = answer_of_resumed(run, *apply[:2], "scan", *apply[4:])
    assert again["seconds"] is None and again["ml"][name] == pytest.approx(done["ml"][name], abs=1e-3)

    monkeypatch.setitem(sys.modules, "highdicom", None)
    code, out, err = run("head", "apply", "scan", "--head", "head.safetensors", "-o", "x.seg.dcm")
    assert (code, out) == (2, "") and "vox2vec-slicer[dicom]" in err and not Path("x.seg.dcm").exists()


def answer_of_resumed(run: Run, *arguments: object) -> Any:
    code, out, _ = run(*arguments, "--resume", "--json")
    assert code == 0
    return json.loads(out)["scans"][0]
