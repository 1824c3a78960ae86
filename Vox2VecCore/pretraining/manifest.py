"""The manifest: one JSON line per scan, written from a data set's folders by layouts.build_manifest."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Protocol

from Vox2VecCore.paths import replace_file
from Vox2VecCore.pretraining.errors import PretrainingError


@dataclass(frozen=True)
class ScanEntry:
    """One scan of a data set.

    :param id: unique in the manifest.
    :param subject: patient; scans of one patient share it and never fall into different splits.
    :param image: file, or folder of a DICOM series.
    :param labels: label map file, or folder with one mask per structure.
    :param split: such as ``"train"``.
    :param licence: of the images.
    :param layout: how the scan was found.
    """

    id: str
    subject: str
    image: str
    labels: str | None = None
    split: str | None = None
    licence: str | None = None
    layout: str = "flat"


class HasLicence(Protocol):
    """Anything with a licence."""

    @property
    def licence(self) -> str | None:
        """Of the images."""


def read_manifest(path: Path, root: Path | None = None) -> list[ScanEntry]:
    """Entries of a manifest.

    :param root: folder that relative paths count from; the manifest's own when left out.

    :raises PretrainingError: if the file cannot be read, is empty, has a wrong line, or the same id twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PretrainingError(f"{path}: cannot be read; give a manifest, as 'vox2vec manifest' writes it.") from error
    entries = [_entry(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise PretrainingError(f"{path}: the manifest lists no scan; check the folder and layout it was made from.")
    twice = [id for id, count in Counter(entry.id for entry in entries).items() if count > 1]
    if twice:
        raise PretrainingError(f"{path}: id {twice[0]} is listed more than once; ids must be unique.")
    folder = path.parent if root is None else root
    return [
        replace(
            entry,
            image=str(folder / entry.image),
            labels=None if entry.labels is None else str(folder / entry.labels),
        )
        for entry in entries
    ]


def write_manifest(entries: Iterable[ScanEntry], path: Path) -> None:
    """Write entries as JSON lines, settings that are ``None`` left out; an existing file is replaced at once.

    :raises PretrainingError: if the file cannot be written.
    """
    lines = (json.dumps({k: v for k, v in asdict(entry).items() if v is not None}) + "\n" for entry in entries)
    try:
        with replace_file(path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise PretrainingError(f"{path}: cannot be written ({error.strerror}); check space and rights.") from error


def split_by_subject(entries: Sequence[ScanEntry], fractions: Mapping[str, float], seed: int = 0) -> list[ScanEntry]:
    """Entries with splits; all scans of a subject get the same one.

    The split of a subject depends on its name and the seed alone, so that it stays when scans are added.

    :param fractions: share of every split; together 1.
    """
    if abs(sum(fractions.values()) - 1) > 1e-6 or any(f < 0 for f in fractions.values()):
        raise PretrainingError(f"Split fractions {dict(fractions)} must not be negative and must add up to 1.")

    def split(subject: str) -> str:
        digest = hashlib.sha256(f"{seed} {subject}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        for name, fraction in fractions.items():
            if place < fraction:
                return name
            place -= fraction
        return next(reversed(list(fractions)))

    return [replace(entry, split=split(entry.subject)) for entry in entries]


def licence_report(entries: Iterable[HasLicence]) -> dict[str, int]:
    """Scans per licence, ``"not stated"`` for entries without one; for the model card."""
    return dict(sorted(Counter(entry.licence or "not stated" for entry in entries).items()))


def restrictions(licence: str) -> list[str]:
    """What a licence is known to forbid or demand of models trained on its data, by its usual abbreviations."""
    words = set(re.split(r"[^a-z]+", licence.lower()))
    found = {"nc": "non-commercial", "sa": "share-alike", "nd": "no derivatives"}
    return [meaning for word, meaning in found.items() if word in words or meaning in licence.lower()]


def with_paths_from(entries: Iterable[ScanEntry], folder: Path) -> list[ScanEntry]:
    """Entries whose paths count from a folder, so that manifest and data can be moved together."""

    def relative(path: str) -> str:
        return Path(os.path.relpath(path, folder)).as_posix()

    return [
        replace(e, image=relative(e.image), labels=None if e.labels is None else relative(e.labels)) for e in entries
    ]


def _entry(line: str, where: str) -> ScanEntry:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise PretrainingError(f"{where}: not valid JSON ({error}); write one object a line.") from error
    known = {f.name for f in fields(ScanEntry)}
    if not isinstance(values, dict) or not {"id", "subject", "image"} <= set(values) <= known:
        raise PretrainingError(f"{where}: needs id, subject and image, and may have {', '.join(sorted(known))}.")
    if not all(isinstance(v, str) or v is None for v in values.values()):
        raise PretrainingError(f"{where}: all values are texts.")
    return ScanEntry(**values)
