"""NRRD and MetaImage (.nrrd, .nhdr, .mha, .mhd) through SimpleITK; MetaImage is written without it."""

import math
import sys
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from Vox2VecCore.byte_streams import decompress_blocks
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.stored_scan import GeometryWarning, StoredScan, pick_frame, real_values, swap_lps_ras

NRRD_IO = "NrrdImageIO"
META_IO = "MetaImageIO"
COMPRESSION_LEVEL = 6
"""Measured on a chest CT and its labels: 25 % and 56 % smaller than level 1 in two to three times the time."""
META_COMPRESSION_LEVEL = 4
"""Python's zlib is slower than SimpleITK's: of that CT this makes 2 % more bytes in three quarters of the time."""
ORTHOGONAL_TOLERANCE = 1e-3
LINE_BYTES = 1 << 16
META_TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16",
    "MET_INT": "int32", "MET_FLOAT": "float32", "MET_DOUBLE": "float64",
}  # fmt: skip
META_NEEDS = {"ndims", "dimsize", "elementtype", "elementdatafile"}
META_HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = {big_endian}
CompressedData = True
CompressedDataSize = {bytes}
TransformMatrix = {directions}
Offset = {origin}
ElementSpacing = {spacing}
DimSize = {shape}
ElementType = {type}
ElementDataFile = LOCAL
"""
DAMAGED = "is damaged, cut off, or lacks its data file; copy or export it again."

NRRD_SPACES = {
    "left-posterior-superior": (1.0, 1.0),
    "left-posterior-superior-time": (1.0, 1.0),
    "left-anterior-superior-time": (1.0, -1.0),
    "right-anterior-superior-time": (-1.0, -1.0),
}
"""Signs of x and y that make LPS of what SimpleITK returns: it converts the spaces without time, not those with it."""


def read_itk(path: Path, image_io: str, frame: int | None = None) -> StoredScan:
    """Read one volume.

    :param image_io: ``NRRD_IO`` or ``META_IO``; SimpleITK would guess from content whatever the name says.
    :param frame: which volume of a 4D file.
    :raises VolumeError: if the file is damaged, 4D without ``frame``, or has several values a voxel.
    :warns GeometryWarning: if a NRRD file does not name its anatomical space.
    """
    _verify_data(path, image_io)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _choose_volume(reader, path, frame)
        stored = sitk.GetArrayFromImage(reader.Execute()).T
    except RuntimeError as error:
        raise VolumeError(f"{path}: {DAMAGED}") from error
    if stored.dtype.kind not in "iuf":
        raise VolumeError(f"{path}: holds complex numbers, not the values of a CT.")
    lps = _affine_lps(reader)
    if image_io == NRRD_IO:
        space = reader.GetMetaData("NRRD_space") if reader.HasMetaDataKey("NRRD_space") else ""
        if space not in NRRD_SPACES:
            message = f"{path}: the file names no anatomical space; left and right are a guess."
            warnings.warn(message, GeometryWarning, stacklevel=2)
        lps[:2] *= np.array(NRRD_SPACES.get(space, (1.0, 1.0)))[:, None]
    return StoredScan(real_values(stored), stored.shape, swap_lps_ras(lps))


def write_itk(array: NDArray, affine: NDArray[np.float64], path: Path, fields: Mapping[str, str]) -> None:
    """Write NRRD or MetaImage by the suffix of ``path``, compressed, and read it back.

    SimpleITK reports no error when a full disk swallows the last bytes of a NRRD file (measured: small files or tails
    that fit its buffer), hence the reading.

    :param fields: further fields of the header, for which MetaImage has no room.
    :raises ValueError: if the matrix has shear, which these formats do not promise to keep.
    :raises OSError: if what lies on the disk afterwards is not what was written.
    """
    lps = swap_lps_ras(affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / spacing
    if not np.allclose(directions.T @ directions, np.eye(3), atol=ORTHOGONAL_TOLERANCE):
        raise ValueError("this format cannot hold a sheared grid (tilted gantry); write .nii.gz instead")
    try:
        if path.suffix == ".mha":
            _write_meta(array, directions, spacing, lps[:3, 3], path)
        else:
            image = sitk.GetImageFromArray(array.T)
            image.SetSpacing(spacing.tolist())
            image.SetOrigin(lps[:3, 3].tolist())
            image.SetDirection(directions.ravel().tolist())
            for key, value in fields.items():
                image.SetMetaData(key, value)
            sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=COMPRESSION_LEVEL)
        written = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise OSError("the disk is full or the folder not writable") from error
    if not np.array_equal(sitk.GetArrayViewFromImage(written), array.T, equal_nan=array.dtype.kind == "f"):
        raise OSError("what was written does not read back")


def _write_meta(array: NDArray, directions: NDArray, spacing: NDArray, origin: NDArray, path: Path) -> None:
    """Write MetaImage, as https://itk.org/Wiki/ITK/MetaIO/Documentation describes it.

    On a full disk SimpleITK would write a line of its own to the terminal, and not say what went wrong.

    :param directions: those of (i, j, k) in the columns, LPS.
    """
    data = zlib.compress(np.ascontiguousarray(array.T).data, META_COMPRESSION_LEVEL)

    def numbers(values: NDArray) -> str:
        return " ".join(map(repr, values.ravel(order="F").tolist()))

    header = META_HEADER.format(
        big_endian=sys.byteorder == "big",
        bytes=len(data),
        directions=numbers(directions),
        origin=numbers(origin),
        spacing=numbers(spacing),
        shape=" ".join(map(str, array.shape)),
        type=next(name for name, kind in META_TYPES.items() if kind == array.dtype.name),
    )
    with path.open("wb") as file:
        file.write(header.encode())
        file.write(data)


def _choose_volume(reader: sitk.ImageFileReader, path: Path, frame: int | None) -> None:
    """Check that the file holds 3D volumes of single values, and make the reader yield one of them."""
    values, dimensions = reader.GetNumberOfComponents(), reader.GetDimension()
    if values > 1:
        raise VolumeError(
            f"{path}: holds {values} values a voxel (colours or several volumes), not one in HU; export it as CT."
        )
    size = list(reader.GetSize())
    if dimensions not in (3, 4):
        raise VolumeError(f"{path}: expected a 3D volume, got {' x '.join(map(str, size))} voxels.")
    frames = size[3] if dimensions == 4 else 1
    chosen = pick_frame(str(path), frames, frame)
    if dimensions == 4:
        reader.SetExtractSize([*size[:3], 0])
        reader.SetExtractIndex([0, 0, 0, chosen])


def _affine_lps(reader: sitk.ImageFileReader) -> NDArray[np.float64]:
    dimensions = reader.GetDimension()
    directions = np.array(reader.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    lps = np.eye(4)
    lps[:3, :3] = directions * reader.GetSpacing()[:3]
    lps[:3, 3] = reader.GetOrigin()[:3]
    return lps


def _verify_data(path: Path, image_io: str) -> None:
    """Refuse damaged compressed data, of which SimpleITK makes wrong values, and MetaImage data that are not all there.

    Measured with one flipped bit at a time: MetaImage read wrong values in 97 % of the cases, NRRD in 6 %. Of missing
    data MetaImage writes to the terminal by itself.
    """
    meta = image_io == META_IO
    fields, begin = _header(path, "=" if meta else ":")
    if meta and not set(fields) >= META_NEEDS:
        raise VolumeError(f"{path}: {DAMAGED}")
    if {"lineskip", "byteskip", "headersize"} & set(fields):
        return
    data = fields.get("elementdatafile", fields.get("datafile", "LOCAL"))
    file, begin = (path, begin) if data.upper() == "LOCAL" else (path.parent / data, 0)
    if fields.get("compresseddata", fields.get("encoding", "")).lower() in ("true", "gzip", "gz"):
        for _ in decompress_blocks(file, begin) if file.is_file() else ():
            pass
    elif meta and not {" ", "%"} & set(data) and data.upper() != "LIST":
        sizes = [*fields.get("dimsize", "").split(), fields.get("elementnumberofchannels", "1")]
        voxel = np.dtype(META_TYPES.get(fields.get("elementtype", ""), "V0")).itemsize
        expected = voxel * math.prod(int(n) for n in sizes if n.isdigit())
        if not file.is_file() or file.stat().st_size - begin < expected:
            raise VolumeError(f"{path}: {DAMAGED}")


def _header(path: Path, separator: str) -> tuple[dict[str, str], int]:
    """Fields of a header of lines, and the first byte after it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES).decode("latin-1").strip():
            key, _, value = line.partition(separator)
            fields[key.replace(" ", "").lower()] = value.strip()
            if "elementdatafile" in fields:  # the last of MetaImage
                break
        return fields, file.tell()
