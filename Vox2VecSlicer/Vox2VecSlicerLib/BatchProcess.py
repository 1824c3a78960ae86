"""A command in a process of its own: its lines arrive on the main thread, and stopping it stops its children too."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from Vox2VecSlicerLib.Signal import Signal
from Vox2VecSlicerLib.State import ModuleState

GRACE_SECONDS = 5.0
"""Time that a command has to put its files in order after it was told to stop."""


class BatchProcess:
    """Runs a Python module of ours outside of Slicer's process. Call :meth:`poll` from the main thread.

    :ivar lineRead: emitted with each line the command writes.
    :ivar finished: emitted once with the return code.
    """

    def __init__(self) -> None:
        self.lineRead = Signal()
        self.finished = Signal()
        self._process: subprocess.Popen | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._killAt: float | None = None

    @property
    def running(self) -> bool:
        """Whether a command was started and its end not yet reported."""
        return self._process is not None

    def start(self, module: str, arguments: Sequence[str]) -> None:
        """Run ``python -m module arguments``.

        :raises RuntimeError: if a command is running.
        """
        if self.running:
            raise RuntimeError("A command is running already.")
        core = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(dict.fromkeys([core, *(entry for entry in sys.path if entry)]))
        self._killAt = None
        self._lines = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [_python(), "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            **_groupOfItsOwn(),
        )
        threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()

    def applyHead(self, head: str, inputFolder: str, outputFolder: str, state: ModuleState) -> None:
        """Segment all scans of a folder with a head from a file, with model, device and engine as they are chosen."""
        choices = ["--model", state.model, "--device", state.device, "--engine", state.engine]
        arguments = ["head", "apply", inputFolder, "--head", head, "--out", outputFolder, *choices]
        self.start("Vox2VecCore.cli", arguments)

    def poll(self) -> bool:
        """Deliver what came since the last call.

        :return: whether the command still runs.
        """
        if self._process is None:
            return False
        if self._killAt is not None and time.monotonic() > self._killAt:
            self._killAt = None
            _kill(self._process)
        while not self._lines.empty():
            line = self._lines.get()
            if line is None:
                process, self._process = self._process, None
                self.finished.emit(process.wait())
                return False
            self.lineRead.emit(line)
        return True

    def cancel(self) -> None:
        """Ask the command to stop; what has not stopped after a few seconds is killed, with its children."""
        if self._process is None or self._killAt is not None:
            return
        self._killAt = time.monotonic() + GRACE_SECONDS
        _interrupt(self._process)

    def shutdown(self) -> None:
        """Stop at once and report nothing: Slicer quits or the module is reloaded."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            process.wait()


def _read(process: subprocess.Popen, lines: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.rstrip())
    lines.put(None)


def _python() -> str:
    """The interpreter. Slicer has PythonSlicer on its path; ``sys.executable`` may be the application itself."""
    return shutil.which("PythonSlicer") or sys.executable


def _groupOfItsOwn() -> dict:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _interrupt(process: subprocess.Popen) -> None:
    if sys.platform == "win32":  # knows no way to ask a process of another console
        _kill(process)
    else:
        _toGroup(process, signal.SIGINT)


def _kill(process: subprocess.Popen) -> None:
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
    else:
        _toGroup(process, signal.SIGKILL)


def _toGroup(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):  # it may have ended by itself
        os.killpg(process.pid, number)
