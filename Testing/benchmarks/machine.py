"""What the machine can do, measured in the same run as everything it is compared with."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def describe() -> dict[str, Any]:
    """Processor, threads, versions and the load before the benchmark."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def matmul(size: int = 2048) -> tuple[Callable[[], object], float]:
    """Single-precision matrix multiplication, and its floating-point operations."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    return lambda: a @ b, 2.0 * size**3


def best_in_rounds(works: Mapping[str, Callable[[], object]], rounds: int = 8) -> dict[str, float]:
    """Shortest timing of each, taken in turn so that all meet the same moments of a busy machine."""
    for work in works.values():
        work()
    times = [{name: seconds(work) for name, work in works.items()} for _ in range(rounds)]
    return {name: min(one[name] for one in times) for name in works}


def best_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Shortest of several timings after one run that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def seconds(work: Callable[[], object]) -> float:
    """One timing."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far, as Linux counts it.

    (Not ``ru_maxrss``: a process starts with that of the process that started it.)
    """
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
