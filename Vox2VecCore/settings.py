"""Settings as frozen dataclasses: read strictly from TOML or YAML, changed by ``key=value``, written and compared."""

import dataclasses
import importlib
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from Vox2VecCore.errors import MissingExtraError, SettingsError

T = TypeVar("T")

NONE = "none"
"""Stands for ``None``, which TOML does not have."""

YAML_SUFFIXES = (".yaml", ".yml")


def read_settings(path: Path) -> dict[str, Any]:
    """The values of a settings file: YAML if its name ends in ``.yaml`` or ``.yml``, else TOML.

    :raises SettingsError: if it cannot be read, or is no table of settings.
    :raises MissingExtraError: if the package for the format is not installed.
    """
    kind = "YAML" if path.suffix.lower() in YAML_SUFFIXES else "TOML"
    try:
        text = path.read_text(encoding="utf-8")
        values = _parsed_yaml(text) if kind == "YAML" else _toml().loads(text)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); give an existing settings file.") from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path}: not valid {kind} ({reason}); correct it there.") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"{path}: holds no settings; write lines such as 'seed: 1'.")
    return values


def configured(defaults: T, path: Path | None, overrides: Sequence[str]) -> T:
    """A frozen dataclass, changed by a settings file if there is one, changed by ``key=value`` texts.

    :raises SettingsError: as :func:`read_settings`, :func:`merged` and :func:`updated`.
    """
    return updated(defaults, merged({} if path is None else read_settings(path), overrides))


def merged(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Values changed by ``key=value`` texts, nested keys with a dot, written as in TOML; all are applied at once.

    :raises SettingsError: if a text has no key or no value.
    """
    result = dict(values)
    for override in overrides:
        _merge(result, _override(override))
    return result


def updated(config: T, values: Mapping[str, Any], where: str = "") -> T:
    """A frozen dataclass with some values changed, nested ones by nested mappings; keys and types are checked.

    :raises SettingsError: names the key that is unknown or whose value has another type.
    """
    hints = get_type_hints(type(config))
    changes = {}
    for key, value in values.items():
        if key not in hints:
            known = ", ".join(f.name for f in fields(config))  # type: ignore[arg-type]
            raise SettingsError(f"Unknown setting '{where}{key}'; there are {known}.")
        current = getattr(config, key)
        if is_dataclass(current) and isinstance(value, Mapping):
            changes[key] = updated(current, value, f"{where}{key}.")
        else:
            changes[key] = typed(value, hints[key], where + key)
    return replace(config, **changes)  # type: ignore[type-var]


def to_toml(config: Any) -> str:
    """The whole configuration as TOML that :func:`read_settings` reads back."""
    values = dataclasses.asdict(config)
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    plain = {key: value for key, value in values.items() if key not in tables}
    lines = _toml_lines(plain)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def differences(a: Any, b: Any) -> list[str]:
    """Names of the settings in which two configurations differ, nested ones with a dot."""
    first, second = _flat(dataclasses.asdict(a)), _flat(dataclasses.asdict(b))
    return [key for key in first if first[key] != second[key]]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _toml_lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml_value(value)}" for key, value in values.items()]


def _toml_value(value: Any) -> str:
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_toml_value(v) for v in value)}]"
    return repr(value)


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), Mapping):
            values[key] = dict(values[key])
            _merge(values[key], value)
        else:
            values[key] = value


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SettingsError(f"'{text}' is not key=value, such as loss.temperature=0.2.")
    toml = _toml()
    try:
        parsed: Any = toml.loads(f"value = {value}")["value"]
    except ValueError:
        parsed = value.strip()  # a word without quotes is a string
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def typed(value: Any, hint: Any, where: str) -> Any:
    """A value as a field of a dataclass with this type hint holds it: lists become tuples, whole numbers floats.

    :raises SettingsError: if it has another type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None or value == NONE:
            return None
        hint = next(a for a in arguments if a is not type(None))
        return typed(value, hint, where)
    if origin is Literal:
        if value not in arguments:
            raise SettingsError(f"{where} is one of {', '.join(map(str, arguments))}, not {value!r}.")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else list(arguments)
        if len(kinds) == len(value):
            return tuple(typed(v, kind, where) for v, kind in zip(value, kinds, strict=True))
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise SettingsError(
        f"{where} cannot be {value!r}; it is a {hint if arguments else getattr(hint, '__name__', hint)}."
    )


def _toml() -> Any:
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise MissingExtraError("Reading settings", "train")


def _parsed_yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError as error:
        raise MissingExtraError("Reading YAML settings", "train") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return {} if values is None else values
