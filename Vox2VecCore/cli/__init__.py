"""The command line ``vox2vec``; importing this imports next to nothing, see :mod:`Vox2VecCore.cli.__main__`."""

import sys

TYPE_CHECKING = False  # as type checkers know it, without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence

EXTRA = "cli"
PACKAGES = ("typer", "rich")


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run ``vox2vec``.

    :param arguments: those of the process when left out.
    :return: exit code: 0 success, 2 usage or input error, 130 after Ctrl-C, 143 after a request to terminate.
    """
    from Vox2VecCore.cli.interruption import STOP, Interrupted
    from Vox2VecCore.errors import MissingExtraError

    with STOP.listening():
        try:
            from Vox2VecCore.cli.app import run
            from Vox2VecCore.cli.guard import guarded

            if STOP.requested():
                raise Interrupted
            return guarded(lambda: run(sys.argv[1:] if arguments is None else arguments))
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in PACKAGES:
                raise
            sys.stderr.write(f"Error: {MissingExtraError('The command line', EXTRA)}\n")
            return 2
        except Interrupted:
            return STOP.cancelled()
