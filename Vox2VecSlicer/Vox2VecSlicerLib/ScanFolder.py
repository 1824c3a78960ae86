"""The scans of a folder, as the command line takes them."""

from pathlib import Path


def scansIn(folder: str | Path) -> list[str]:
    """Image files of a folder without label maps, and its folders, which may hold DICOM series.

    A folder with neither is taken for a DICOM series itself.
    """
    from Vox2VecCore.pretraining.layouts import LABEL_SUFFIXES, image_files, image_stem

    folder = Path(folder)
    images = [path for path in image_files(folder) if not image_stem(path).endswith(LABEL_SUFFIXES)]
    series = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [str(path) for path in sorted([*images, *series])] or [str(folder)]
