"""From a manifest to a model: prepare the scans, pretrain, export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from Vox2VecCore.paths import cache_folder
from Vox2VecCore.pretraining.config import PretrainConfig
from Vox2VecCore.pretraining.errors import PretrainingError
from Vox2VecCore.pretraining.loop import Machine, pretrain
from Vox2VecCore.pretraining.manifest import ScanEntry, read_manifest
from Vox2VecCore.pretraining.prepare import PreparedData, prepare_scans
from Vox2VecCore.pretraining.probe import load_probe
from Vox2VecCore.processes import own_share
from Vox2VecCore.progress import Progress

TRAINING_SPLIT = "train"


def pretrain_on_manifest(
    manifest: Path | Sequence[Path],
    run: Path,
    config: PretrainConfig,
    *,
    root: Path | None = None,
    name: str = "vox2vec-own",
    resume: bool = False,
    machine: Machine | None = None,
    probes: Sequence[ScanEntry] = (),
    prepared: Path | None = None,
    prepare_workers: int = 1,
    progress: Progress | None = None,
    on_prepared: Callable[[PreparedData], None] | None = None,
    on_log: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Path:
    """Prepare the scans of one or several manifests and train a network on them.

    Entries of split ``"train"`` and entries without a split are trained on; one or two labelled entries of split
    ``"probe"`` test the network as it trains; other splits are left out. A run that is complete already only
    gives its model.

    :param root: folder that relative paths of the manifests count from; each manifest's own when left out.
    :param probes: labelled scans that test the network instead of those of the manifests.
    :param prepared: folder of prepared scans, shared by runs; in the cache folder when left out.
    :param prepare_workers: processes that prepare scans.
    :param on_prepared: told which scans were prepared and which skipped, and why, before training starts.
    :return: the model directory; the other parameters and errors are those of
        :func:`~Vox2VecCore.pretraining.loop.pretrain` and :func:`~Vox2VecCore.pretraining.prepare.prepare_scans`.
    """
    paths = [manifest] if isinstance(manifest, Path) else list(manifest)
    listed = [entry for path in paths for entry in read_manifest(path, root)]
    entries = [entry for entry in listed if entry.split in (None, TRAINING_SPLIT)]
    if not entries:
        raise PretrainingError(
            f"{paths[0]}: no entry of split '{TRAINING_SPLIT}' or without a split; nothing to train on."
        )
    ids = [entry.id for entry in entries]
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise PretrainingError(f"Scan id {twice} is in more than one manifest; make the ids differ.")
    share = own_share()
    data = prepare_scans(
        entries,
        prepared or cache_folder() / "prepared",
        config.spacing_mm,
        workers=prepare_workers,
        begin=len(entries) * share.rank // share.count,
        progress=progress,
    )
    if on_prepared is not None:
        on_prepared(data)
    probe = load_probe(list(probes) or listed, config.spacing_mm)
    return pretrain(
        data.scans,
        config,
        run,
        name=name,
        resume=resume,
        machine=machine,
        probe=probe,
        skipped=data.skipped,
        progress=progress,
        on_log=on_log,
    )


def with_steps(config: PretrainConfig, steps: int) -> PretrainConfig:
    """The same settings for another number of steps."""
    return replace(config, optimisation=replace(config.optimisation, steps=steps))
