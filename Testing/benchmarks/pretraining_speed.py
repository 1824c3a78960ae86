"""Pretraining: batches against the published way of making them, where a step's time goes, two processes against one.

The published way (Goncharov et al. 2023, its data module) loads the whole scan as float32 and an int64 list of all its
body voxels for every item, cuts pairs of patches out of it, changes them with scipy's filters and numpy's noise, and
finds the voxels that two patches share by shifting that list into each of them. Patch size, pairs per scan, number of
shared voxels, chances and ranges of the augmentation are the published ones on both sides; both read files that are not
compressed, which favours the published way: its own are.
"""

import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from Testing.benchmarks.machine import best_seconds
from Vox2VecCore.pretraining.batches import Batches
from Vox2VecCore.pretraining.config import PretrainConfig, load_config
from Vox2VecCore.pretraining.manifest import ScanEntry, write_manifest
from Vox2VecCore.pretraining.objective import Objective
from Vox2VecCore.pretraining.prepare import PreparedScan, prepare_scans
from Vox2VecCore.processes import Share

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL_STEP = ["sampling.smallest_view=[56, 48, 48]", "sampling.largest_view=[56, 48, 48]", "matching.every=0"]
STEPS = 6


def measure(ct: Path, folder: Path) -> dict[str, Any]:
    """All figures."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"data": pairs_per_second(ct, folder), "step": step_split(ct, folder), "processes": processes(ct, folder)}


def pairs_per_second(ct: Path, folder: Path) -> dict[str, Any]:
    """View pairs per second with and without augmentation, ours and the published way, on one thread."""
    config = load_config(preset="vox2vec")
    (scan,) = prepare_scans([ScanEntry("demo", "demo", str(ct))], folder / "prepared", config.spacing_mm).scans
    np.save(folder / "image.npy", np.asarray(scan.hu))
    np.save(folder / "voxels.npy", np.argwhere(scan.body((slice(None),) * 3)))
    off = [f"intensity.{kind}_chance=0" for kind in ("filter", "noise", "window")]
    plain = load_config(preset="vox2vec", overrides=off)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"scan": list(scan.shape), "view": list(config.sampling.largest_view)}
    try:
        for name, one in (("cut", plain), ("augmented", config)):
            pairs = one.sampling.pairs
            ours = pairs / best_seconds(lambda one=one: _ours(scan, one))  # type: ignore[misc]
            published = pairs / best_seconds(lambda one=one: _published(folder, one))  # type: ignore[misc]
            figures[name] = {"ours": ours, "published": published, "speedup": ours / published}
    finally:
        torch.set_num_threads(threads)
    return figures


def _ours(scan: PreparedScan, config: PretrainConfig) -> int:
    # Opened anew, as by a loader that meets this scan for the first time.
    fresh = PreparedScan(scan.id, scan.subject, scan.shape, scan.licence, scan.folder)
    return len(Batches([fresh], config, 1, Share())[0])


def _published(folder: Path, config: PretrainConfig) -> int:
    rng = np.random.default_rng(0)
    image, voxels = np.load(folder / "image.npy").astype(np.float32), np.load(folder / "voxels.npy")
    size = np.array(config.sampling.largest_view)
    room = np.array(image.shape) - size
    pairs = []
    for _ in range(config.sampling.pairs):
        anchor = voxels[rng.integers(len(voxels))]
        views, inside, moved = [], np.ones(len(voxels), bool), []
        for _ in range(2):
            start = rng.integers(np.maximum(0, anchor - size + 1), np.minimum(anchor, room) + 1)
            x, y, z = (slice(a, a + n) for a, n in zip(start, size, strict=True))
            views.append(_published_augmentation(image[x, y, z], config, rng))
            moved.append(voxels - start)
            inside &= ((moved[-1] >= 0) & (moved[-1] < size)).all(axis=1)
        chosen = rng.permutation(np.flatnonzero(inside))[: config.sampling.points]
        pairs.append((torch.from_numpy(np.stack(views)), [torch.from_numpy(m[chosen]) for m in moved]))
    return len(pairs)


def _published_augmentation(
    hu: NDArray[np.float32], config: PretrainConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    options = config.intensity

    def blurred(hu: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        for axis in options.filter_axes:
            hu = ndimage.gaussian_filter1d(hu, sigma, axis)
        return hu

    if rng.random() < options.filter_chance:
        if rng.random() < 0.5:
            hu = blurred(hu, rng.uniform(*options.blur_sigma))
        else:
            smooth = blurred(hu, rng.uniform(*options.sharpen_sigma))
            hu = smooth + np.float32(rng.uniform(*options.sharpen_alpha)) * (smooth - blurred(smooth, 0.5))
    if rng.random() < options.noise_chance:
        hu = hu + rng.normal(0, rng.uniform(*options.noise_hu), hu.shape).astype(np.float32)
    low, high = config.window_hu
    if rng.random() < options.window_chance:
        low, high = rng.uniform(*options.window_low), rng.uniform(*options.window_high)
    return np.clip((hu - np.float32(low)) / np.float32(high - low), 0, 1)


def step_split(ct: Path, folder: Path) -> dict[str, float]:
    """Seconds of one step of the ``small`` preset at its smallest views: data, forward, loss, backward, update."""
    config = load_config(overrides=["matching.every=0", "sampling.largest_view=[64, 56, 48]"])
    (scan,) = prepare_scans([ScanEntry("demo", "demo", str(ct))], folder / "prepared", config.spacing_mm).scans
    batches = Batches([scan], config, 100, Share())
    objective = Objective(config)
    objective.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-4)
    ends: dict[str, float] = {}
    objective.embedding.backbone.register_forward_hook(lambda *_: ends.update(forward=time.perf_counter()))
    splits: list[dict[str, float]] = []
    for number in range(6):
        optimizer.zero_grad()
        times = [time.perf_counter()]
        pairs = batches[number]
        times.append(time.perf_counter())
        losses = objective(pairs)
        times += [ends["forward"], time.perf_counter()]
        losses.total.backward()
        times.append(time.perf_counter())
        optimizer.step()
        times.append(time.perf_counter())
        names = ("data", "forward", "loss", "backward", "update")
        splits.append({name: b - a for name, a, b in zip(names, times, times[1:], strict=False)})
    return {name: statistics.median(split[name] for split in splits[1:]) for name in splits[0]}


def processes(ct: Path, folder: Path) -> dict[str, float]:
    """Median seconds of a step with the same batch of two patients: one process, and two with one patient each."""
    write_manifest([ScanEntry(f"s{n}", f"p{n}", str(ct.absolute())) for n in range(2)], folder / "data.jsonl")
    one = _run(folder, "one", 1, ["sampling.patients=2"])
    two = _run(folder, "two", 2, ["sampling.patients=1"])
    return {"one_process_s": one, "two_processes_s": two, "speedup": one / two}


def _run(folder: Path, name: str, count: int, more: list[str]) -> float:
    run = folder / name
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", "--standalone"]
    flags = [part for text in (*SMALL_STEP, *more, "log_every=1", "checkpoint_every=100") for part in ("--set", text)]
    given = ["--data", str(folder / "data.jsonl"), "--out", str(run), "--prepared", str(folder / "prepared")]
    subprocess.run(
        [*command, "-m", "Vox2VecCore.cli", "pretrain", *given, "--steps", str(STEPS), "--device", "cpu", *flags],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    with (run / "log.csv").open() as stream:
        return statistics.median(float(row["seconds"]) for row in list(csv.DictReader(stream))[1:])
