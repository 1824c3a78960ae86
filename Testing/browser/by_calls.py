"""The scenario by calls to the session, in a process of its own.

python -m Testing.browser.by_calls SCAN FOLLOW_UP HANDED.npz OUT.npz
"""

import sys
from pathlib import Path

import nibabel
import numpy as np

from Testing.browser.scenario import Calls, Hand, asInFile, play
from Testing.support.slicer_app import App


def main(scan: Path, followUp: Path, handed: Path, out: Path) -> None:
    """Play it and write what comes out."""
    app = App()
    from Vox2VecSlicerLib.Session import Session

    given = np.load(handed)
    points = {str(name): point.tolist() for name, point in zip(given["names"], given["points"], strict=True)}
    scene = Path(str(given["scene"]))
    session = Session()
    outcome = play(Calls(session, Hand(points, scene)), scan, followUp)
    session.shutdown()
    targets, cycles, reliable = zip(*outcome.matches, strict=True)
    np.savez(
        out,
        alike=outcome.alike,
        structures=outcome.structures,
        targets=targets,
        cycles=cycles,
        reliable=reliable,
        **reopened(app, scene, scan),
    )
    assert not app.errors, app.errors


def reopened(app: App, scene: Path, scan: Path) -> dict[str, object]:
    """What a Slicer with the module finds in a scene that the browser has saved."""
    import slicer

    from Vox2VecSlicerLib.Session import Session

    app.clear()
    slicer.util.loadScene(str(scene))
    session = Session()
    state = session.state
    found = {
        "scan": state.volume.GetName(),
        "voxels": asInFile(slicer.util.arrayFromVolume(state.volume).T, state.volume, nibabel.load(scan).affine),
        "positive": session.points.positive,
        "negative": session.points.negative,
        "segments": [
            node.GetSegmentation().GetNthSegment(n).GetName()
            for node in (state.result, state.strokes)
            for n in range(node.GetSegmentation().GetNumberOfSegments())
        ],
    }
    session.shutdown()
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
