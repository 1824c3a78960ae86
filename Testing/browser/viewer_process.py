"""``vox2vec view`` as a process of its own, as people start it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from Testing.conftest import REPOSITORY

START_SECONDS = 120
OFFLINE = REPOSITORY / "Testing" / "support" / "offline"


class ViewerProcess:
    """A running viewer that cannot reach any other computer.

    :param arguments: of ``vox2vec view``.
    :param cache: folder of its embeddings.
    :ivar opened: file of the addresses that it has opened in what it takes for the user's browser.
    """

    def __init__(self, cache: Path, log: Path, *arguments: object) -> None:
        self.log = log
        self.opened = log.with_suffix(".opened")
        browser = log.with_suffix(".browser")
        browser.write_text(f'#!/bin/sh\necho "$1" >> "{self.opened}"\n')
        browser.chmod(0o755)
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "VOX2VEC_CACHE_DIR": str(cache), "BROWSER": str(browser)}
        environment.pop("DISPLAY", None)
        paths = [OFFLINE, REPOSITORY, REPOSITORY / "Vox2VecSlicer"]
        environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        command = [sys.executable, "-m", "Vox2VecCore.cli", "view", *map(str, arguments)]
        with log.open("w") as out:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=out, stderr=out)
        self.url = self._wait()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(re.findall(r":(\d+)/", self.url)[0])

    def errors(self) -> str:
        """The log, if VTK or Python complained in it; else nothing."""
        log = self.log.read_text(errors="replace")
        wrong = re.compile(r"^VTK |ERR\||WARN\||Traceback|^Error|^Warning", re.MULTILINE)
        complained = wrong.search(log) is not None
        return log if complained else ""

    def stop(self) -> int:
        """End it as Ctrl-C does; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(30)

    def _wait(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            found = re.findall(r"viewer: (http\S+)", self.log.read_text(errors="replace"))
            if found:
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.process.kill()
        raise AssertionError(f"the viewer did not start:\n{self.log.read_text(errors='replace')}")
