"""``python -m Vox2VecCore.cli`` is ``vox2vec``."""

import sys

from Vox2VecCore.cli import main
from Vox2VecCore.cli.interruption import STOP


def script() -> int:
    """Run ``vox2vec`` as a process of its own, which a second Ctrl-C no longer disturbs once it is ending."""
    code = main()
    if code > 128:
        STOP.ignore_from_now()
    return code


if __name__ == "__main__":
    sys.exit(script())
