"""As long as the core has no heads learnt from strokes, strokes are answered by one sentence and the rest works."""

import pytest
import slicer

from Testing.mrml.test_session import paint
from Testing.support.slicer_nodes import volumeNode
from Vox2VecCore.errors import Vox2VecError
from Vox2VecSlicerLib.Session import Session


def test_strokes_without_heads(scene, tiny_model):
    session = Session()
    session.state.model = str(tiny_model)
    session.state.device, session.state.engine = "cpu", "torch"
    failures = []
    session.failed.connect(failures.append)
    session.embed(volumeNode(), wait=True)
    strokes = session.strokesNode()
    background, structure = (strokes.GetSegmentation().GetNthSegmentID(i) for i in range(2))
    paint(session, structure, [(20, 17, k) for k in range(8, 18)])
    paint(session, background, [(2, 2, k) for k in range(8, 18)])
    with pytest.raises(Vox2VecError, match="not part of this version"):
        session.wait()
    for _ in range(20):
        session.poll(waitSeconds=0.01)
    assert len(failures) <= 2, "said once a change of the strokes, not at every turn of the clock"
    session.points.addPositive((0.0, 0.0, 0.0))
    session.wait()
    assert session.similarityAt((0.0, 0.0, 0.0)) > 99
    assert session.shutdown()
    slicer.mrmlScene.Clear(0)
