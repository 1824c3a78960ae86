"""A real Chromium at a real viewer; what it complains about fails the test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from Testing.browser.tab import Tab, launch
from Testing.browser.viewer_process import ViewerProcess
from Testing.conftest import DEMO_CT


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
    """A slab of the demo CT: quicker to embed, every organ of the chest in it."""
    if not DEMO_CT.is_file():
        pytest.fail("the demo CT is missing: run 'make install'")
    path = tmp_path_factory.mktemp("scans") / "chest.nii.gz"
    image = nibabel.load(DEMO_CT)
    nibabel.save(image.slicer[::2, ::2, 40:90], path)
    return path


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
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of all viewers of a run."""
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module")
def viewer(cache: Path, chest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewerProcess]:
    """A viewer with the slab open."""
    process = ViewerProcess(cache, tmp_path_factory.mktemp("log") / "viewer.log", chest, "--port", 0)
    yield process
    assert process.stop() == 0
    assert process.errors() == ""


@pytest.fixture
def tab(chromium: Any, viewer: ViewerProcess) -> Iterator[Tab]:
    """The viewer in a tab, its scan embedded, no points pinned."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    found = Tab(context.new_page(), viewer.url)
    found.until("get('embedded') && get('owner') === window.vox2vec.tab")
    found.page.evaluate("window.trame.trigger('clearPoints')")
    found.until("get('points').length === 0 && !get('mapped')")
    yield found
    errors = found.get("vtkErrors")
    context.close()
    assert found.complaints == []
    assert errors == 0
