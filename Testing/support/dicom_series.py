"""Synthetic DICOM series, written byte by byte: what SimpleITK reads must not have been written by it."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CT = "1.2.840.10008.5.1.4.1.1.2"
RT_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
DIRECTORY = "1.2.840.10008.1.3.10"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

Tag = tuple[int, int]
POSITION, ORIENTATION, PIXEL_SPACING, THICKNESS = (0x20, 0x32), (0x20, 0x37), (0x28, 0x30), (0x18, 0x50)
DESCRIPTION = (0x8, 0x103E)


def write_slice(
    path: Path,
    pixels: NDArray,
    affine_lps: NDArray[np.float64],
    *,
    uid: str = "1.2.3",
    modality: str = "CT",
    rescale: tuple[str, str] | None = ("1", "-1024"),
    frames: int = 1,
    tags: Mapping[Tag, tuple[str, str | bytes]] | None = None,
    without: Sequence[Tag] = (),
    storage_class: str = CT,
) -> None:
    """One file.

    :param pixels: (rows, columns), or (rows, columns, 3) for a colour image, times ``frames`` along the rows.
    :param affine_lps: 4x4 matrix from (column, row, 0) to LPS millimetres.
    :param rescale: slope and intercept.
    :param tags: further tags as (VR, value), or other values for those written anyway.
    :param without: tags left out.
    """
    rows, columns = pixels.shape[0] // frames, pixels.shape[1]
    spacing = np.linalg.norm(affine_lps[:3, :2], axis=0)
    bits = 8 * pixels.itemsize
    values: dict[Tag, tuple[str, str | bytes]] = {
        (0x8, 0x16): ("UI", storage_class),
        (0x8, 0x18): ("UI", f"1.2.3.4.{abs(hash(path))}"),
        (0x8, 0x60): ("CS", modality),
        DESCRIPTION: ("LO", "Chest"),
        (0x20, 0xD): ("UI", "1.2"),
        (0x20, 0xE): ("UI", uid),
        POSITION: ("DS", _decimals(affine_lps[:3, 3])),
        ORIENTATION: ("DS", _decimals((affine_lps[:3, :2] / spacing).T.ravel())),
        (0x28, 0x2): ("US", _short(1 if pixels.ndim == 2 else 3)),
        (0x28, 0x4): ("CS", "MONOCHROME2" if pixels.ndim == 2 else "RGB"),
        (0x28, 0x10): ("US", _short(rows)),
        (0x28, 0x11): ("US", _short(columns)),
        PIXEL_SPACING: ("DS", _decimals(spacing[::-1])),
        (0x28, 0x100): ("US", _short(bits)),
        (0x28, 0x101): ("US", _short(bits)),
        (0x28, 0x102): ("US", _short(bits - 1)),
        (0x28, 0x103): ("US", _short(int(pixels.dtype.kind == "i"))),
        (0x7FE0, 0x10): ("OW", pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()),
    }
    if frames > 1:
        values[0x28, 0x8] = ("IS", str(frames))
    if pixels.ndim == 3:
        values[0x28, 0x6] = ("US", _short(0))
    if rescale is not None:
        values[0x28, 0x1052], values[0x28, 0x1053] = ("DS", rescale[1]), ("DS", rescale[0])
    values.update(tags or {})
    meta = (
        _element((0x2, 0x1), "OB", b"\0\1")
        + _element((0x2, 0x2), "UI", storage_class)
        + _element((0x2, 0x3), "UI", values[0x8, 0x18][1])
        + _element((0x2, 0x10), "UI", EXPLICIT_LITTLE_ENDIAN)
    )
    body = b"".join(_element(tag, *values[tag]) for tag in sorted(values) if tag not in without)
    length = _element((0x2, 0x0), "UL", struct.pack("<I", len(meta)))
    path.write_bytes(b"\0" * 128 + b"DICM" + length + meta + body)


def write_series(
    folder: Path, stored: NDArray, affine_lps: NDArray[np.float64], seed: int = 0, **options: object
) -> list[Path]:
    """A series in files whose names say nothing about their order.

    :param stored: (i, j, k) pixel values before the rescale.
    :param affine_lps: 4x4 matrix from (i, j, k) to LPS millimetres; may be sheared along k.
    :returns: files in order of k.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(stored.shape[2])
    paths = [folder / f"IM{number:04d}.dcm" for number in order]
    for k, path in enumerate(paths):
        affine = affine_lps.copy()
        affine[:3, 3] += k * affine[:3, 2]
        write_slice(path, np.ascontiguousarray(stored[:, :, k].T), affine, **options)  # type: ignore[arg-type]
    return paths


def write_structures(path: Path) -> None:
    """A DICOM object without an image, which names CT images in its first bytes as contours do."""
    image = [(0x28, tag) for tag in (0x2, 0x4, 0x10, 0x11, 0x30, 0x100, 0x101, 0x102, 0x103)] + [(0x7FE0, 0x10)]
    reference = {(0x8, 0x1150): ("UI", CT)}
    write_slice(
        path,
        np.zeros((2, 2), "u2"),
        np.eye(4),
        uid="1.9",
        modality="RTSTRUCT",
        storage_class=RT_STRUCTURES,
        without=image,
        tags=reference,
    )


def _element(tag: Tag, representation: str, value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    if len(data) % 2:
        data += b"\0" if representation in ("UI", "OB") else b" "
    header = struct.pack("<HH2s", *tag, representation.encode())
    long = representation in ("OB", "OW")
    return header + (struct.pack("<HI", 0, len(data)) if long else struct.pack("<H", len(data))) + data


def _short(value: int) -> bytes:
    return struct.pack("<H", value)


def _decimals(values: NDArray[np.float64]) -> str:
    """Decimal strings of DICOM: at most 16 characters each."""
    return "\\".join(f"{value:.9g}" for value in values)
