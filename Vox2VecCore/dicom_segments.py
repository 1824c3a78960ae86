"""Label maps of DICOM scans as DICOM Segmentation objects (SEG), through highdicom.

The object refers to the very slices that were segmented and belongs to their patient, study and frame of reference.
Segments are binary: label map segmentations are too new for most readers.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Vox2VecCore.dicom import files_of
from Vox2VecCore.dicom_files import PREAMBLE, PREAMBLE_AT, is_dicom
from Vox2VecCore.errors import MissingExtraError, VolumeError
from Vox2VecCore.paths import replace_file
from Vox2VecCore.slicer_segments import FileSegment
from Vox2VecCore.versions import installed_version
from Vox2VecCore.volume import Volume

SUFFIX = ".dcm"
EXTRA = "dicom"
MAKER, PRODUCT, SERIES_NUMBER = "Vox2Vec", "Vox2Vec few-shot head", 900
Code = tuple[str, str, str]
"""Scheme, value, meaning."""
TISSUE: Code = ("SCT", "85756007", "Tissue")
"""Category and type of a segment that brings none, as 3D Slicer has it."""
SEGMENT_OF_FRAME = "SegmentIdentificationSequence"
LONGEST_LABEL = 64
"""Characters of DICOM's LO."""
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Of patient and study; de-identified scans often lack them altogether, and highdicom insists on them."""


def need_highdicom() -> None:
    """Say so when highdicom is not installed, before the long work starts.

    :raises MissingExtraError: if it is not.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Writing DICOM SEG", EXTRA) from error


def check_source(scan: Path) -> None:
    """Say before the long work that a scan is not DICOM.

    :raises MissingExtraError: if highdicom is not installed.
    :raises VolumeError: if it is not.
    """
    need_highdicom()
    if scan.is_file():
        with scan.open("rb") as file:
            dicom = is_dicom(file.read(PREAMBLE_AT + len(PREAMBLE))) or scan.name.upper() == "DICOMDIR"
        if not dicom:
            raise VolumeError(f"{scan}: is not DICOM, so there is nothing a DICOM SEG could refer to; write nii.gz.")


def segment_volumes_ml(path: Path, segments: Sequence[FileSegment]) -> dict[int, float]:
    """Millilitres of every segment, by value, from a file that :func:`write_dicom_segments` wrote.

    :raises VolumeError: if it cannot be read, or holds other segments.
    """
    need_highdicom()
    import pydicom

    try:
        found = pydicom.dcmread(path)
        labels = [str(each.SegmentLabel) for each in found.SegmentSequence]
        shared = found.SharedFunctionalGroupsSequence[0]
        # What all frames have in common is said once: the number, too, when there is one segment.
        numbers = [
            int((each if SEGMENT_OF_FRAME in each else shared)[SEGMENT_OF_FRAME][0].ReferencedSegmentNumber)
            for each in found.PerFrameFunctionalGroupsSequence
        ]
        measures = shared.PixelMeasuresSequence[0]
        between = float(measures.SpacingBetweenSlices)
        ml = float(np.prod([float(mm) for mm in measures.PixelSpacing])) * between / 1000
        frames = found.pixel_array.reshape(len(numbers), -1)
    except (OSError, AttributeError, KeyError, IndexError, ValueError, pydicom.errors.InvalidDicomError) as error:
        raise VolumeError(f"{path}: is damaged or no DICOM SEG ({error}); make it again.") from error
    if labels != [_label(each) for each in segments]:
        raise VolumeError(f"{path}: holds other structures; make it again.")
    counts = np.zeros(len(segments) + 1)
    np.add.at(counts, numbers, frames.sum(axis=1, dtype=np.int64))
    return {each.value: float(counts[n]) * ml for n, each in enumerate(segments, start=1)}


def write_dicom_segments(labels: Volume, segments: Sequence[FileSegment], source: Path, path: Path) -> None:
    """Write a label map as DICOM SEG; the file appears complete or not at all.

    :param labels: values of the segments, 0 elsewhere, on the grid of the scan.
    :param segments: those of which no voxel is there are listed, too.
    :param source: what the scan was read from: a DICOM folder, or one of its slices.
    :raises MissingExtraError: if highdicom is not installed.
    :raises VolumeError: if the scan is not DICOM any more, its headers lack what a segmentation must refer to,
        or the file cannot be written.
    """
    need_highdicom()
    import highdicom as hd

    slices = _headers(labels, source)
    between = _slice_distance_mm(labels)
    for each in slices:
        for name in MAY_BE_EMPTY:
            if name not in each:
                setattr(each, name, "")
        if not each.get("SliceThickness"):  # may be empty in CT, too
            each.SliceThickness = between
    try:
        with replace_file(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of the source, which are not ours to put right
            found = hd.seg.Segmentation(
                source_images=slices,
                pixel_array=_numbered(labels, segments),
                pixel_measures=_measures(slices[0], between),
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[_description(n, each) for n, each in enumerate(segments, start=1)],
                series_instance_uid=hd.UID(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                omit_empty_frames=bool(labels.array.any()),  # of which it would complain when there are no others
                manufacturer=MAKER,
                manufacturer_model_name=PRODUCT,
                software_versions=_version(),
                device_serial_number="none",
                content_description="Segmentation from strokes, for research",
                series_description="Vox2Vec segmentation",
            )
            found.save_as(temporary)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise VolumeError(
            f"{source}: its DICOM headers lack what a segmentation must refer to ({error}); write nii.gz instead."
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise VolumeError(f"{path}: cannot be written ({reason}); free space or choose another folder.") from error


def _headers(labels: Volume, source: Path) -> list[Any]:
    """Headers of the slices that a label map lies on, in order of k.

    :raises VolumeError: if not every slice is there.
    """
    import pydicom

    try:
        return [pydicom.dcmread(path, stop_before_pixels=True) for path in files_of(labels, source)]
    except (pydicom.errors.InvalidDicomError, OSError) as error:
        raise VolumeError(f"{source}: its slices cannot be read any more ({error}).") from error


def _numbered(labels: Volume, segments: Sequence[FileSegment]) -> np.ndarray:
    """Segment numbers, which count from 1 in order, as frames (k, j, i)."""
    table = np.zeros(int(labels.array.max()) + 1, np.uint8 if len(segments) < 256 else np.uint16)
    for n, segment in enumerate(segments, start=1):
        if segment.value < len(table):
            table[segment.value] = n
    return np.ascontiguousarray(table[labels.array].transpose(2, 1, 0))


def _slice_distance_mm(labels: Volume) -> float:
    i, j, k = labels.affine[:3, :3].T
    normal = np.cross(i, j)
    return round(abs(float(k @ normal)) / float(np.linalg.norm(normal)), 6)


def _measures(first: Any, between: float) -> Any:
    """Sizes of voxels; the distance of slices is the real one, which headers state wrongly or not at all."""
    import highdicom as hd

    return hd.PixelMeasuresSequence(
        pixel_spacing=[float(mm) for mm in first.PixelSpacing], slice_thickness=between, spacing_between_slices=between
    )


def _label(segment: FileSegment) -> str:
    return " ".join(segment.name.split())[:LONGEST_LABEL]


def _description(number: int, segment: FileSegment) -> Any:
    import highdicom as hd

    category, kind, modifier, region, side = _codes(segment.terminology)
    found = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=_label(segment),
        segmented_property_category=_concept(category or TISSUE),
        segmented_property_type=_concept(kind or TISSUE),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=PRODUCT, version=_version(), family=_concept(("DCM", "123110", "Artificial Intelligence"))
        ),
        anatomic_regions=None if region is None else [_concept(region)],
        display_color=hd.color.CIELabColor.from_rgb(*(round(255 * part) for part in segment.colour)),
    )
    # Which side a structure is on; highdicom has no arguments for that.
    if kind and modifier:
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [_concept(modifier)]
    if region and side:
        found.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(side)]
    return found


def _codes(terminology: str) -> tuple[Code | None, ...]:
    """Category, type and its modifier, anatomic region and its modifier; ``None`` for those that are not given.

    Slicer writes ``list~category~type~modifier~list~region~modifier``, each code as ``scheme^value^meaning``.
    """
    parts = [*terminology.split("~"), *[""] * 7]
    found: list[Code | None] = []
    for n in (1, 2, 3, 5, 6):
        scheme, value, meaning = [*parts[n].split("^"), "", "", ""][:3]
        found.append((scheme, value, meaning) if scheme and value and meaning else None)
    return tuple(found)


def _concept(code: Code) -> Any:
    import highdicom as hd

    scheme, value, meaning = code
    return hd.sr.CodedConcept(value, scheme, meaning[:LONGEST_LABEL])


def _version() -> str:
    return installed_version("vox2vec-slicer") or "unknown"
