"""The body mask: lungs in, table out, also where the field of view cuts the body."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from Vox2VecCore.body import body_mask
from Vox2VecCore.errors import VolumeError
from Vox2VecCore.grid import grid_scan
from Vox2VecCore.volume import Volume

SPACING_MM = 2.0
SHAPE = (220, 170, 40)
LUNG_LABELS = (10, 11, 12, 13, 14, 201, 202, 220)


class Phantom:
    """A chest on a table with an arm apart, and masks (SHAPE) of its parts; axial slices are all alike."""

    def __init__(self) -> None:
        x, y, _ = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * SPACING_MM for n in SHAPE], indexing="ij")
        outline = (x / 160) ** 2 + ((y - 15) / 105) ** 2 < 1
        self.lungs = (((np.abs(x) - 75) / 58) ** 2 + ((y - 15) / 75) ** 2 < 1) & outline
        self.body = outline
        shell = (np.abs(y + 96) < 3) | (np.abs(y + 140) < 3)
        self.table = shell & (np.abs(x) < 190) & ~outline
        self.foam = (y > -137) & (y < -99) & (np.abs(x) < 190)
        self.arm = (x - 190) ** 2 + (y - 20) ** 2 < 18**2
        hu = np.full(SHAPE, -1000.0)
        hu[self.foam] = -940
        hu[self.table] = 100
        hu[self.body | self.arm] = 40
        hu[self.lungs] = -860
        hu[((x / 9) ** 2 + ((y - 40) / 9) ** 2 < 1) & outline] = -1000  # trachea
        self.hu = (hu + np.random.default_rng(0).normal(0, 25, SHAPE)).round().clip(-1024).astype(np.int16)

    def volume(self, hu: NDArray | None = None, box: tuple[slice, ...] = ()) -> Volume:
        return Volume((self.hu if hu is None else hu)[box], np.diag([SPACING_MM, SPACING_MM, 5.0, 1.0]))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom()


def on_scan(volume: Volume) -> NDArray[np.bool_]:
    """The mask at the scan's own voxels."""
    mask = body_mask(volume)
    indices = np.moveaxis(np.indices(volume.shape), 0, -1).reshape(-1, 3)
    i, j, k = np.round(mask.to_ijk(volume.to_ras(indices))).astype(int).clip(0, np.array(mask.shape) - 1).T
    return mask.array[i, j, k].reshape(volume.shape)


def test_chest_on_a_table(phantom: Phantom) -> None:
    mask = on_scan(phantom.volume())
    assert mask[phantom.body].mean() > 0.995
    assert mask[phantom.lungs].all()
    assert mask[phantom.table].mean() < 0.05  # where the back rests on it
    assert not mask[phantom.arm].any() and not mask[phantom.foam].any()
    outside = ~phantom.body & ~phantom.table
    assert mask[outside].mean() < 0.01


def test_stored_axes_do_not_matter(phantom: Phantom) -> None:
    expected = body_mask(phantom.volume())
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[[0, 2], 3] = np.array(SHAPE)[[0, 2]] - 1
    volume = phantom.volume()
    permuted = Volume(volume.array[::-1, :, ::-1].transpose(2, 0, 1), (volume.affine @ flip)[:, [2, 0, 1, 3]])
    got = body_mask(permuted)
    np.testing.assert_array_equal(got.array, expected.array)
    np.testing.assert_allclose(got.affine, expected.affine)


CUTS = {
    "right half": (slice(0, 110),),
    "left third": (slice(150, None),),
    "narrow": (slice(50, 170), slice(40, 140)),
    "back": (slice(None), slice(0, 90)),
    "one slice": (slice(40, 180), slice(None), slice(20, 21)),
}


@pytest.mark.parametrize("cut", CUTS)
def test_cut_body_keeps_its_lungs(phantom: Phantom, cut: str) -> None:
    box = CUTS[cut]
    mask = on_scan(phantom.volume(box=box))
    assert mask[phantom.lungs[box]].mean() > 0.99
    assert mask[phantom.body[box]].mean() > 0.98
    assert (mask & ~phantom.body[box] & ~phantom.table[box]).sum() < 0.02 * phantom.body[box].sum()


@pytest.mark.parametrize("padding", [-3024, -2000, -1024, -1000])
@pytest.mark.parametrize("radius_mm", [90, 130, 190])
def test_round_field_of_view(phantom: Phantom, padding: int, radius_mm: float) -> None:
    x, y = ((np.arange(n) - (n - 1) / 2) * SPACING_MM for n in SHAPE[:2])
    beyond = x[:, None] ** 2 + y**2 > radius_mm**2
    hu = phantom.hu.copy()
    hu[beyond] = padding
    mask = on_scan(phantom.volume(hu))
    inside = ~beyond[..., None] & np.ones(SHAPE, bool)
    assert mask[phantom.lungs & inside].mean() > 0.99
    assert mask[phantom.body & inside].mean() > 0.97
    assert mask[~inside].mean() < 0.05


def test_two_legs() -> None:
    x, y, _ = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * 3.0 for n in (120, 80, 30)], indexing="ij")
    legs = (np.abs(x) - 90) ** 2 + y**2 < np.where(x > 0, 70, 60) ** 2
    mask = on_scan(Volume(np.where(legs, 50, -1000).astype(np.int16), np.diag([3.0, 3, 3, 1])))
    assert mask[legs].mean() > 0.99 and mask[~legs].mean() < 0.02


@pytest.mark.parametrize("value", [-1024, -1000, -2000])
def test_only_air(value: int) -> None:
    with pytest.raises(VolumeError, match=r"my\.nii: .*only air"):
        body_mask(Volume(np.full((30, 30, 10), value, np.int16), np.eye(4), "my.nii"))


@pytest.mark.parametrize("hu", [0, -850, 3000])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3), (40, 40, 1), (30, 30, 30)])
def test_no_body_found_takes_all(hu: int, shape: tuple[int, int, int]) -> None:
    volume = Volume(np.full(shape, hu, np.int16), np.diag([0.3, 10, 1, 1]))
    assert body_mask(volume).array.all()
    assert grid_scan(volume, (2, 2, 2)).body.all()


def read(path: Path) -> Volume:
    image = nib.nifti1.load(path)
    return Volume(np.asarray(image.dataobj), np.asarray(image.affine), path.name)


LABELLED = [
    "lidc/lidc_0001",
    "lidc/lidc_0314",
    "lung_pet_ct_dx/lpcd_a0001",
    "pyradiomics/prad_lung1",
    "totalsegmentator/ts_abdomen_pelvis",
    "totalsegmentator/ts_chest_cta",
    "openkbp/kbp_265",
    "openkbp/kbp_96",
]


@pytest.mark.parametrize("case", LABELLED)
def test_organs_of_real_scans_are_in(shared_ct: Path, case: str) -> None:
    volume, labels = read(shared_ct / f"{case}.nii.gz"), read(shared_ct / f"{case}_labels.nii.gz").array
    scan = grid_scan(volume, (2, 2, 2))
    mask = scan.grid.to_source(scan.body, nearest=True)
    assert mask[labels > 0].mean() > 0.995
    lungs = np.isin(labels, LUNG_LABELS)
    assert not lungs.any() or mask[lungs].mean() > 0.995


@pytest.mark.parametrize("side", ["left", "right", "back", "front"])
def test_cut_real_chest_keeps_its_lungs(shared_ct: Path, side: str) -> None:
    volume, labels = read(shared_ct / "lidc/lidc_0314.nii.gz"), read(shared_ct / "lidc/lidc_0314_labels.nii.gz").array
    i, j, _ = volume.shape
    box = {
        "left": (slice(0, i // 2), slice(None)),
        "right": (slice(int(i * 0.4), None), slice(None)),
        "back": (slice(None), slice(0, j // 2)),
        "front": (slice(i // 4, -i // 4), slice(j // 3, None)),
    }[side]
    mask = on_scan(Volume(volume.array[box], volume.affine))
    lungs = np.isin(labels[box], LUNG_LABELS)
    assert mask[lungs].mean() > 0.99


def test_tables_of_real_scans_are_out(shared_ct: Path, demo_ct: Path) -> None:
    # Boxes at the back, in the lower half of the scan, that hold the table and hardly anything else (looked up).
    cases = {
        demo_ct: (slice(None), slice(0, 66)),
        shared_ct / "lidc/lidc_0314.nii.gz": (slice(0, 50), slice(0, 20)),
        shared_ct / "crlm/crlm_1004.nii.gz": (slice(0, 40), slice(0, 20)),
    }
    for path, box in cases.items():
        volume = read(path)
        scan = grid_scan(volume, (2, 2, 2))
        back = (*box, slice(0, volume.shape[2] // 2))
        dense = volume.array[back] > -500
        assert dense.sum() > 1000
        assert scan.grid.to_source(scan.body, nearest=True)[back][dense].mean() < 0.05, path.name
