"""Files on their way between the browser and the server: kept in one temporary folder, gone when the server ends."""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from aiohttp import web

from Vox2VecCore.errors import VolumeError, Vox2VecError

CHUNK = 1 << 20
MAX_FILES = 20_000
MAX_UNPACKED_BYTES = 16 << 30


def safeName(name: str) -> str:
    """The last part of a name that a browser sent, as a file name."""
    last = PurePosixPath(name.replace("\\", "/")).name
    kept = "".join(c if c.isalnum() or c in " ._-+()" else "_" for c in last).lstrip(".")[-120:]
    return kept or "file"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of a ZIP into a folder, flat and under names of our own where names repeat.

    :raises VolumeError: if it is damaged, empty or too large.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            files = [entry for entry in packed.infolist() if not entry.is_dir() and not _isClutter(entry.filename)]
            if not files:
                raise VolumeError(f"{archive.name}: the ZIP holds no files.")
            if len(files) > MAX_FILES or sum(entry.file_size for entry in files) > MAX_UNPACKED_BYTES:
                raise VolumeError(f"{archive.name}: too large to unpack; choose one series.")
            for number, entry in enumerate(files):
                with packed.open(entry) as source, _free(folder, entry.filename, number).open("wb") as target:
                    shutil.copyfileobj(source, target, CHUNK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise VolumeError(f"{archive.name}: cannot be unpacked ({error}); pack it again.") from error


def whatToOpen(folder: Path) -> Path:
    """The scan in a folder of uploaded files: a single file, or the folder itself as a DICOM series."""
    for archive in sorted(folder.glob("*.zip")):
        unpack(archive, folder)
        archive.unlink()
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        raise VolumeError("Nothing was uploaded; choose a CT.")
    named = [
        path for path in files if path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"))
    ]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        raise VolumeError(f"{len(named)} scans were given at once ({named[0].name}, ...); open them one by one.")
    return files[0] if len(files) == 1 else folder


def _isClutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith(".")


def _free(folder: Path, name: str, number: int) -> Path:
    path = folder / safeName(name)
    return folder / f"{number:05d}_{path.name}" if path.exists() else path


class Transfers:
    """Uploads and downloads over HTTP, streamed through files.

    :param onUploaded: called with a purpose and the folder of what has arrived.
    """

    def __init__(self, onUploaded: Callable[[str, Path], None]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vox2vec-view-")
        self._onUploaded = onUploaded
        self._offers: dict[str, Path] = {}

    def newFolder(self) -> Path:
        """An empty folder for files of one purpose."""
        return Path(tempfile.mkdtemp(dir=self._folder.name))

    def offer(self, path: Path) -> str:
        """Address under which the page downloads a file."""
        name = path.parent.name
        self._offers[name] = path
        return f"download/{name}/{path.name}"

    def asTheUserKnows(self, text: str) -> str:
        """A sentence about uploaded files without the temporary folder in which only we know them."""
        folder = re.escape(self._folder.name + os.sep) + r"[^/\\\s]+?"
        return re.sub(folder + "(?=: )", "The uploaded files", re.sub(folder + re.escape(os.sep), "", text))

    def routes(self) -> list[web.RouteDef]:
        """What the server answers to."""
        return [web.post("/upload/{purpose}", self._upload), web.get("/download/{name}/{file}", self._download)]

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    async def _upload(self, request: web.Request) -> web.Response:
        folder = self.newFolder()
        count = 0
        try:
            async for part in await request.multipart():
                if part.filename is None:
                    continue
                count += 1
                if count > MAX_FILES:
                    raise Vox2VecError(f"More than {MAX_FILES} files; choose one series.")
                with _free(folder, part.filename, count).open("wb") as target:
                    while chunk := await part.read_chunk(CHUNK):
                        target.write(chunk)
        except (Vox2VecError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            return web.Response(status=400, text=f"The upload failed: {error}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._onUploaded(request.match_info["purpose"], folder)
        return web.Response(text="ok")

    async def _download(self, request: web.Request) -> web.StreamResponse:
        path = self._offers.get(request.match_info["name"])
        if path is None or path.name != request.match_info["file"] or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path, headers={"Content-Disposition": f'attachment; filename="{path.name}"'})
