"""``python -m Vox2VecCore.cli`` is ``vox2vec``."""

import sys

try:
    from Vox2VecCore.cli import main
    from Vox2VecCore.cli.interruption import STOP
except KeyboardInterrupt:  # before anything listens to it
    from Vox2VecCore.cli.interruption import STOP

    sys.exit(STOP.cancelled())


def script() -> int:
    """Run ``vox2vec`` as a process of its own, which Ctrl-C no longer disturbs once it is ending."""
    with STOP.listening(to_the_end=True):
        return main()


if __name__ == "__main__":
    sys.exit(script())
