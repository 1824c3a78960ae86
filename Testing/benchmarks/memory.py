"""Peak memory of ``embed`` and size of its cache entry, in a process of its own, on the largest usual grid.

Run as ``python -m Testing.benchmarks.memory CT MODEL_DIRECTORY``; prints JSON.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from Testing.benchmarks.embed_speed import SPACING_MM, stretched
from Testing.benchmarks.machine import peak_memory_gb
from Vox2VecCore.embedding import embed
from Vox2VecCore.shapes import Triple

GRID: Triple = (350, 350, 200)


def measure(ct: Path, model: Path, cache: Path) -> dict[str, Any]:
    """Figures of one ``embed`` in a fresh process."""
    command = [sys.executable, "-m", "Testing.benchmarks.memory", str(ct), str(model)]
    environment = {**os.environ, "VOX2VEC_CACHE_DIR": str(cache)}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def main(ct: Path, model: Path) -> None:
    """Embed and print what it took."""
    volume = stretched(ct, GRID, SPACING_MM)
    before = peak_memory_gb()
    pyramid = embed(volume, model)
    assert pyramid.path is not None
    stored = sum(path.stat().st_size for path in pyramid.path.iterdir())
    voxels = int(np.prod(pyramid.grid.shape))
    figures = {
        "grid": list(pyramid.grid.shape),
        "peak_memory_gb": peak_memory_gb(),
        "peak_memory_before_gb": before,
        "cache_gb": stored / 1e9,
        "cache_bytes_per_voxel": stored / voxels,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
