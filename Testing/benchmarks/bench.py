"""``make bench``: every figure that README quotes, measured in one run on this machine.

Writes ``bench.json`` and ``bench.md`` beside this file. The model has the official size and random weights: speed and
memory do not depend on what the weights are.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from Testing.benchmarks import (
    embed_speed,
    hover_speed,
    memory,
    pretraining_speed,
    query_speed,
    strokes_speed,
    tile_overlap,
    viewer_speed,
)
from Testing.benchmarks.machine import describe

FOLDER = Path(__file__).parent


def measure(ct: Path) -> dict[str, Any]:
    """All figures."""
    figures: dict[str, Any] = {"machine": describe()}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = embed_speed.official_model(folder / "models")
        print("Embedding against the published way ...", flush=True)
        figures["embed"] = embed_speed.measure(ct, model)
        print("Memory of embed ...", flush=True)
        figures["memory"] = memory.measure(ct, model.directory, folder / "cache")
        print("Queries ...", flush=True)
        figures["query"] = query_speed.measure(model, folder)
        print("Hover through MRML ...", flush=True)
        figures["hover"] = hover_speed.measured_apart()
        print("Overlap of tiles ...", flush=True)
        figures["tiles"] = tile_overlap.measure(ct, tile_overlap.BENCHED)
        print("Strokes ...", flush=True)
        figures["strokes"] = strokes_speed.measured_apart()
        print("The browser viewer ...", flush=True)
        figures["viewer"] = viewer_speed.measure(ct, model.directory, folder / "viewer", folder / "viewer cache")
        print("Pretraining ...", flush=True)
        figures["pretraining"] = pretraining_speed.measure(ct, folder / "pretraining")
    figures["machine"]["load_average_after"] = describe()["load_average_1min"]
    figures["machine"]["minutes"] = round((time.monotonic() - start) / 60, 1)
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine, embed, query, memory_ = (figures[key] for key in ("machine", "embed", "query", "memory"))
    size = " x ".join(map(str, embed["grid"]))
    large = " x ".join(map(str, query["grid"]))
    rows = [
        ("", "Vox2Vec", "plain way", "ratio"),
        ("---", "---", "---", "---"),
        (
            f"`embed`, {size} grid, OpenVINO in single precision",
            f"{embed['ours_openvino_s']:.1f} s",
            f"{embed['published_s']:.0f} s",
            f"{embed['speedup_openvino']:.1f}x",
        ),
        (
            f"`embed`, {size} grid, PyTorch",
            f"{embed['ours_torch_s']:.1f} s",
            f"{embed['published_s']:.0f} s",
            f"{embed['speedup_torch']:.1f}x",
        ),
        (
            "one 128 x 128 x 32 patch",
            f"{embed['openvino_patch_s']:.2f} s ({embed['openvino_gflops']:.0f} GFLOP/s)",
            f"{embed['torch_patch_s']:.2f} s ({embed['torch_gflops']:.0f} GFLOP/s)",
            f"{embed['torch_patch_s'] / embed['openvino_patch_s']:.1f}x",
        ),
        (
            "engine against matrix multiplication",
            f"{embed['openvino_gflops']:.0f} GFLOP/s",
            f"{embed['matmul_gflops']:.0f} GFLOP/s",
            f"{embed['openvino_gflops'] / embed['matmul_gflops']:.2f}x",
        ),
        (
            f"click to whole-scan map, {large} grid",
            f"{query['whole_scan_s']:.2f} s",
            f"{query['plain_whole_scan_s']:.0f} s",
            f"{query['speedup_whole_scan']:.0f}x",
        ),
        (
            "the same, spreading to all that is alike (its graph is made once a scan, beside other work)",
            f"{query['whole_scan_spreading_s']:.2f} s (once {query['spreading_prepared_s']:.1f} s)",
            "",
            "",
        ),
        (
            f"hover, three slices, {large} grid",
            f"{1000 * query['three_slices_s']:.0f} ms",
            f"{1000 * query['plain_three_slices_s']:.0f} ms",
            f"{query['speedup_three_slices']:.0f}x",
        ),
        (
            f"hover in 3D Slicer's scene, three slice views, {large} grid: 95th percentile of an event",
            f"{figures['hover']['planes of the scan']['hover_p95_ms']:.0f} ms",
            "",
            "",
        ),
        (
            "the same in views turned by (10, 20, 30) degrees, coarser while the mouse moves",
            f"{figures['hover']['turned by (10, 20, 30) degrees']['hover_p95_ms']:.0f} ms",
            "",
            "",
        ),
        (f"peak memory of `embed`, {large} grid", f"{memory_['peak_memory_gb']:.2f} GB", "", ""),
        ("cache on disk", f"{memory_['cache_bytes_per_voxel']:.1f} bytes a voxel", "", ""),
    ]
    half_s = embed["ours_openvino_bfloat16_s"]
    if half_s is not None:
        ratio = f"{embed['published_s'] / half_s:.1f}x"
        rows.insert(
            3,
            (
                "the same in bfloat16, taken where the first tile agrees with single precision",
                f"{half_s:.1f} s",
                f"{embed['published_s']:.0f} s",
                ratio,
            ),
        )
    rows += tile_rows(figures["tiles"])
    rows += stroke_rows(figures["strokes"])
    rows += viewer_rows(figures["viewer"])
    rows += pretraining_rows(figures["pretraining"])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"{text}\n\n{machine['processor']}, {machine['cores']} cores, PyTorch {machine['torch']}; load average "
        f"{machine['load_average_1min']} before the run. Network of the official size (47.6 M parameters).\n"
    )


def tile_rows(figures: dict[str, dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """The lines about what overlap of tiles costs and brings, with the shipped model."""
    return [
        (
            f"tiles of {name}: cosine near their borders to large overlap, matches within 10 mm",
            f"{tile_overlap.or_dash(row['cosine_near_borders'])}, {row['within_10_mm']:.2f}",
            "",
            f"{row['computed_share']:.2f} of the grid",
        )
        for name, row in figures.items()
    ]


def stroke_rows(figures: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The lines about heads."""
    size = " x ".join(map(str, figures["grid"]))
    what = f"{figures['labelled_voxels']} labelled voxels, {figures['classes']} classes, {figures['method']}"
    return [
        (f"strokes: learning, {what}", f"{figures['train_s']:.2f} s", "", ""),
        (f"and then three slices, {size} grid", f"{1000 * figures['three_slices_s']:.0f} ms", "", ""),
        ("and the whole scan", f"{figures['whole_scan_s']:.1f} s", "", ""),
        ("extra memory of that", f"{figures['extra_memory_gb']:.2f} GB", "", ""),
        (
            "and the segmentation: walk, outlines on the CT's own grid, parts",
            f"{figures['outlined_on_ct_s']:.1f} s",
            "",
            "",
        ),
    ]


def viewer_rows(figures: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The lines about the browser viewer."""
    return [
        ("viewer: mouse move to new frames in all views, 95 of 100", f"{figures['hover_p95_ms']:.0f} ms", "", ""),
        ("viewer: click to whole-scan overlay", f"{figures['click_median_ms'] / 1000:.2f} s", "", ""),
        ("viewer: stroke to preview in the slices", f"{figures['stroke_median_ms'] / 1000:.2f} s", "", ""),
        ("viewer: and then in the whole scan", f"{figures['whole_median_ms'] / 1000:.1f} s", "", ""),
        ("viewer: command to page", f"{figures['page_ready_s']:.1f} s", "", ""),
        ("viewer: peak memory of the server", f"{figures['peak_memory_gb']:.2f} GB", "", ""),
        ("viewer: peak memory while it embeds", f"{figures['embedding_peak_memory_gb']:.2f} GB", "", ""),
    ]


def pretraining_rows(figures: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The lines about pretraining."""
    cut, augmented = (figures["data"][name] for name in ("cut", "augmented"))
    step, processes = figures["step"], figures["processes"]
    whole = sum(step.values())
    split = ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in step.items())
    return [
        (
            "pretraining: view pairs cut, one thread",
            f"{cut['ours']:.1f} a second",
            f"{cut['published']:.1f} a second",
            f"{cut['speedup']:.1f}x",
        ),
        (
            "the same with the published augmentation",
            f"{augmented['ours']:.1f} a second",
            f"{augmented['published']:.1f} a second",
            f"{augmented['speedup']:.1f}x",
        ),
        (f"one pretraining step: {split}", f"{whole:.2f} s", "", ""),
        (
            "a step on two processes against one, one thread each",
            f"{processes['two_processes_s']:.2f} s",
            f"{processes['one_process_s']:.2f} s",
            f"{processes['speedup']:.2f}x",
        ),
    ]


def main(ct: Path) -> None:
    """Measure, print and write."""
    figures = measure(ct)
    (FOLDER / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    (FOLDER / "bench.md").write_text(table(figures))
    print(table(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
