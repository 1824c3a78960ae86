"""Runs the tests of ``Testing/Python`` in a real Slicer and fails closed: no tests, a skip or an error is a failure.

    Slicer --testing --no-splash --additional-module-paths Vox2VecSlicer \\
        --python-script Vox2VecSlicer/Testing/run_in_slicer.py results.json [PATTERN]

The results file is written last: a run that crashed leaves none.
"""

import json
import sys
import unittest
from pathlib import Path

import slicer

PATTERN = "*Test.py"


def run(results: Path, pattern: str = PATTERN) -> int:
    """Run the files of a pattern, or all; returns the exit code."""
    folder = Path(__file__).resolve().parent / "Python"
    suite = unittest.defaultTestLoader.discover(str(folder), pattern=pattern, top_level_dir=str(folder))
    found = suite.countTestCases()
    outcome = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    passed = found > 0 and outcome.wasSuccessful() and not outcome.skipped and outcome.testsRun == found
    summary = {
        "slicer": slicer.app.applicationVersion,
        "found": found,
        "run": outcome.testsRun,
        "failures": [str(test) for test, _ in [*outcome.failures, *outcome.errors]],
        "skipped": [str(test) for test, _ in outcome.skipped],
        "passed": passed,
    }
    results.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    slicer.util.exit(run(Path(sys.argv[1] if len(sys.argv) > 1 else "slicer-test-results.json"), *sys.argv[2:3]))
