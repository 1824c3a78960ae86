"""Settings: strict keys and types, presets, overrides, and a file that reads back as itself."""

from pathlib import Path

import pytest

from Vox2VecCore.errors import SettingsError
from Vox2VecCore.pretraining.config import PRESETS, load_config
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.settings import differences, to_toml


@pytest.mark.parametrize("preset", PRESETS)
def test_resolved_settings_read_back(preset: str, tmp_path: Path) -> None:
    config = load_config(preset=preset, overrides=["loss.temperature=0.2", "spacing_mm=[2, 2, 3]", "precision=fp32"])
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "config.toml", preset=preset) == config
    assert config.loss.temperature == 0.2 and config.spacing_mm == (2.0, 2.0, 3.0) and config.precision == "fp32"
    assert differences(config, PRESETS[preset]) == ["loss.temperature", "spacing_mm", "precision"] or preset != "small"


def test_file_may_name_its_preset(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('preset = "vox2vec"\n[optimisation]\nsteps = 7\n')
    config = load_config(tmp_path / "c.toml")
    assert config.sampling.pairs == 10 and config.optimisation.steps == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.temprature=1", "Unknown setting 'loss.temprature'"),
        ("colour=red", "Unknown setting 'colour'"),
        ("seed=1.5", "seed cannot be"),
        ("seed=true", "seed cannot be"),
        ("loss=3", "loss cannot be"),
        ("loss.negatives=none", "one of patient, all"),
        ("spacing_mm=[1, 2]", "spacing_mm cannot be"),
        ("seed", "not key=value"),
        ("sampling.smallest_view=[8, 8, 8]", "coarsest stride"),
        ("sampling.smallest_view=[96, 96, 96]", "must not be larger"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises((SettingsError, PretrainingError), match=message):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.toml", "a = ", "not valid TOML"),
        ("c.toml", 'preset = "x"', "Unknown preset"),
        ("c.toml", "[loss]\nx = 1", r"loss\.x"),
        ("c.toml", "[loss]\ntemperature = 'warm'", r"loss\.temperature cannot be 'warm'"),
        ("c.yaml", "a: [", "not valid YAML"),
        ("c.yaml", "- 1", "holds no settings"),
        ("c.yaml", "1: 2", "holds no settings"),
        ("c.yml", "loss:\n  x: 1", r"loss\.x"),
        ("c.yml", "loss:\n  temperature: warm", r"loss\.temperature cannot be 'warm'"),
        ("c.yml", "!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_config(tmp_path / name)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_config(tmp_path / f"absent {name}")


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('preset = "vox2vec"\nspacing_mm = [2, 2, 3]\n[loss]\nchunk = 64\n')
    (tmp_path / "c.yaml").write_text("preset: vox2vec\nspacing_mm: [2, 2, 3]\nloss:\n  chunk: 64\n")
    (tmp_path / "empty.yaml").touch()
    assert load_config(tmp_path / "c.toml") == load_config(tmp_path / "c.yaml") != PRESETS["vox2vec"]
    assert load_config(tmp_path / "empty.yaml") == PRESETS["small"]
