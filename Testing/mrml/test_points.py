"""The point lists: made once, coloured, followed when moved, deleted or put under a transform, and saved."""

import numpy as np
import pytest
from Vox2VecSlicerLib.Points import PointLists
from Vox2VecSlicerLib.State import ModuleState

from Testing.support.slicer_nodes import put


@pytest.fixture
def lists(scene):
    state = ModuleState(scene)
    lists = PointLists(scene, state)
    lists.state = state
    yield lists
    lists.release()
    state.release()


def test_points_are_markups_in_two_lists(lists, scene):
    lists.addPositive((1, 2, 3))
    lists.addPositive((4, 5, 6))
    lists.addNegative((7, 8, 9))
    np.testing.assert_allclose(lists.positive, [(1, 2, 3), (4, 5, 6)])
    np.testing.assert_allclose(lists.negative, [(7, 8, 9)])
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 2
    green, red = (n.GetDisplayNode().GetSelectedColor() for n in (lists.positiveNode, lists.negativeNode))
    assert green[1] > green[0] and red[0] > red[1]
    assert lists.positiveNode.GetNthControlPointLabel(1) == "+2"
    lists.clear()
    assert len(lists.positive) == len(lists.negative) == 0


def test_every_change_is_told(lists):
    heard = []
    lists.changed.connect(lambda: heard.append(1))
    lists.addPositive((0, 0, 0))
    assert heard
    for change in (
        lambda: lists.positiveNode.SetNthControlPointPosition(0, 1.0, 1.0, 1.0),
        lambda: put(lists.positiveNode, "linear"),
        lambda: lists.positiveNode.RemoveNthControlPoint(0),
    ):
        heard.clear()
        change()
        assert heard


def test_positions_are_in_the_world(lists):
    put(lists.positiveNode, "linear")
    lists.addPositive((10, 20, 30))
    np.testing.assert_allclose(lists.positive, [(10, 20, 30)], atol=1e-9)


def test_a_point_that_is_being_placed_does_not_count_yet(lists):
    lists.addPositive((1, 1, 1))
    lists.positiveNode.UnsetNthControlPointPosition(0)
    assert len(lists.positive) == 0


def test_a_deleted_list_is_made_again(lists, scene):
    lists.addPositive((1, 1, 1))
    heard = []
    lists.changed.connect(lambda: heard.append(len(lists.positive)))
    scene.RemoveNode(lists.positiveNode)
    assert heard[-1] == 0
    lists.addPositive((2, 2, 2))
    np.testing.assert_allclose(lists.positive, [(2, 2, 2)])


def test_a_list_that_the_user_chooses_is_followed(lists, scene):
    mine = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "mine")
    mine.AddControlPointWorld([5.0, 5.0, 5.0])
    heard = []
    lists.changed.connect(lambda: heard.append(1))
    lists.state.positivePoints = mine
    assert heard
    np.testing.assert_allclose(lists.positive, [(5, 5, 5)])


def test_no_observer_stays(lists):
    node = lists.positiveNode
    lists.release()
    heard = []
    lists.changed.connect(lambda: heard.append(1))
    node.AddControlPointWorld([0.0, 0.0, 0.0])
    assert not heard
