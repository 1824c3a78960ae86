"""Training a head from strokes in one or several scans."""

from collections.abc import Mapping, Sequence

from Vox2VecCore.errors import HeadError, ModelError
from Vox2VecCore.fewshot.classes import BACKGROUND, ClassNote, HeadClass, classes_of
from Vox2VecCore.fewshot.examples import Examples, check_teachable, examples_from, joined
from Vox2VecCore.fewshot.fitting import fit
from Vox2VecCore.fewshot.head import Head
from Vox2VecCore.fewshot.intensity import intensity_maps
from Vox2VecCore.progress import Progress
from Vox2VecCore.pyramid import FeaturePyramid
from Vox2VecCore.volume import Volume

STAGE = "Learning from strokes"


def train_head(
    examples: Sequence[tuple[FeaturePyramid, Volume]],
    method: str = "auto",
    *,
    volumes: Sequence[Volume] | None = None,
    intensity: bool = True,
    classes: Sequence[HeadClass] = (),
    background: int = BACKGROUND,
    names: Mapping[int, str | ClassNote] | None = None,
    base: Head | None = None,
    progress: Progress | None = None,
) -> Head:
    """Learn a segmentation head from strokes.

    :param examples: pairs of a scan's embedding and its strokes, a label map on any grid that covers them: 0 is
        unlabelled, ``background`` says "not a structure", every other value is a structure.
    :param method: ``"auto"`` picks by the number of labelled voxels: prototype, ridge or logistic; or ``"mlp"``.
    :param volumes: the scans themselves, in order, after which the head calls them; without, after their strokes.
    :param intensity: read the volumes' intensities, too; the head then needs the CT wherever it is applied.
    :param classes: names, colours and terminology of values.
    :param names: of values, perhaps with colour and terminology; they have the last word.
    :param base: a head whose examples count, too.
    :return: the head; ``note`` says why the method was taken.
    :raises HeadError: if strokes are missing, of one class only, or all outside the body, or volumes are missing.
    :raises ModelError: if scans, or base, are of different models.
    :raises Cancelled: when ``progress`` says so.
    """
    progress = progress or Progress()
    if not examples:
        raise HeadError("There are no scans to learn from; give at least one with strokes.")
    if volumes is not None and len(volumes) != len(examples):
        raise HeadError(f"{len(examples)} scans have strokes but {len(volumes)} CT volumes are given; give one each.")
    if len({pyramid.model_hash for pyramid, _ in examples}) > 1:
        raise ModelError("The scans were embedded by different models; embed all with one model.")
    parts = []
    for n, (pyramid, strokes) in enumerate(examples):
        progress.step(STAGE, n, len(examples) + 1)
        maps = intensity_maps(volumes[n], pyramid.grid) if volumes is not None and intensity else None
        name = strokes.name if volumes is None else volumes[n].name
        parts.append(examples_from(pyramid, strokes, maps, name))
    head = head_from(parts, examples[0][0], method, classes, background, names, base, progress=progress)
    progress.step(STAGE, len(examples) + 1, len(examples) + 1)
    return head


def head_from(
    parts: Sequence[Examples],
    pyramid: FeaturePyramid,
    method: str,
    classes: Sequence[HeadClass] = (),
    background: int = BACKGROUND,
    names: Mapping[int, str | ClassNote] | None = None,
    base: Head | None = None,
    *,
    last: Head | None = None,
    calibrate: bool = True,
    progress: Progress | None = None,
) -> Head:
    """:func:`train_head` from examples that were read already.

    :param last: an earlier head from about the same strokes; logistic regression goes on from there.
    """
    progress = progress or Progress()
    if base is not None:
        if base.model_hash != pyramid.model_hash:
            base.check_fits(pyramid, has_ct=True)
        parts = [base.examples, *parts]
        classes = [*{each.value: each for each in (*base.classes, *classes)}.values()]
    together = joined(parts)
    check_teachable(together.values[together.labelled], background)
    same = last is not None and last.method == "logistic" and last.examples.has_intensity == together.has_intensity
    start = last.maps if same and last is not None else None
    found = fit(together, method, background, start=start, calibrate=calibrate, check=progress.check)
    described = classes_of(found.values.tolist(), background, names, classes)
    return Head(described, found.maps, together, found.method, pyramid.model_name, pyramid.model_hash, found.note)
