"""Against dcm2niix, the converter of the field: the same voxels at the same places."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medvid.contract import Stack
from medvid.io import open_stack
from medvid.io.geometry import Plane, nearest_plane
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series

dcm2niix = pytest.importorskip("dcm2niix", reason="dcm2niix is not installed (extra `dev`)")

DATA = Path(__file__).parents[3] / "shared" / "data"
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
AFFINE_MM = 1e-3
"""NIfTI keeps affines in float32; a field of view of 500 mm is good to 3e-5 mm."""


def convert(folder: Path, out: Path, *options: str) -> list[Path]:
    """Converts every series of a folder."""
    out.mkdir()
    words = [dcm2niix.bin, "-b", "n", "-z", "n", *options, "-o", str(out), str(folder)]
    subprocess.run(words, capture_output=True, check=False, timeout=120)
    return sorted(out.glob("*.nii"))


def plane_of(stack: Stack) -> Plane:
    assert stack.affine is not None
    across = np.cross(stack.affine[:3, 1], stack.affine[:3, 2])
    return nearest_plane(across / np.linalg.norm(across))


def assert_same(stack: Stack, converted: Path) -> None:
    other = open_stack(converted, plane=plane_of(stack))
    np.testing.assert_allclose(stack.read()[0], other.read()[0], rtol=1e-6, atol=1e-3)
    assert stack.affine is not None
    assert other.affine is not None
    np.testing.assert_allclose(stack.affine, other.affine, atol=AFFINE_MM)


def edit(folder: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)


@pytest.fixture
def volume() -> NDArray[np.int16]:
    """Lengths that differ and no symmetry, so that no wrong order can pass."""
    return np.random.default_rng(0).integers(-1000, 1000, (5, 17, 19)).astype(np.int16)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("reverse", [False, True])
def test_every_plane_and_slice_order(
    tmp_path: Path, volume: NDArray[np.int16], plane: Plane, reverse: bool
) -> None:
    write_dicom_series(
        tmp_path / "ct",
        volume,
        spacing=(3.0, 0.5, 0.75),
        plane=plane,
        reverse=reverse,
        shuffle_names=True,
        origin=(-20.0, 13.0, 40.0),
    )
    (converted,) = convert(tmp_path / "ct", tmp_path / "out")
    assert_same(open_stack(tmp_path / "ct"), converted)


def test_an_oblique_series_with_its_own_scale(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    write_dicom_series(tmp_path / "ct", volume, spacing=(3.0, 0.5, 0.75))
    angles = np.radians([20.0, 10.0])
    (c, d), (s, t) = np.cos(angles), np.sin(angles)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, d, -t], [0, t, d]])
    turn = about_z @ about_x

    def change(dataset: pydicom.Dataset) -> None:
        both = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
        dataset.ImageOrientationPatient = [round(x, 9) for x in (both @ turn.T).ravel().tolist()]
        place = turn @ np.array(dataset.ImagePositionPatient, float)
        dataset.ImagePositionPatient = [round(x, 6) for x in place.tolist()]
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -512.25

    edit(tmp_path / "ct", change)
    (converted,) = convert(tmp_path / "ct", tmp_path / "out")
    assert_same(open_stack(tmp_path / "ct"), converted)


REAL: dict[str, int] = {
    "dicom_ct_chest_cptac": 1,
    "dicom_mr_hippocrop/Study1": 1,
    "dicom_mr_hippocrop/Study2": 1,
    "dicom_mr_hippocrop/Study3": 1,
    "dicom_mr_brain_tumor_tcia": 1,
    "dicom_enhanced_mr/In/Philips": 2,
    "dicom_awkward_dicom2nifti/failing/slicecount": 1,
    "dicom_awkward_dicom2nifti/failing/sliceorientation": 2,
    "dicom_awkward_dicom2nifti/generic/anatomical/001": 1,
    "dicom_awkward_dicom2nifti/generic/anatomical/002_non_isotropic": 1,
    "dicom_awkward_dicom2nifti/generic/compressed_j2k": 1,
    "dicom_awkward_dicom2nifti/generic/compressed_jpeg": 1,
    "dicom_awkward_dicom2nifti/generic/compressed_jpegls": 1,
    "dicom_awkward_dicom2nifti/generic/compressed_rle": 1,
    "dicom_awkward_dicom2nifti/hitachi": 1,
    "dicom_awkward_dicom2nifti/hyperfine": 1,
    "dicom_awkward_dicom2nifti/philips_enhanced": 1,
    "dicom_awkward_dicom2nifti/siemens_multiframe": 1,
}
"""Folder below shared/data -> its stacks."""

PUBLIC_SCALE = {"dicom_enhanced_mr/In/Philips", "dicom_awkward_dicom2nifti/philips_enhanced"}
"""Where dcm2niix is told (`-p n`) to leave Philips' private scale alone, as medvid does: the public
slope and intercept are what every viewer shows."""


@pytest.mark.parametrize("name", REAL)
def test_real_series(tmp_path: Path, name: str) -> None:
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"shared/data/{name} is absent")
    rows = [row for row in scan_tree(folder) if row.kind == "dicom"]
    assert [row.verdict for row in rows] == ["ok"] * REAL[name]
    options = ["-p", "n"] if name in PUBLIC_SCALE else []
    converted = convert(folder, tmp_path / "out", *options)
    assert len(converted) == len(rows)
    for row in rows:
        stack = open_stack(row.path, series=row.series)
        fitting = [file for file in converted if _fits(stack, file)]
        assert len(fitting) == 1, row
        assert_same(stack, fitting[0])


def _fits(stack: Stack, converted: Path) -> bool:
    other: Any = open_stack(converted, plane=plane_of(stack))
    mine, theirs = stack.read()[0], other.read()[0]
    return mine.shape == theirs.shape and bool(np.allclose(mine, theirs, rtol=1e-6, atol=1e-3))


def test_a_tilted_gantry_keeps_its_pixels_as_dcm2niix_does(tmp_path: Path) -> None:
    folder = DATA / "dicom_awkward_dicom2nifti/failing/gantrytilting"
    if not folder.exists():
        pytest.skip("shared/data/dicom_awkward_dicom2nifti is absent")
    files = convert(folder, tmp_path / "out")
    stack = open_stack(folder)
    plain = next(file for file in files if "Tilt" not in file.name)
    np.testing.assert_array_equal(stack.read()[0], open_stack(plain, plane="axial").read()[0])
    upright = open_stack(folder, detilt=True)
    mended = open_stack(next(file for file in files if "Tilt" in file.name), plane="axial")
    # Both hold all rows of the tilted slices; dcm2niix rounds the canvas and the start its own way.
    assert abs(upright.height - mended.height) <= 1
    assert upright.spacing[0] == pytest.approx(mended.spacing[0], abs=AFFINE_MM)
