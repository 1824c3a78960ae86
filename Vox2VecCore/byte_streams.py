"""Bytes of a file in blocks, decompressed and verified."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from Vox2VecCore.errors import VolumeError

READ_BYTES = 1 << 16
"""Small, because zeros expand a thousandfold."""
GZIP_OR_ZLIB = 47
"""zlib's window size, with the flag that tells the two headers apart."""


def read_blocks(path: Path, begin: int = 0) -> Iterator[bytes]:
    """The bytes of a file from ``begin`` on; no block is empty.

    :raises VolumeError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(begin)
            while block := file.read(READ_BYTES):
                yield block
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read ({error.strerror}).") from error


def decompress_blocks(path: Path, begin: int = 0) -> Iterator[bytes]:
    """What is compressed by gzip or zlib in a file from ``begin`` on; no block is empty.

    Chains of gzip streams, with zeros between and after, count as one.

    :raises VolumeError: if the file cannot be read, ends early, or its check sum (at the very end) is wrong.
    """
    decompressor = zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        for compressed in read_blocks(path, begin):
            while compressed:
                if decompressor.eof:
                    compressed = compressed.lstrip(b"\0")
                    if not compressed:
                        break
                    decompressor = zlib.decompressobj(GZIP_OR_ZLIB)
                if block := decompressor.decompress(compressed):
                    yield block
                compressed = decompressor.unused_data
    except zlib.error as error:
        raise VolumeError(f"{path}: its compressed data are damaged; copy or export the file again.") from error
    if not decompressor.eof:
        raise VolumeError(f"{path}: is cut off within its compressed data; copy or export the file again.")
