"""Gaps, broken images and a tilted gantry: refused unless an option says what to do with them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medvid.contract import GeometryError, Stack
from medvid.io import open_stack
from medvid.io.geometry import Plane
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series

SPACING = (5.0, 0.7, 0.8)
TILT_DEGREES = 20.0
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


def write(folder: Path, volume: NDArray[np.int16], **options: Any) -> list[Path]:
    write_dicom_series(folder, volume, spacing=SPACING, **options)
    return sorted(folder.glob("*.dcm"))


def edit(file: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    dataset = pydicom.dcmread(file)
    change(dataset)
    dataset.save_as(file)


def place_of(stack: Stack, t: float, h: float, w: float) -> tuple[float, float, float]:
    assert stack.affine is not None
    x, y, z, _ = stack.affine @ [t, h, w, 1]
    return float(x), float(y), float(z)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("reverse", [False, True])
def test_kept_slices_have_their_true_positions(
    tmp_path: Path, volume: NDArray[np.int16], plane: Plane, reverse: bool
) -> None:
    whole_files = write(tmp_path / "whole", volume, plane=plane, reverse=reverse)
    shutil.copytree(tmp_path / "whole", tmp_path / "gaps")
    left = [0, 1, 4, 5, 6, 7]
    for number, file in enumerate(sorted((tmp_path / "gaps").iterdir())):
        if (7 - number if reverse else number) not in left:
            file.unlink()
    assert len(whole_files) == 8
    whole = open_stack(tmp_path / "whole")
    kept = open_stack(tmp_path / "gaps", on_gap="keep")
    np.testing.assert_array_equal(kept.read()[0], volume[left])
    np.testing.assert_allclose(kept.positions, whole.positions[left], atol=1e-6)
    for index, frame in enumerate(left):
        # A position in mm is found on the frame that lies there, kept or whole.
        at = place_of(whole, frame, 3, 4)
        assert kept.locate(at) == pytest.approx((index, 3, 4), abs=1e-6)
    between = place_of(whole, 2.5, 3, 4)
    assert kept.locate(between)[0] == pytest.approx(1.5)
    with pytest.raises(GeometryError, match="outside"):
        kept.locate(place_of(whole, 8.2, 3, 4))


def test_kept_slices_are_not_cut_across(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    write(tmp_path / "ct", volume)[3].unlink()
    with pytest.raises(GeometryError, match="cannot be cut across into coronal frames"):
        open_stack(tmp_path / "ct", on_gap="keep", plane="coronal")
    cut = open_stack(tmp_path / "ct", on_gap="resample", plane="coronal")
    assert (cut.num_frames, cut.height, cut.width) == (12, 8, 10)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("reverse", [False, True])
def test_filled_slices_are_those_that_were_missing(
    tmp_path: Path, plane: Plane, reverse: bool
) -> None:
    # Values that are a linear function of the place: interpolation gives exactly what was there.
    t, h, w = np.meshgrid(np.arange(9), np.arange(12), np.arange(10), indexing="ij")
    volume = (60 * t + 7 * h - 3 * w).astype(np.int16)
    write(tmp_path / "whole", volume, plane=plane, reverse=reverse)
    shutil.copytree(tmp_path / "whole", tmp_path / "gaps")
    files = sorted((tmp_path / "gaps").iterdir())
    for number in (2, 3, 6):
        files[number].unlink()
    whole, filled = open_stack(tmp_path / "whole"), open_stack(tmp_path / "gaps", on_gap="resample")
    assert whole.affine is not None
    assert filled.affine is not None
    np.testing.assert_array_equal(filled.read()[0], volume)
    np.testing.assert_array_equal(filled.read([3, 3, 0])[0], volume[[3, 3, 0]])
    np.testing.assert_allclose(filled.affine, whole.affine, atol=1e-6)
    np.testing.assert_allclose(filled.positions, whole.positions, atol=1e-6)
    assert any("3 of 9 frames were interpolated between 6 slices" in n for n in filled.notes)


def test_rounded_positions_do_not_make_frames_up(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    files = write(tmp_path / "ct", volume)
    for number, file in enumerate(files):
        place = [0, 0, 4.8 * number + number % 2 / 10]

        def move(dataset: pydicom.Dataset, place: list[float] = place) -> None:
            dataset.ImagePositionPatient = place

        edit(file, move)
    files[4].unlink()
    stack = open_stack(tmp_path / "ct", on_gap="resample")
    np.testing.assert_array_equal(stack.read()[0][[0, 1, 2, 3, 5, 6, 7]], np.delete(volume, 4, 0))
    assert any("1 of 8 frames was interpolated" in note for note in stack.notes)


def test_options_do_not_change_a_regular_series(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    write(tmp_path / "ct", volume)
    plain = open_stack(tmp_path / "ct")
    given: list[dict[str, Any]] = [
        {"on_gap": "resample"},
        {"on_gap": "keep"},
        {"on_bad": "quarantine"},
        {"detilt": True},
    ]
    for options in given:
        stack = open_stack(tmp_path / "ct", **options)
        np.testing.assert_array_equal(stack.read(), plain.read())
        np.testing.assert_array_equal(stack.positions, plain.positions)
        assert stack.notes == plain.notes


def tilt(folder: Path, degrees: float = TILT_DEGREES) -> None:
    """Turns the slices about the x axis and leaves the table's way along z."""
    angle = np.radians(degrees)
    for file in folder.iterdir():

        def turn(dataset: pydicom.Dataset) -> None:
            column = [0, float(np.cos(angle)), float(np.sin(angle))]
            dataset.ImageOrientationPatient = [1, 0, 0, *column]

        edit(file, turn)


def test_tilted_slices_keep_their_pixels_and_lie_by_their_normal(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    write(tmp_path / "ct", volume)
    tilt(tmp_path / "ct")
    stack = open_stack(tmp_path / "ct")
    np.testing.assert_array_equal(stack.read()[0], volume)
    step = 5 * np.cos(np.radians(TILT_DEGREES))
    np.testing.assert_allclose(np.diff(stack.positions), step, atol=1e-6)
    assert stack.spacing[0] == pytest.approx(step)
    assert any("sheared by 20.0 degrees (gantry tilt)" in note for note in stack.notes)
    (row,) = scan_tree(tmp_path)
    assert row.verdict == "ok"


def test_detilting_puts_every_voxel_where_it_was(tmp_path: Path) -> None:
    t, h, w = np.meshgrid(np.arange(8), np.arange(40), np.arange(10), indexing="ij")
    volume = (60 * t + 7 * h - 3 * w).astype(np.int16)  # linear, so that shifting loses nothing
    write(tmp_path / "ct", volume)
    tilt(tmp_path / "ct")
    tilted, upright = open_stack(tmp_path / "ct"), open_stack(tmp_path / "ct", detilt=True)
    assert upright.affine is not None
    along, down, across = (upright.affine[:3, i] for i in range(3))
    assert along @ down == pytest.approx(0, abs=1e-9)
    assert along @ across == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(upright.positions, tilted.positions, atol=1e-9)
    for frame in (0, 3, 7):
        for row in (1, 20, 38):
            _, at, column = upright.locate(place_of(tilted, frame, row, 5))
            assert column == pytest.approx(5)
            low = int(np.floor(at + 1e-6))
            pair = upright.read([frame])[0, 0, low : low + 2, 5].astype(float)
            value = pair[0] + (at - low) * (pair[1] - pair[0])
            assert value == pytest.approx(volume[frame, row, 5], abs=1.0)
    assert upright.read().min() == -1024  # beside the slices is air
    assert any("tilt of 20.0 degrees was resampled away" in note for note in upright.notes)


def test_tilt_and_gaps_are_mended_together(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    write(tmp_path / "ct", volume)[3].unlink()
    tilt(tmp_path / "ct")
    stack = open_stack(tmp_path / "ct", on_gap="resample", detilt=True)
    # The slices have 12 rows each, in 30 rows that hold them all: the rest is air.
    np.testing.assert_array_equal(stack.read()[0].max(axis=(1, 2)), volume[:, 0, 0])
    assert np.isclose(np.diff(stack.positions), stack.spacing[0]).all()
    kept = open_stack(tmp_path / "ct", on_gap="keep", detilt=True)
    np.testing.assert_array_equal(kept.read()[0].max(axis=(1, 2)), np.delete(volume[:, 0, 0], 3))
