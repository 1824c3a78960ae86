"""The demo CT with the shipped model, through MRML: a click in an organ finds the organ."""

import time

import numpy as np
import slicer

from Testing.conftest import DEMO_CT
from Testing.mrml.test_heads import AROUND_THE_LIVER_MM
from Testing.support.slicer_nodes import sliceViews
from Vox2VecCore.volume_io import read_labels
from Vox2VecSlicerLib import Geometry


def test_a_click_in_an_organ_finds_the_organ(session, demo_ct, shared_cache):
    node = slicer.util.loadVolume(str(demo_ct))
    views = sliceViews(node)
    session.state.volume, session.state.model = node, "vox2vec-small"
    session.state.device = session.state.engine = "auto"
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    labels = read_labels(DEMO_CT.with_name("demo_ct_labels.nii.gz"))
    liver = np.argwhere(labels.array == liverLabel())
    centre = labels.to_ras([liver.mean(axis=0)])[0]
    nearest = liver[np.linalg.norm(labels.to_ras(liver) - centre, axis=1).argmin()]
    centre = labels.to_ras([nearest])[0]
    roi.SetXYZ(labels.to_ras([liver.mean(axis=0)])[0])
    roi.SetRadiusXYZ(AROUND_THE_LIVER_MM)
    session.state.roi = roi
    session.embed(wait=True)
    session.points.addPositive(centre)
    session.wait()
    assert session.similarityAt(centre) > 99
    scan = session.embeddings.scan(node)
    inside = [session.similarityAt(world) for world in labels.to_ras(liver[::997])]
    inside = [value for value in inside if value is not None]
    assert len(inside) > 20
    assert np.median(inside) > 65, "the organ looks more like the click than half of the body does"
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    session.state.hover = True
    seconds = []
    for step in range(12):
        crosshair.SetCursorPositionRAS([centre[0] + 3 * step, centre[1], centre[2]])
        for view in views:
            view.JumpSliceByOffsetting(centre[0] + 3 * step, centre[1], centre[2])
        begin = time.thread_time()
        assert session.hover.tick()
        seconds.append(time.thread_time() - begin)
    assert np.median(seconds) < 0.05, f"hover took {np.median(seconds) * 1000:.0f} ms"
    ijk = np.rint(Geometry.worldToIjk(node, [centre]))[0].astype(int)
    part = ijk - np.array(scan.part.first)
    assert ((part >= 0) & (part < scan.pyramid.grid.source_shape)).all()


def liverLabel() -> int:
    """Label of the liver in the demo's label map."""
    rows = [line.split(",") for line in DEMO_CT.with_name("structures.csv").read_text().splitlines()]
    return next(int(cell) for row in rows if any("liver" in c.lower() for c in row) for cell in row if cell.isdigit())
