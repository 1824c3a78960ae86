"""The command line as a process: signals, pipes, terminals."""

import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from Testing.support.cli_fixtures import CANCELLED, SIMILAR
from Testing.support.commands import Run
from Testing.support.scans import phantom
from Vox2VecCore.cli import console
from Vox2VecCore.cli.guard import guarded
from Vox2VecCore.volume_io import write_volume

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "Vox2VecCore.cli"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan that the slow model takes minutes for."""
    path = tmp_path_factory.mktemp("large") / "large.nii"
    write_volume(phantom((130, 110, 110)), path)
    return path


@pytest.fixture
def slow(private_cache: Path, only_these_models: None) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command line that takes long; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*COMMAND, *map(str, arguments)]
        started.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "times", "code"), [(signal.SIGINT, 1, 130), (signal.SIGTERM, 1, 143), (signal.SIGINT, 2, 130)]
)
def test_stopped_in_the_middle_of_embedding(
    slow: Callable[..., subprocess.Popen[str]], large: Path, private_cache: Path, number: int, times: int, code: int
) -> None:
    process = slow("embed", large, "--model", "slow", "--engine", "torch", "--json")
    wait_for(lambda: list(private_cache.glob("pyramids/.*.tmp/level*")), process)
    time.sleep(0.5)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err.endswith(CANCELLED)
    assert "Traceback" not in err
    assert list(private_cache.glob("pyramids/*")) == list(private_cache.glob("pyramids/.*")) == []


def test_stopped_while_starting(slow: Callable[..., subprocess.Popen[str]], demo_ct: Path, tmp_path: Path) -> None:
    process = slow("similarity", demo_ct, "-m", "slow", "-p", 0, 0, -150, "--out", tmp_path / "a.nii.gz")
    wait_for(lambda: "libtorch" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()[-1:]) == (130, "", [CANCELLED.strip()])
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def at_import_of(name: str) -> str:
    """Python code that sends Ctrl-C to itself where a module is first looked for."""
    return (
        "import signal, sys\n"
        "class Look:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {name!r}: sys.meta_path.remove(self), signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Look())\n"
    )


AT_EXIT = "import atexit, signal, sys\natexit.register(signal.raise_signal, signal.SIGINT)\n"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (at_import_of("Vox2VecCore.cli.interruption"), (130, CANCELLED)),
        (at_import_of("Vox2VecCore.cli.app"), (130, CANCELLED)),
        (AT_EXIT, (0, "")),
    ],
)
def test_stopped_in_the_first_and_the_last_moments(when: str, expected: tuple[int, str]) -> None:
    code = when + "sys.argv[1:] = ['--version']\nfrom Vox2VecCore.cli.__main__ import script\nsys.exit(script())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == expected


@pytest.mark.parametrize(("times", "whole"), [(1, True), (2, False)])
def test_only_a_second_signal_tears_an_import_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int, whole: bool
) -> None:
    name = f"stopped_{times}_times"
    (tmp_path / f"{name}.py").write_text("import signal\n" + times * "signal.raise_signal(signal.SIGINT)\n")
    monkeypatch.syspath_prepend(tmp_path)

    def job() -> int:
        importlib.import_module(name)
        time.sleep(10)
        return 0

    assert guarded(job) == 130
    assert capsys.readouterr().err == CANCELLED
    assert (name in sys.modules) is whole


def test_stopped_while_writing(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from Vox2VecCore import nifti

    def interrupted(*arguments: Any) -> None:
        Path(arguments[-1]).write_bytes(b"half a file")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(nifti, "write_nifti", interrupted)
    before, handler = sorted(folder.iterdir()), signal.getsignal(signal.SIGINT)
    assert run(*SIMILAR, "-p", 0, 0, 0, "--out", "a.nii.gz", "--json") == (130, "", CANCELLED)
    assert sorted(folder.iterdir()) == before
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_background_job_ignores_what_its_shell_told_it_to(
    slow: Callable[..., subprocess.Popen[str]], private_cache: Path, folder: Path
) -> None:
    ignoring = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = slow("embed", folder / "scan.nii.gz", "--model", "slow", "--engine", "torch", "--json")
    finally:
        signal.signal(signal.SIGINT, ignoring)
    wait_for(lambda: list(private_cache.glob("pyramids/.*.tmp/level*")), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Cancelled" not in err
    assert json.loads(out)["model"] == "slow"


def test_a_log_gets_a_line_now_and_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_EVERY_S", 0)
    code, out, err = run("embed", "scan.nii.gz", "-m", "slow", "--engine", "torch", "--json")
    assert code == 0
    assert json.loads(out)["model"] == "slow"
    assert re.search(r"^Embedding \d+% \d+ s left$", err, re.MULTILINE)
    assert "100%" not in err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.2, "1 s left"), (59.5, "60 s left"), (61, "2 min left"), (5000, "1 h 24 min left")],
)
def test_time_left(seconds: float | None, text: str) -> None:
    assert console._time_left(seconds) == text


def test_a_terminal_sees_a_bar_with_the_time_left(
    slow: Callable[..., subprocess.Popen[str]], large: Path, private_cache: Path
) -> None:
    terminal, child = pty.openpty()
    process = slow("embed", large, "--model", "slow", "--engine", "torch", "--json", stderr=child)
    os.close(child)
    seen = ""
    end = time.monotonic() + 120
    while not re.search(r"Embedding.*\d+%.*\d+ (s|min) left", seen):
        assert time.monotonic() < end, seen
        seen += os.read(terminal, 1 << 16).decode(errors="replace")
    process.send_signal(signal.SIGINT)
    with pytest.raises(OSError, match="Input/output"):
        while True:
            seen += os.read(terminal, 1 << 16).decode(errors="replace")
    assert process.wait(60) == 130
    assert "Cancelled; nothing was left half done." in seen
    os.close(terminal)


def test_a_reader_that_has_seen_enough(only_these_models: None) -> None:
    shell = f"'{sys.executable}' -m Vox2VecCore.cli models info rough | head -c 5; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
