"""The scenario by calls to the session, in a process of its own.

python -m Testing.browser.by_calls SCAN FOLLOW_UP HANDED.npz OUT.npz
"""

import sys
from pathlib import Path

import numpy as np

from Testing.browser.scenario import Calls, Hand, play
from Testing.support.slicer_app import App


def main(scan: Path, followUp: Path, handed: Path, out: Path) -> None:
    """Play it and write what comes out."""
    app = App()
    from Vox2VecSlicerLib.Session import Session

    given = np.load(handed)
    points = {str(name): point.tolist() for name, point in zip(given["names"], given["points"], strict=True)}
    session = Session()
    outcome = play(Calls(session, Hand(points, Path(str(given["strokes"])))), scan, followUp)
    targets, cycles, reliable = zip(*outcome.matches, strict=True)
    np.savez(
        out,
        alike=outcome.alike,
        structures=outcome.structures,
        targets=targets,
        cycles=cycles,
        reliable=reliable,
    )
    session.shutdown()
    assert not app.errors, app.errors


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
