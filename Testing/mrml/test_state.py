"""Parameters: typed, refused when wrong, observed, saved with the scene."""

import pytest
import slicer

from Testing.support.slicer_nodes import volumeNode
from Vox2VecSlicerLib.State import MODULE_NAME, ModuleState


@pytest.fixture
def state(scene):
    state = ModuleState(scene)
    yield state
    state.release()


def test_values_keep_their_types(state):
    state.balance, state.hover, state.model, state.view = 0.25, True, "/models/ä b", "colors"
    again = ModuleState(slicer.mrmlScene)
    assert (again.balance, again.hover, again.model, again.view) == (0.25, True, "/models/ä b", "colors")
    again.release()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("balance", 1.5),
        ("balance", float("nan")),
        ("threshold", "much"),
        ("view", "3D"),
        ("hover", 1),
        ("device", "tpu"),
        ("opacity", None),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(state, name, value):
    before = getattr(state, name)
    with pytest.raises(ValueError, match=f"{name} cannot be"):
        setattr(state, name, value)
    assert getattr(state, name) == before


def test_a_damaged_value_in_a_scene_reads_as_the_default(state):
    state.node.SetParameter("balance", "half")
    state.node.SetParameter("view", "")
    assert state.balance == 0.5
    assert state.view == "similarity"


def test_everyone_hears_of_a_change_once(state):
    heard = []
    state.changed.connect(heard.append)
    state.balance = 0.7
    state.balance = 0.7
    state.node.SetParameter("opacity", "0.25")
    node = volumeNode()
    state.volume = node
    assert heard == ["balance", "opacity", "volume"]
    slicer.mrmlScene.RemoveNode(node)
    assert state.volume is None
    assert heard[-1] == "volume"


def test_a_node_of_another_kind_is_refused(state):
    with pytest.raises(ValueError, match="roi cannot be CT"):
        state.roi = volumeNode()


def test_it_is_the_node_that_slicer_itself_would_make(state, scene):
    node = scene.GetSingletonNode(MODULE_NAME, "vtkMRMLScriptedModuleNode")
    assert node is state.node
    assert node.GetAttribute("ModuleName") == MODULE_NAME
    assert node.GetHideFromEditors()
    other = ModuleState(scene)
    assert other.node is node
    assert scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == 1
    other.release()


def test_after_closing_the_scene_everything_is_told_again(state, slicer_app):
    state.balance = 0.9
    slicer_app.clear()
    heard = []
    state.changed.connect(heard.append)
    state.follow()
    assert heard == list(state.NAMES)
    assert state.balance == 0.5


def test_while_a_scene_is_loaded_or_restored_nothing_is_told(session, scene):
    told = []
    session.state.changed.connect(told.append)
    for state in (scene.ImportState, scene.RestoreState):
        scene.StartState(state)
        session.state.balance += 0.1
        assert told == []
        scene.EndState(state)
        assert "balance" in told
        told.clear()
