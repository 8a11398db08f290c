"""Whatever order and direction a file keeps its axes in, the stack is the same."""

import gzip
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medvid.contract import DataError
from medvid.io import open_stack
from medvid.io.geometry import Plane, canonical_affine
from medvid.io.write import write_dicom_series, write_nifti

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
SPACING = (5.0, 0.7, 0.8)
ORIGIN = (-10.0, 20.0, 30.0)
CODES = ["".join(code) for axes in permutations(["RL", "AP", "SI"]) for code in product(*axes)]


@pytest.fixture
def volume() -> NDArray[np.int16]:
    """Three different lengths and no symmetry, so that no wrong order can pass."""
    return np.random.default_rng(0).integers(-1000, 1000, (5, 7, 9)).astype(np.int16)


def test_there_are_48_axis_orders() -> None:
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_all_48_axis_orders_of_a_nifti_give_one_array_and_affine(
    tmp_path: Path, volume: NDArray[np.int16], plane: Plane, ending: str
) -> None:
    for code in CODES:
        path = tmp_path / f"{code}{ending}"
        write_nifti(path, volume, spacing=SPACING, plane=plane, orientation=code, origin=ORIGIN)
        stack = open_stack(path)
        assert stack.affine is not None
        np.testing.assert_array_equal(stack.read()[0], volume, err_msg=code)
        # NIfTI keeps affines in float32: 30 mm are good to 2e-6 mm.
        expected = canonical_affine(plane, SPACING, ORIGIN)
        np.testing.assert_allclose(stack.affine, expected, atol=1e-4)
        assert stack.spacing == pytest.approx(SPACING, abs=1e-5)
        assert stack.dtype == np.int16


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shuffle_names", [False, True])
def test_dicom_in_both_slice_orders_and_any_file_order_gives_one_array_and_affine(
    tmp_path: Path, volume: NDArray[np.int16], plane: Plane, reverse: bool, shuffle_names: bool
) -> None:
    write_dicom_series(
        tmp_path / "series",
        volume,
        spacing=SPACING,
        plane=plane,
        reverse=reverse,
        shuffle_names=shuffle_names,
        origin=ORIGIN,
    )
    stack = open_stack(tmp_path / "series")
    assert stack.affine is not None
    np.testing.assert_array_equal(stack.read()[0], volume)
    np.testing.assert_allclose(stack.affine, canonical_affine(plane, SPACING, ORIGIN), atol=1e-6)
    assert np.all(np.diff(stack.positions) > 0)


@pytest.mark.parametrize("plane", PLANES)
def test_a_position_in_mm_is_found_again(
    tmp_path: Path, volume: NDArray[np.int16], plane: Plane
) -> None:
    path = tmp_path / "scan.nii.gz"
    write_nifti(path, volume, spacing=SPACING, plane=plane, orientation="PIR", origin=ORIGIN)
    stack = open_stack(path)
    assert stack.affine is not None
    x, y, z, _ = stack.affine @ [3, 2, 6, 1]
    assert stack.locate((x, y, z)) == pytest.approx((3, 2, 6), abs=1e-4)


def test_paths_may_be_text(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    for path in (tmp_path / "v.nii.gz", tmp_path / "series"):
        write = write_nifti if path.suffix else write_dicom_series
        write(str(path), volume, spacing=SPACING)
        np.testing.assert_array_equal(open_stack(str(path)).read()[0], volume)


def damage(content: bytes, how: str) -> bytes:
    if how == "cut in half":
        return content[: len(content) // 2]
    if how == "a flipped bit":
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return gzip.compress(gzip.decompress(content)[:-100], mtime=0)


@pytest.mark.parametrize("how", ["cut in half", "a flipped bit", "too few voxels"])
def test_a_damaged_gzip_is_refused_by_name_and_never_read(
    tmp_path: Path, volume: NDArray[np.int16], how: str
) -> None:
    whole = tmp_path / "whole.nii.gz"
    write_nifti(whole, volume, spacing=SPACING)
    path = tmp_path / "damaged.nii.gz"
    path.write_bytes(damage(whole.read_bytes(), how))
    with pytest.raises(DataError, match=r"damaged\.nii\.gz") as caught:
        open_stack(path).read()
    assert caught.value.files == (str(path),)
