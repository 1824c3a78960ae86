"""Fixtures shared by all layers: real CT, and a cache that never touches the user's own."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_CT = Path(os.environ.get("VOX2VEC_SHARED_CT", REPOSITORY.parent / "shared" / "data" / "ct"))
DEMO_CT = REPOSITORY / ".data" / "demo_ct.nii.gz"
GOLDEN = Path(__file__).parent / "golden"

# How long an example takes says what else the machine does. All else stays as Hypothesis has it here or in CI.
settings.register_profile("no deadline", settings(), deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test gets an embedding cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VOX2VEC_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_ct() -> Path:
    """Folder of real CT with labels that continuous integration has beside the checkout."""
    if not SHARED_CT.is_dir():
        pytest.skip("shared CT folder is absent")
    return SHARED_CT


@pytest.fixture(scope="session")
def demo_ct() -> Path:
    """The chest CT of the demo, fetched by ``make install``."""
    if not DEMO_CT.is_file():
        pytest.fail("the demo CT is missing: run 'make install'")
    return DEMO_CT


def pytest_configure() -> None:
    """A run that was started in the background ignores Ctrl-C, and so would the commands that tests start and stop."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


ALLOWED_SKIPS = ("shared CT folder is absent", "Linux only")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """No green by skipping: a run in which nothing passed, or something skipped for another reason, has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.config.option.collectonly:
        return
    reasons = [str(report.longrepr[-1]) for report in reporter.stats.get("skipped", [])]
    unexpected = [reason for reason in reasons if not any(allowed in reason for allowed in ALLOWED_SKIPS)]
    for reason in unexpected:
        reporter.write_line(f"Skipped for a reason that is not allowed: {reason}", red=True)
    if unexpected or not reporter.stats.get("passed"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
