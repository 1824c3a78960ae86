"""Tables that the code under test writes."""

import csv
from pathlib import Path


def rows(path: Path) -> list[list[str]]:
    """Rows of a CSV file, its heading first."""
    with path.open(encoding="utf-8") as file:
        return list(csv.reader(file))
