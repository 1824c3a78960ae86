"""Heads from strokes: what is refused, and what stops."""

from pathlib import Path

import numpy as np
import pytest

from Testing.support.few_strokes import SHAPE, anatomy, ct, embedding, strokes
from Vox2VecCore.errors import Cancelled, HeadError, ModelError
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.postprocessing import NO_PROCESSING
from Vox2VecCore.fewshot.segmenting import segment
from Vox2VecCore.fewshot.session import HeadSession
from Vox2VecCore.fewshot.training import train_head
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume


@pytest.fixture(scope="module")
def pyramid() -> FeaturePyramid:
    return embedding(anatomy())


def test_no_strokes_one_class_only_and_strokes_in_air_are_refused(pyramid):
    empty = Volume(np.zeros(SHAPE, np.int16), pyramid.grid.affine, "empty.nii.gz")
    with pytest.raises(HeadError, match="holds no strokes"):
        train_head([(pyramid, empty)])
    only = Volume(np.where(strokes().array == 1, 1, 0).astype(np.int16), pyramid.grid.affine, "strokes")
    with pytest.raises(HeadError, match="background only"):
        train_head([(pyramid, only)])
    one = Volume(np.where(strokes().array == 2, 2, 0).astype(np.int16), pyramid.grid.affine, "strokes")
    with pytest.raises(HeadError, match="one class only"):
        train_head([(pyramid, one)])
    away = pyramid.grid.affine.copy()
    away[:3, 3] += 500
    with pytest.raises(HeadError, match="outside the body"):
        train_head([(pyramid, Volume(strokes().array, away, "strokes"))])
    negative = strokes()
    negative.array[7, 6, 8] = -3
    with pytest.raises(HeadError, match="-3"):
        train_head([(pyramid, negative)])
    for value in (2.5, np.nan):
        halves = strokes().with_array(strokes().array.astype(np.float32))
        halves.array[7, 6, 8] = value
        with pytest.raises(HeadError, match="not whole numbers"):
            train_head([(pyramid, halves)])
    with pytest.raises(HeadError, match="no scans"):
        train_head([])
    with pytest.raises(HeadError, match="Unknown method"):
        train_head([(pyramid, strokes())], "forest")


def test_heads_of_another_model_are_refused(pyramid, tmp_path: Path):
    head = train_head([(pyramid, strokes())])
    other = embedding(anatomy(), model_hash="another")
    for use in (
        lambda: segment(other, head),
        lambda: HeadSession(other, None, head),
        lambda: train_head([(other, strokes())], base=head),
        lambda: train_head([(pyramid, strokes()), (other, strokes())]),
    ):
        with pytest.raises(ModelError, match="model"):
            use()


def test_a_head_that_reads_the_ct_says_so_when_it_is_missing(pyramid):
    head = train_head([(pyramid, strokes())], volumes=[ct()])
    with pytest.raises(HeadError, match="give the CT"):
        segment(pyramid, head)


def test_damaged_head_files_are_refused_in_one_sentence(pyramid, tmp_path: Path):
    path = tmp_path / "head.safetensors"
    train_head([(pyramid, strokes())]).save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:50], whole[: len(whole) // 2], b"not a head at all"):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"head\.safetensors"):
            Head.load(path)
    with pytest.raises(ModelError, match="no such file"):
        Head.load(tmp_path / "missing.safetensors")
    path.write_bytes(whole.replace(b'\\"format_version\\": 1', b'\\"format_version\\": 7'))
    with pytest.raises(ModelError, match="format 7"):
        Head.load(path)


def test_a_head_that_cannot_be_written_leaves_nothing(pyramid, tmp_path: Path):
    head = train_head([(pyramid, strokes())])
    with pytest.raises(HeadError, match="cannot be written"):
        head.save(tmp_path / "missing" / "head.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_probabilities_that_are_no_numbers_are_an_error(pyramid):
    head = train_head([(pyramid, strokes())])
    head.maps.weight[:] = np.nan
    with pytest.raises(HeadError, match="not numbers"):
        segment(pyramid, head, processing=NO_PROCESSING)


def test_learning_and_segmenting_can_be_cancelled(pyramid):
    cancelled = Progress(is_cancelled=lambda: True)
    with pytest.raises(Cancelled):
        train_head([(pyramid, strokes())], progress=cancelled)
    with pytest.raises(Cancelled):
        segment(pyramid, train_head([(pyramid, strokes())]), progress=cancelled)
