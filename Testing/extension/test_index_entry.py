"""What the extensions index checks by itself, checked before."""

import json
import re
import subprocess
from pathlib import Path

from Testing.support.cmake_lists import cmake_list

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY / "CMakeLists.txt"
ENTRY = REPOSITORY / "Resources" / "ExtensionsIndex" / "Vox2Vec.json"
ALLOWED_KEYS = {
    "$schema",
    "category",
    "scm_url",
    "scm_revision",
    "scm_type",
    "build_dependencies",
    "build_subdirectory",
    "enabled",
    "tier",
}
"""Schema 1.0.1; it allows no others."""

MAX_REPOSITORY_BYTES = 100e6


def test_entry_agrees_with_cmake() -> None:
    entry = json.loads(ENTRY.read_text(encoding="utf-8"))
    assert set(entry) <= ALLOWED_KEYS
    assert {"$schema", "category", "scm_url"} <= set(entry)
    project = re.search(r"project\((\w+)\)", ROOT.read_text(encoding="utf-8"))
    assert project is not None
    assert project[1] == ENTRY.stem
    assert not project[1].startswith("Slicer")
    assert entry["build_dependencies"] == cmake_list(ROOT, "EXTENSION_DEPENDS")
    homepage = cmake_list(ROOT, "EXTENSION_HOMEPAGE")[0]
    assert entry["scm_url"] == f"{homepage}.git"
    assert homepage.rsplit("/", 1)[1].startswith("Slicer")


def test_each_url_is_in_one_quoted_string_and_points_at_a_file_here() -> None:
    text = ROOT.read_text(encoding="utf-8")
    raw = cmake_list(ROOT, "EXTENSION_HOMEPAGE")[0].replace("github.com", "raw.githubusercontent.com") + "/main/"
    for variable in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        values = cmake_list(ROOT, variable)
        assert len(values) == 1
        assert f'set({variable} "' in text
        for url in values[0].split(" "):
            assert url.startswith(raw)
            assert (REPOSITORY / url.removeprefix(raw)).is_file(), url


def test_files_that_reviewers_look_for() -> None:
    for name in ("LICENSE.txt", "README.md", "Vox2Vec.png"):
        assert (REPOSITORY / name).is_file(), name
    assert "## NEXT_MODULE" in ROOT.read_text(encoding="utf-8")
    assert "MIT" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_repository_is_small_enough() -> None:
    known = subprocess.run(["git", "-C", str(REPOSITORY), "ls-files"], capture_output=True, text=True, check=True)
    size = sum(
        (REPOSITORY / name).stat().st_size for name in known.stdout.splitlines() if (REPOSITORY / name).is_file()
    )
    assert size < MAX_REPOSITORY_BYTES
