"""Files that Slicer has written quickly and without compression, made small: for a thread beside the event loop."""

import gzip
import shutil
import zipfile
from pathlib import Path

CHUNK = 1 << 20
LEVEL = 1
"""Of compression: CT hardly becomes smaller by a higher one, which takes three times as long."""
END_OF_HEADER = b"\n\n"


def compressNrrd(plain: Path, path: Path) -> None:
    """Compress the voxels of an NRRD file; the header stays as it is. The plain file goes."""
    try:
        with plain.open("rb") as source, path.open("wb") as target:
            head = source.read(CHUNK)
            header, found, _ = head.partition(END_OF_HEADER)
            if not found or b"encoding: raw" not in header:
                raise OSError("it is not what Slicer writes")
            target.write(header.replace(b"encoding: raw", b"encoding: gzip") + END_OF_HEADER)
            source.seek(len(header) + len(END_OF_HEADER))
            with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=LEVEL) as packed:
                shutil.copyfileobj(source, packed, CHUNK)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        plain.unlink(missing_ok=True)


def packFolder(folder: Path, path: Path) -> None:
    """Put a folder, under its name, into a ZIP file; the folder goes."""
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as packed:
            for each in sorted(folder.rglob("*")):
                if each.is_file():
                    entry = zipfile.ZipInfo.from_file(each, f"{folder.name}/{each.relative_to(folder).as_posix()}")
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with each.open("rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target, CHUNK)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
