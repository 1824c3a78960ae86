"""What has to be installed into Slicer's Python, and how: asked for, in the open, nothing of Slicer's replaced.

PyTorch comes through the PyTorch extension, the rest through ``slicer.packaging`` (Slicer 5.11 and newer) or pip.
"""

import platform
import re
import sys
import tempfile
from pathlib import Path

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.versions import installed_version as installedVersion
from Vox2VecSlicerLib.Texts import tr as _

RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
BASE = RESOURCES / "requirements.txt"
OPENVINO = RESOURCES / "requirements-openvino.txt"
BATCH = RESOURCES / "requirements-batch.txt"
TORCH = "torch>=2.4"
BUNDLED = ("numpy", "scipy", "SimpleITK")
"""Packages of Slicer that are never replaced: a SimpleITK from PyPI cannot read MRML volumes."""


class InstallationError(Vox2VecError):
    """Something could not be installed; the sentence says what to do."""


def read(path: Path) -> list[str]:
    """Requirements of a file, one a line."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def nameOf(requirement: str) -> str:
    """The distribution of a requirement such as ``nibabel>=5.2``."""
    return re.split(r"[<>=!~ ]", requirement, maxsplit=1)[0]


def satisfied(requirement: str) -> bool:
    """Whether a distribution is installed and not older than the requirement's ``>=``."""
    version = installedVersion(nameOf(requirement))
    floor = re.search(r">=\s*([\d.]+)", requirement)
    return version is not None and (floor is None or _numbers(version) >= _numbers(floor[1]))


def missing(*files: Path) -> list[str]:
    """Requirements that are not satisfied, of PyTorch and of the files given (the base when none is)."""
    wanted = [TORCH, *(requirement for path in files or (BASE,) for requirement in read(path))]
    return [requirement for requirement in wanted if not satisfied(requirement)]


def summary() -> str:
    """What is here and what is not, for the panel."""
    names = ["torch", *(nameOf(requirement) for path in (BASE, OPENVINO) for requirement in read(path))]
    found = ((name, installedVersion(name)) for name in names)
    return ", ".join(
        f"{name} {version}" if version else _("{name} is missing").format(name=name) for name, version in found
    )


def install(*files: Path) -> None:
    """Install what is missing, after asking. Main thread only: Slicer shows a dialog meanwhile.

    :raises InstallationError: when the user declines, the PyTorch extension is not there, or pip fails.
    """
    lacking = missing(*files)
    if TORCH in lacking:
        _installTorch()
    for path in files or (BASE,):
        if any(not satisfied(requirement) for requirement in read(path)):
            _installFile(path)


def _installTorch() -> None:
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        raise InstallationError(
            _(
                "PyTorch has had no builds for Intel applications on Macs since version 2.2, and this Slicer is one; "
                "use Slicer on another computer, or Vox2Vec's own command line or browser viewer on this one."
            )
        )
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise InstallationError(
            _(
                "PyTorch comes through Slicer's PyTorch extension: install it in the Extensions Manager, restart "
                "Slicer, and press Install again."
            )
        ) from error
    try:
        torch = PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH.removeprefix("torch")
        )
    except Exception as error:  # pip and the extension raise what they like
        raise InstallationError(
            _("PyTorch could not be installed ({error}); check the connection and the log.").format(error=error)
        ) from error
    if torch is None:
        raise InstallationError(_("PyTorch was not installed; Vox2Vec cannot embed scans without it."))


def _installFile(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vox2vec-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(_pinned(), encoding="utf-8")
        try:
            _pip(path, constraints)
        except Exception as error:  # pip, Slicer and a user who declines raise what they like
            raise InstallationError(
                _(
                    "{packages} could not be installed ({error}); check the connection, or install them with "
                    "PythonSlicer -m pip install, then restart Slicer."
                ).format(packages=", ".join(read(path)), error=error)
            ) from error


def _pip(path: Path, constraints: Path) -> None:
    import slicer

    try:
        import slicer.packaging as packaging
    except ImportError:  # Slicer older than 5.11
        lacking = [requirement for requirement in read(path) if not satisfied(requirement)]
        question = _("Vox2Vec needs {packages} from the Python Package Index. Install now?").format(
            packages=", ".join(lacking)
        )
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle="Vox2Vec"):
            raise InstallationError(_("declined")) from None
        slicer.util.pip_install(["-c", str(constraints), "--only-binary", ":all:", *lacking])
    else:
        packaging.pip_ensure(packaging.load_requirements(path), constraints=constraints, requester="Vox2Vec")


def _pinned() -> str:
    versions = ((name, installedVersion(name)) for name in BUNDLED)
    return "".join(f"{name}=={version}\n" for name, version in versions if version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
