"""Official vox2vec weights from the Hugging Face Hub, checked against the hash the Hub states, then imported."""

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from Vox2VecCore.errors import ModelError
from Vox2VecCore.model import Model, load_model
from Vox2VecCore.model_import import import_official
from Vox2VecCore.paths import models_folder
from Vox2VecCore.progress import Progress

REPOSITORY = "mishgon/vox2vec"
REVISION = "29dfa9718434a58b3241af3c43dca90c867bea15"
CHECKPOINTS = {"vox2vec": "vox2vec_contrastive.pt", "vox2vec-vicreg": "vox2vec_vicreg.pt"}
LICENCE = "MIT, as stated on the Hub; part of its pretraining data is for non-commercial use"
TIMEOUT_S = 30.0
BLOCK = 1 << 20


def fetch_model(name: str, *, progress: Progress | None = None) -> Model:
    """Download an official model once; later calls answer from disk.

    :param name: ``"vox2vec"`` (contrastive) or ``"vox2vec-vicreg"``.
    :raises ModelError: without a network, for a file that is not the one the Hub describes, or an unknown name.
    """
    if name not in CHECKPOINTS:
        raise ModelError(f"Unknown model '{name}'; to be fetched are {', '.join(CHECKPOINTS)}.")
    directory = models_folder() / name
    if directory.is_dir():
        return load_model(directory)
    source = f"Hugging Face Hub, {REPOSITORY}, {CHECKPOINTS[name]}, revision {REVISION}"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-") as folder:
            checkpoint = Path(folder) / CHECKPOINTS[name]
            _download(CHECKPOINTS[name], checkpoint, progress or Progress())
            return import_official(checkpoint, directory, name=name, licence=LICENCE, source=source)
    except OSError as error:
        raise ModelError(f"{directory.parent}: the model cannot be stored ({error}); check space, rights.") from error


class _RememberFirstHeaders(urllib.request.HTTPRedirectHandler):
    """The Hub states hash and size of a large file on its own answer, before it redirects to a file server."""

    headers: dict[str, str]

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        self.headers = {**dict(headers.items()), **getattr(self, "headers", {})}
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(file_name: str, target: Path, progress: Progress) -> None:
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    url = f"{hub}/{REPOSITORY}/resolve/{REVISION}/{file_name}"
    redirects = _RememberFirstHeaders()
    digest = hashlib.sha256()
    try:
        with urllib.request.build_opener(redirects).open(url, timeout=TIMEOUT_S) as answer, target.open("wb") as out:
            headers = {k.lower(): v for k, v in [*answer.headers.items(), *getattr(redirects, "headers", {}).items()]}
            total = int(headers.get("x-linked-size") or headers.get("content-length") or 0)
            done = 0
            while block := answer.read(BLOCK):
                out.write(block)
                digest.update(block)
                done += len(block)
                progress.step("Downloading", done, max(total, done))
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ModelError(
            f"The official weights could not be downloaded ({reason}); on a computer without internet copy "
            f"{file_name} there and run 'vox2vec models import {file_name} --out DIR'."
        ) from error
    stated = headers.get("x-linked-etag", "").strip('W/"')
    if stated != digest.hexdigest():
        raise ModelError(f"{file_name}: the download is not the file that the Hub describes (hash differs); try again.")
