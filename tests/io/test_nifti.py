"""NIfTI files beyond the ordinary: sheared, scaled, 4-D, colours; and what stays in memory."""

import gc
import gzip
import struct
import weakref
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

import medvid.io.nifti as nifti_module
from medvid.contract import DataError, GeometryError
from medvid.io import open_stack
from medvid.io.write import write_dicom_series, write_nifti

AFFINE = np.diag([-0.8, -0.7, 5.0, 1.0])
"""x right to left, y back to front, z feet to head: nibabel's LAS with thick axial slices."""

SCL_SLOPE = 112
"""Byte of the NIfTI-1 header where the slope lies, and the intercept behind it."""


def save(
    path: Path,
    stored: NDArray[Any],
    *,
    affine: NDArray[np.float64] = AFFINE,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> Path:
    content = bytearray(nibabel.Nifti1Image(stored, affine).to_bytes())
    # nibabel takes the rescale out of the header when it saves.
    content[SCL_SLOPE : SCL_SLOPE + 8] = struct.pack("<ff", slope, intercept)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture
def stored() -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(0, 3000, (9, 7, 5)).astype(np.int16)


def canonical(voxels: NDArray[Any]) -> NDArray[Any]:
    """(x, y, z) of `AFFINE` to (T, H, W): columns run right to left, rows front to back."""
    return voxels.transpose(2, 1, 0)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_ct_behind_an_intercept_is_int16_as_in_dicom(
    tmp_path: Path, stored: NDArray[np.int16], ending: str
) -> None:
    path = save(tmp_path / f"ct{ending}", stored, intercept=-1024)
    write_dicom_series(
        tmp_path / "dicom", canonical(stored) - np.int16(1024), spacing=(5.0, 0.7, 0.8)
    )
    from_dicom = open_stack(tmp_path / "dicom")
    for stack in (open_stack(path), open_stack(path, modality="CT")):
        assert stack.dtype == np.int16 == from_dicom.dtype
        assert stack.read().dtype == np.int16
        np.testing.assert_array_equal(stack.read(), from_dicom.read())
        np.testing.assert_array_equal(stack.read([3, 1])[0], from_dicom.read([3, 1])[0])


@pytest.mark.parametrize(
    ("kind", "slope", "intercept", "top", "expected"),
    [
        (np.int16, 1.0, -1024.0, 3000, np.int16),
        (np.int16, 2.0, -1024.0, 3000, np.int16),
        (np.uint16, 1.0, -32768.0, 65535, np.int16),
        (np.uint8, 2.0, 5.0, 255, np.int16),
        (np.int32, 1.0, -1024.0, 3000, np.int16),
        (np.int16, 12.0, 0.0, 3000, np.float32),
        (np.int16, 1.0, 30000.0, 3000, np.float32),
        (np.int16, 0.5, -1024.0, 3000, np.float32),
        (np.int16, 1.0, 0.25, 3000, np.float32),
        (np.float32, 1.0, -1024.0, 3000, np.float32),
    ],
)
def test_a_rescale_gives_int16_where_its_values_are_whole_and_fit(
    tmp_path: Path, kind: type, slope: float, intercept: float, top: int, expected: type
) -> None:
    voxels: NDArray[Any] = np.linspace(0, top, 9 * 7 * 5).reshape(9, 7, 5).astype(kind)
    stack = open_stack(save(tmp_path / "v.nii.gz", voxels, slope=slope, intercept=intercept))
    assert stack.dtype == expected
    read = stack.read()
    assert read.dtype == expected
    values = canonical(voxels).astype(np.float64) * slope + intercept
    # float32 keeps 7 digits.
    np.testing.assert_allclose(read[0], values, rtol=1e-6, atol=1e-6)


def test_ct_with_values_that_are_no_hu_is_refused_by_name(
    tmp_path: Path, stored: NDArray[np.int16]
) -> None:
    path = save(tmp_path / "ct.nii.gz", stored, slope=20)
    with pytest.raises(DataError, match=r"ct\.nii\.gz holds values up to") as caught:
        open_stack(path, modality="CT").read()
    assert caught.value.code == "values_outside"
    assert open_stack(path).dtype == np.float32


def test_a_sheared_volume_keeps_its_voxels_and_its_shear(
    tmp_path: Path, stored: NDArray[np.int16]
) -> None:
    affine = AFFINE.copy()
    affine[1, 2] = 5.0 * np.tan(np.radians(15))
    image = nibabel.Nifti1Image(stored, None)
    image.header.set_sform(affine, code=1)  # a qform cannot hold a shear
    nibabel.save(image, tmp_path / "tilted.nii.gz")
    stack = open_stack(tmp_path / "tilted.nii.gz")
    np.testing.assert_array_equal(stack.read()[0], canonical(stored))
    assert stack.spacing == pytest.approx((5.0, 0.7, 0.8))
    assert np.diff(stack.positions) == pytest.approx(5.0)
    assert any("sheared by 15.0 degrees" in note for note in stack.notes)
    x, y, z = affine[:3] @ [2, 3, 4, 1]
    assert stack.locate((-x, -y, z)) == pytest.approx((4, 3, 2), abs=1e-4)


def test_a_qform_alone_is_honoured(tmp_path: Path, stored: NDArray[np.int16]) -> None:
    image = nibabel.Nifti1Image(stored, None)
    image.header.set_qform(AFFINE, code=1)
    image.header.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "v.nii")
    np.testing.assert_array_equal(open_stack(tmp_path / "v.nii").read()[0], canonical(stored))


def test_a_header_without_directions_is_noted(tmp_path: Path, stored: NDArray[np.int16]) -> None:
    image = nibabel.Nifti1Image(stored, None)
    nibabel.save(image, tmp_path / "v.nii")
    assert any("neither sform nor qform" in note for note in open_stack(tmp_path / "v.nii").notes)


def test_a_fourth_axis_of_one_is_dropped_and_a_longer_one_refused(tmp_path: Path) -> None:
    voxels = np.arange(9 * 7 * 5 * 2, dtype=np.int16).reshape(9, 7, 5, 2)
    one = open_stack(save(tmp_path / "one.nii", voxels[..., :1]))
    np.testing.assert_array_equal(one.read()[0], canonical(voxels[..., 0]))
    with pytest.raises(DataError, match=r"four\.nii has the shape 9 x 7 x 5 x 2") as caught:
        open_stack(save(tmp_path / "four.nii", voxels))
    assert caught.value.code == "not_3d"


@pytest.mark.parametrize(
    ("dtype", "what"),
    [
        ([("R", "u1"), ("G", "u1"), ("B", "u1")], "colours"),
        ([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")], "colours"),
        (np.complex64, "complex numbers"),
    ],
)
def test_colours_and_complex_numbers_are_refused(tmp_path: Path, dtype: Any, what: str) -> None:
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.dtype(dtype)), AFFINE), path)
    with pytest.raises(DataError, match=f"holds {what}") as caught:
        open_stack(path)
    assert caught.value.code == "not_grey"


def test_a_singular_affine_is_refused_by_name(tmp_path: Path, stored: NDArray[np.int16]) -> None:
    image = nibabel.Nifti1Image(stored, None)
    image.header.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    nibabel.save(image, tmp_path / "flat.nii")
    with pytest.raises(GeometryError, match=r"flat\.nii: The header's axes do not span space"):
        open_stack(tmp_path / "flat.nii")


def test_a_stack_holds_its_volume_only_until_another_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes: list[weakref.ref[NDArray[Any]]] = []
    load = nifti_module._load

    def watch(*arguments: Any) -> NDArray[Any]:
        volume = load(*arguments).copy()
        volumes.append(weakref.ref(volume))
        return volume

    monkeypatch.setattr(nifti_module, "_load", watch)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, np.zeros((3, 4, 5), np.int16), spacing=(2.0, 1.0, 1.0))
    first, second = open_stack(tmp_path / "a.nii.gz"), open_stack(tmp_path / "b.nii.gz")
    for frame in range(3):
        first.read([frame])
    assert len(volumes) == 1, "frames of one stack must not decode it again"
    assert volumes[0]() is not None
    second.read([0])
    gc.collect()
    assert volumes[0]() is None
    del second
    gc.collect()
    assert volumes[1]() is None
    np.testing.assert_array_equal(first.read(), 0)


@pytest.mark.parametrize(
    ("unit", "scale", "note"),
    [
        ("meter", 1e-3, "metres"),
        ("micron", 1e3, "micrometres"),
        ("mm", 1.0, ""),
        ("unknown", 1.0, ""),
    ],
)
def test_positions_are_in_mm_whatever_the_unit_of_the_file(
    tmp_path: Path, stored: NDArray[np.int16], unit: str, scale: float, note: str
) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] = (12.0, -30.0, 45.0)
    affine[:3] *= scale
    image = nibabel.Nifti1Image(stored, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "volume.nii.gz")
    stack = open_stack(tmp_path / "volume.nii.gz")
    assert stack.spacing == pytest.approx((5.0, 0.7, 0.8), rel=1e-6)
    np.testing.assert_allclose(stack.positions, 45.0 + 5.0 * np.arange(5), rtol=1e-5)
    assert stack.locate((-12.0, 30.0, 55.0)) == pytest.approx((2, 0, 0), abs=1e-4)
    assert [one for one in stack.notes if "counts in" in one] == (
        [f"The header counts in {note}; turned into mm, voxels are 0.8 x 0.7 x 5 mm."]
        if note
        else []
    )


@pytest.mark.parametrize(("unit", "name"), [("meter", "metres"), ("micron", "micrometres")])
def test_a_unit_that_no_scan_has_is_refused_with_what_to_do(
    tmp_path: Path, stored: NDArray[np.int16], unit: str, name: str
) -> None:
    image = nibabel.Nifti1Image(stored, AFFINE)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "volume.nii.gz")
    with pytest.raises(GeometryError, match=f"numbers are {name}, .* .xyzt_units 2") as caught:
        open_stack(tmp_path / "volume.nii.gz")
    assert caught.value.files == (str(tmp_path / "volume.nii.gz"),)
