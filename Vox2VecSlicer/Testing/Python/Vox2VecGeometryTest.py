"""Positions in a real Slicer: what is pinned is found where it was pinned, under transforms too."""

import unittest

import numpy as np
import slicer
import vtk


def scan(shape=(60, 80, 90), spacing=(3.0, 3.0, 4.0), seed=0):
    """A CT-like volume node: a body of soft tissue with a bright ball and a lung-like hole, and noise."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    center = np.array(shape) / 2
    body = ((i - center[2]) / 40) ** 2 + ((j - center[1]) / 34) ** 2 < 1
    values = np.where(body, 40, -1000).astype(np.float32)
    values[(i - 60) ** 2 + (j - 40) ** 2 + (k - 30) ** 2 < 100] = 400
    values[(i - 28) ** 2 + (j - 40) ** 2 + (k - 30) ** 2 < 120] = -800
    values += np.random.default_rng(seed).normal(0, 10, shape)
    node = slicer.util.addVolumeFromArray(values.astype(np.int16), name="CT")
    node.SetSpacing(*spacing)
    node.SetOrigin(-100, 50, -300)
    return node


def world(node, ijk):
    """World position of a voxel, transforms included."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    point = list(matrix.MultiplyPoint((*ijk, 1.0))[:3])
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, transform)
    return tuple(transform.TransformPoint(point))


class Vox2VecGeometryTest(unittest.TestCase):
    """Similarity at known places."""

    BALL, LUNG = (60, 40, 30), (28, 40, 30)

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        from Vox2VecSlicer import Vox2VecSlicerLogic

        self.logic = Vox2VecSlicerLogic()

    def tearDown(self) -> None:
        self.logic.shutdown()

    def check(self, ct) -> None:
        heat = self.logic.similarityMap(ct, positive=[world(ct, self.BALL)])
        values = slicer.util.arrayFromVolume(heat)
        self.assertEqual(values.shape, slicer.util.arrayFromVolume(ct).shape)
        at = {name: values[ijk[::-1]] for name, ijk in (("ball", self.BALL), ("lung", self.LUNG))}
        self.assertGreater(at["ball"], 99.0)
        self.assertLess(at["lung"], at["ball"])
        np.testing.assert_allclose(world(heat, self.BALL), world(ct, self.BALL), atol=1e-3)

    def test_plain(self) -> None:
        self.check(scan())

    def test_under_a_linear_transform(self) -> None:
        ct = scan()
        transform = vtk.vtkTransform()
        transform.RotateZ(20)
        transform.Translate(10, 20, 30)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        node.SetMatrixTransformToParent(transform.GetMatrix())
        ct.SetAndObserveTransformNodeID(node.GetID())
        self.check(ct)

    def test_left_handed(self) -> None:
        ct = scan()
        ct.SetIJKToRASDirections(-1, 0, 0, 0, 1, 0, 0, 0, 1)
        self.check(ct)
