"""A real Chromium at a real viewer; what it complains about fails the test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from Testing.browser.tab import WINDOW, Tab, launch
from Testing.browser.viewer_process import ViewerProcess
from Testing.conftest import DEMO_CT

SLAB = (slice(None, None, 2), slice(None, None, 2), slice(50, 80))
"""Of the demo CT: quicker to embed, every organ of the chest in it."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser for the whole run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = launch(playwright)
        except FileNotFoundError as error:
            pytest.exit(str(error), returncode=1)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slab of the demo CT."""
    if not DEMO_CT.is_file():
        pytest.fail("the demo CT is missing: run 'make install'")
    path = tmp_path_factory.mktemp("scans") / "chest.nii.gz"
    nibabel.save(nibabel.load(DEMO_CT).slicer[SLAB], path)
    return path


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    """The organs in the slab."""
    return np.asarray(nibabel.load(DEMO_CT.with_name("demo_ct_labels.nii.gz")).slicer[SLAB].dataobj)


@pytest.fixture(scope="session")
def shifted(chest: Path) -> Path:
    """The same patient, lying elsewhere in the scanner."""
    image = nibabel.load(chest)
    affine = image.affine.copy()
    affine[:3, 3] += (12, -7, 30)
    path = chest.with_name("later.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)
    return path


@pytest.fixture(scope="session")
def elsewhere(chest: Path) -> Path:
    """The shoulders of the same patient."""
    path = chest.with_name("shoulders.nii.gz")
    nibabel.save(nibabel.load(DEMO_CT).slicer[::2, ::2, 108:], path)
    return path


@pytest.fixture(scope="session")
def crop() -> nibabel.Nifti1Image:
    """A small part of the demo CT around its spine, for what only has to be read."""
    return nibabel.load(DEMO_CT).slicer[208:304, 272:368, 60:84]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of all viewers of a run."""
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="session")
def viewer(cache: Path, chest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewerProcess]:
    """A viewer with the slab open."""
    process = ViewerProcess(cache, tmp_path_factory.mktemp("log") / "viewer.log", chest, "--port", 0)
    yield process
    assert process.stop() == 0
    assert process.errors() == ""


@pytest.fixture(scope="session")
def opened(chromium: Any, viewer: ViewerProcess) -> Iterator[Tab]:
    """The viewer in a tab."""
    context = chromium.new_context(viewport=WINDOW, accept_downloads=True)
    found = Tab(context.new_page(), viewer.url)
    found.until("get('embedded') && get('owner') === window.vox2vec.tab")
    yield found
    context.close()


@pytest.fixture
def tab(opened: Tab, chest: Path) -> Iterator[Tab]:
    """The tab, its scan embedded, nothing pinned, painted or set."""
    opened.complaints.clear()
    before = opened.get("vtkErrors")
    opened.fresh(chest)
    yield opened
    opened.rest()
    assert opened.complaints == []
    assert opened.get("vtkErrors") == before, "VTK has complained; the viewer's log says what about"
