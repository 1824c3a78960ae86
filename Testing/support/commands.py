"""Running ``vox2vec`` in a test."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from Vox2VecCore.cli import main

Run = Callable[..., tuple[int, str, str]]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command line: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def answer(run: Run, *arguments: object) -> Any:
    """The JSON of a command that must succeed quietly."""
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, ""), err
    return json.loads(out)
