"""How errors become a sentence on stderr and an exit code, for the command line and for scripts beside it."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from Vox2VecCore.cli.console import complain
from Vox2VecCore.cli.interruption import STOP, Interrupted
from Vox2VecCore.errors import Cancelled, Vox2VecError

FAILED = 2


def guarded(job: Callable[[], int]) -> int:
    """Run a job; whatever a user can cause ends in one sentence, and only a defect of ours in a traceback.

    :return: the job's exit code; 2 after an error, 130 after Ctrl-C, 143 after a request to terminate.
    """
    with STOP.listening():
        try:
            with _warnings_in_one_line():
                code = job()
            sys.stdout.flush()
            return code
        except (Interrupted, Cancelled):
            return STOP.cancelled()
        except Vox2VecError as error:
            complain("Error", str(error))
        except BrokenPipeError:  # the reader, 'head' perhaps, has seen enough; nothing may be written at exit either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            complain("Error", f"{where}{error.strerror or error}.")
        except MemoryError:
            complain("Error", "Not enough memory: close other programs, or use a smaller scan or a coarser model.")
        return FAILED


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show each warning of ours once and as a sentence, not with the place in our code where it arose.

    Those of other libraries are for developers, and which of them arise depends on what was imported before; they are
    shown where Python was told to (``-W``, ``PYTHONWARNINGS``).
    """
    shown: set[str] = set()
    ours = __name__.partition(".")[0]

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if category.__module__.partition(".")[0] != ours and not sys.warnoptions:
            return
        if str(message) not in shown:
            shown.add(str(message))
            complain("Warning", str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
