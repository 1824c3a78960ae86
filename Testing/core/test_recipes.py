"""The recipe of the shipped model is whole: settings that load, scans that its card names, and a run that starts; what
the README says of measurements is what they gave."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from Testing.support.commands import answer, runner
from Vox2VecCore.cli import console
from Vox2VecCore.pretraining.config import PRESETS, load_config
from Vox2VecCore.pretraining.manifest import read_manifest, restrictions

RECIPES = Path(__file__).parents[2] / "Resources" / "Recipes"
SETTINGS, SCANS = RECIPES / "vox2vec-small.toml", RECIPES / "vox2vec-small.jsonl"


def test_settings_are_those_of_the_preset() -> None:
    assert load_config(SETTINGS) == PRESETS["small"]


def test_scans_are_those_of_the_card() -> None:
    training = json.loads((RECIPES.parent / "Models" / "vox2vec-small" / "config.json").read_text())["training"]
    entries = [entry for entry in read_manifest(SCANS) if entry.split == "train"]
    assert [entry.id for entry in entries] == training["scans"]
    assert Counter(entry.licence for entry in entries) == training["licences"]
    assert not any(restrictions(str(entry.licence)) for entry in entries)


def test_probe_scans_are_not_trained_on() -> None:
    splits: dict[str | None, set[str]] = {}
    for entry in read_manifest(SCANS):
        splits.setdefault(entry.split, set()).add(entry.subject)
    assert set(splits) == {"train", "probe"}
    assert len(splits["probe"]) == 2 and not splits["train"] & splits["probe"]


def test_the_command_of_the_readme_starts(
    shared_ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, for two steps instead of 1300, with its two smallest scans and without its tests of whole scans."""
    monkeypatch.setattr(console, "LOG_EVERY_S", float("inf"))
    few = [line for line in SCANS.read_text().splitlines(keepends=True) if '"sts_007"' in line or '"sts_037"' in line]
    (tmp_path / "few.jsonl").write_text("".join(few))
    given = ("--config", SETTINGS, "--data", tmp_path / "few.jsonl", "--root", shared_ct, "--steps", 2)
    result = answer(runner(capsys), "pretrain", *given, "--out", tmp_path / "run")
    assert (result["scans"], result["steps"]) == (2, 2)
    with (tmp_path / "run" / "log.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 1


def test_the_readme_quotes_the_benchmark() -> None:
    root = RECIPES.parents[1]
    bench = (root / "Testing" / "benchmarks" / "bench.md").read_text(encoding="utf-8")
    readme = (root / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in bench.splitlines() if line.startswith("| ")]
    assert len(rows) > 20 and [row for row in rows if row not in readme] == []
