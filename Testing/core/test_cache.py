"""The cache: what counts as the same, what a fault leaves behind, two at once, and the size bound."""

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from Testing.support.models import random_model
from Testing.support.scans import phantom
from Vox2VecCore import embedding, pyramid_files
from Vox2VecCore.cache import PyramidCache
from Vox2VecCore.embedding import embed
from Vox2VecCore.errors import CacheError, ModelError
from Vox2VecCore.model import Model
from Vox2VecCore.progress import Progress
from Vox2VecCore.volume import Volume

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def cache(private_cache: Path) -> PyramidCache:
    return PyramidCache()


def forbid_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("computed although it was cached")

    monkeypatch.setattr(embedding, "_compute", fail)


def test_the_second_time_is_answered_from_disk(
    model: Model, cache: PyramidCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embed(phantom(), model)
    forbid_computing(monkeypatch)
    start = time.perf_counter()
    second = embed(phantom(name="renamed"), model)
    assert time.perf_counter() - start < 1
    for a, b in zip(first.levels, second.levels, strict=True):
        assert np.array_equal(a.unit, b.unit)
        assert np.array_equal(a.magnitude, b.magnitude)
    assert np.array_equal(first.body, second.body)
    assert np.array_equal(first.grid.affine, second.grid.affine)
    (entry,) = cache.entries()
    assert (entry.scan, entry.model) == ("phantom", "random")
    assert entry.bytes == sum(path.stat().st_size for path in entry.folder.iterdir())


def test_the_key_is_values_geometry_weights_and_tiles(model: Model) -> None:
    volume = phantom()
    key = PyramidCache.key(volume, model)
    shifted, changed = volume.affine.copy(), volume.array.copy()
    shifted[0, 3] += 0.001
    changed[0, 0, 0] += 1
    assert PyramidCache.key(Volume(volume.array, shifted), model) != key
    assert PyramidCache.key(Volume(changed, volume.affine), model) != key
    other_tiles = Model(replace(model.config, tile_shape=(64, 32, 32)), model.directory)
    assert PyramidCache.key(volume, other_tiles) != key
    assert PyramidCache.key(Volume(np.asfortranarray(volume.array), volume.affine), model) == key


@pytest.mark.parametrize("damage", ["truncate", "remove", "description", "version"])
def test_a_damaged_entry_is_rebuilt(model: Model, cache: PyramidCache, damage: str) -> None:
    pyramid = embed(phantom(), model)
    before = np.array(pyramid.levels[0].unit)
    assert pyramid.path is not None
    level, description = pyramid.path / "level0_unit.npy", pyramid.path / "pyramid.json"
    if damage == "truncate":
        os.truncate(level, level.stat().st_size - 1)
    elif damage == "remove":
        level.unlink()
    elif damage == "description":
        description.write_text("{")
    else:
        description.write_text(description.read_text().replace('"format_version": 1', '"format_version": 99'))
    again = embed(phantom(), model)
    assert np.array_equal(again.levels[0].unit, before)
    assert len(cache.entries()) == 1


def test_a_damaged_model_is_said_even_where_the_cache_would_answer(cache: PyramidCache, tmp_path: Path) -> None:
    model = random_model(tmp_path)
    embed(phantom(), model)
    weights = model.directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        embed(phantom(), model)
    weights.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        embed(phantom(), model)


@pytest.mark.parametrize("description", ['{"format_version": 1}', '{"format_version": 1, "scan": 3, "model": "m"}'])
def test_an_entry_that_does_not_say_what_it_is_is_not_listed(cache: PyramidCache, description: str) -> None:
    (cache.folder / "abc").mkdir(parents=True)
    (cache.folder / "abc" / "pyramid.json").write_text(description)
    assert cache.entries() == []


def test_clear(model: Model, cache: PyramidCache) -> None:
    embed(phantom(), model)
    leftover = cache.folder / ".abc.xyz.tmp"
    leftover.mkdir()
    (leftover / "level0_unit.npy").write_bytes(b"12345")
    size = cache.entries()[0].bytes
    assert cache.clear() == size + 5
    assert cache.entries() == []
    assert list(cache.folder.iterdir()) == []
    assert cache.clear() == 0


def test_clear_while_a_scan_is_embedded(model: Model, cache: PyramidCache) -> None:
    cleared = Progress(lambda report: cache.clear() if report.stage == "Embedding" and report.done == 0 else None)
    with pytest.raises(CacheError, match="was cleared while a scan was being embedded; embed it again"):
        embed(phantom(), model, progress=cleared)
    assert list(cache.folder.iterdir()) == []


def test_the_bound_drops_what_was_not_used_for_longest(
    model: Model, cache: PyramidCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        embed(phantom(seed=seed, name=f"scan{seed}"), model)
        os.utime(cache.entries()[0].folder / "pyramid.json", (seed + 1, seed + 1))
    embed(phantom(seed=0), model)  # used again: now the newest
    size = max(entry.bytes for entry in cache.entries())
    monkeypatch.setenv("VOX2VEC_CACHE_MAX_GB", str(2.5 * size / 1e9))
    embed(phantom(seed=3, name="scan3"), model)
    assert {entry.scan for entry in cache.entries()} == {"scan0", "scan3"}


def test_the_bound_keeps_the_entry_just_made(
    model: Model, cache: PyramidCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOX2VEC_CACHE_MAX_GB", "0")
    embed(phantom(), model)
    assert len(cache.entries()) == 1
    for nonsense in ("plenty", "-1", "inf", "nan"):
        monkeypatch.setenv("VOX2VEC_CACHE_MAX_GB", nonsense)
        with pytest.raises(CacheError, match=f"must be a number of gigabytes, not '{nonsense}'"):
            embed(phantom(seed=5), model)
    assert len(cache.entries()) == 1, "said before the work is done"


def test_abandoned_leftovers_go_when_room_is_made(model: Model, cache: PyramidCache) -> None:
    old, young = cache.folder / ".old.1.tmp", cache.folder / ".young.1.tmp"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (1, 1))
    embed(phantom(), model)
    assert not old.exists()
    assert young.exists()


def test_another_process_may_finish_while_room_is_made(
    model: Model, cache: PyramidCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its half-written folder is listed, and renamed before it is looked at."""
    glob = Path.glob

    def listed(folder: Path, pattern: str) -> list[Path]:
        gone = [folder / ".gone.1.tmp"] if pattern == ".*.tmp" else []
        return [*glob(folder, pattern), *gone]

    monkeypatch.setattr(Path, "glob", listed)
    embed(phantom(), model)
    assert len(cache.entries()) == 1


def test_clear_does_not_claim_what_it_could_not_remove(
    model: Model, cache: PyramidCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(phantom(), model)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("shutil.rmtree", denied)
    with pytest.raises(CacheError, match=r"cannot be removed \(Permission denied\)"):
        cache.clear()


def test_full_disk_leaves_nothing(model: Model, cache: PyramidCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pyramid_files, "_reserve", full)
    with pytest.raises(CacheError, match=r"cannot be written \(No space left on device\).*VOX2VEC_CACHE_DIR"):
        embed(phantom(), model)
    assert list(cache.folder.iterdir()) == []


def run_python(code: str, **kwargs: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=REPOSITORY, text=True, stderr=subprocess.PIPE, **kwargs
    )  # type: ignore[call-overload,no-any-return]


EMBED = """
    from pathlib import Path
    from Testing.support.scans import phantom
    from Vox2VecCore.embedding import embed
    from Vox2VecCore.errors import CacheError
    try:
        embed(phantom(), Path({model!r}))
    except CacheError as error:
        raise SystemExit(str(error))
"""


def test_a_real_limit_on_file_size_is_one_sentence(model: Model, cache: PyramidCache) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    process = run_python(EMBED.format(model=str(model.directory)), preexec_fn=limit)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "cannot be written" in error
    assert "Traceback" not in error
    assert list(cache.folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX rights")
def test_a_cache_folder_that_cannot_be_made(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VOX2VEC_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match="cannot be written"):
        embed(phantom(), model)


def test_a_read_only_cache_still_answers(model: Model, cache: PyramidCache, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(phantom(), model)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "utime", denied)
    forbid_computing(monkeypatch)
    embed(phantom(), model)
    monkeypatch.undo()
    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(CacheError, match="Permission denied"):
        embed(phantom(seed=8), model, cache=cache)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_folder_that_is_really_read_only(model: Model, cache: PyramidCache) -> None:
    """Not even root, who may run the tests, can write to it while being somebody else."""
    cached = embed(phantom(), model)
    levels = [np.array(level.unit) for level in cached.levels]
    cache.folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        for folder in {cache.folder, *cache.folder.parents, model.directory, *model.directory.parents}:
            folder.chmod(folder.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        again = embed(phantom(), model)
        assert all(np.array_equal(a, b.unit) for a, b in zip(levels, again.levels, strict=True))
        with pytest.raises(CacheError, match=r"cannot be written \(Permission denied\).*VOX2VEC_CACHE_DIR"):
            embed(phantom(seed=8), model)
        if root:
            os.seteuid(0)
        cache.folder.parent.chmod(0o600)
        if root:
            os.seteuid(65534)
        with pytest.raises(CacheError, match=r"cannot be read \(Permission denied\)"):
            embed(phantom(), model)
    finally:
        if root:
            os.seteuid(0)
        cache.folder.parent.chmod(0o755)
        cache.folder.chmod(0o755)
    assert len(list(cache.folder.iterdir())) == 1


def test_two_processes_at_once(model: Model, cache: PyramidCache) -> None:
    processes = [run_python(EMBED.format(model=str(model.directory))) for _ in range(2)]
    for process in processes:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error
    assert len(list(cache.folder.iterdir())) == len(cache.entries()) == 1


def test_kill_in_the_middle_leaves_nothing_that_is_read(model: Model, cache: PyramidCache) -> None:
    code = f"""
        import time
        from pathlib import Path
        from Testing.support.scans import phantom
        from Vox2VecCore.embedding import embed
        from Vox2VecCore.progress import Progress
        def report(r):
            if r.stage == "Embedding" and r.done:
                print("half way", flush=True)
                time.sleep(60)
        embed(phantom((70, 50, 45)), Path({str(model.directory)!r}), progress=Progress(report))
    """
    process = run_python(code, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "half way\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (leftover,) = cache.folder.iterdir()
    assert leftover.name.startswith(".")
    assert cache.entries() == []
    pyramid = embed(phantom((70, 50, 45)), model)
    assert pyramid.path is not None
    assert len(cache.entries()) == 1
