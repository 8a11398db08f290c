"""The label of a slice ends on the frame that shows it, however files count their slices."""

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medvid.contract import GeometryError, Stack
from medvid.data.resample import resample_stack
from medvid.io import open_stack
from medvid.io.geometry import CANONICAL_AXES, RAS_TO_LPS, Plane
from medvid.io.slice_truth import find_frame, instance_key, place_labels
from medvid.io.write import write_dicom_series, write_nifti

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
CODES = ["".join(code) for axes in permutations(["RL", "AP", "SI"]) for code in product(*axes)]
SPACING = (5.0, 0.7, 0.8)
ORIGIN = (-10.0, 20.0, 30.0)


def draw_slices(count: int = 6) -> NDArray[np.int16]:
    """Every slice has a value of its own: 100, 200, ..."""
    return np.arange(100, 100 * (count + 1), 100, dtype=np.int16)[:, None, None] + np.zeros(
        (count, 7, 9), np.int16
    )


def value_of(stack: Stack, frame: int) -> int:
    return int(stack.read([frame])[0, 0, 0, 0])


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_sop_uid_and_a_position_find_their_dicom_slice(
    tmp_path: Path, plane: Plane, reverse: bool, shuffle: bool
) -> None:
    write_dicom_series(
        tmp_path,
        draw_slices(),
        spacing=SPACING,
        plane=plane,
        reverse=reverse,
        shuffle_names=shuffle,
        origin=ORIGIN,
    )
    stack = open_stack(tmp_path)
    axis = int(np.argmax(np.abs(CANONICAL_AXES[plane][0])))
    seen = set()
    for file in sorted(tmp_path.iterdir()):
        image = pydicom.dcmread(file)
        value = int(image.pixel_array[0, 0]) + int(image.RescaleIntercept)
        by_uid = find_frame(stack, tmp_path, instance_key(image.SOPInstanceUID))
        by_mm = find_frame(stack, tmp_path, float(image.ImagePositionPatient[axis]))
        assert value_of(stack, by_uid) == value_of(stack, by_mm) == value
        seen.add(by_uid)
    assert seen == set(range(6))


@pytest.mark.parametrize("plane", PLANES)
def test_an_index_in_the_file_finds_its_slice_in_all_48_axis_orders(
    tmp_path: Path, plane: Plane
) -> None:
    for code in CODES:
        path = tmp_path / f"{code}.nii"
        write_nifti(path, draw_slices(), spacing=SPACING, plane=plane, orientation=code)
        stack = open_stack(path)
        voxels = np.asarray(nibabel.load(path).dataobj)
        through = voxels.shape.index(6)
        for index in range(6):
            value = int(np.take(voxels, index, axis=through).flat[0])
            frame = find_frame(stack, path, f"file:{index}")
            assert value_of(stack, frame) == value, (code, index)


@pytest.mark.parametrize("plane", PLANES)
def test_a_position_in_patient_axes_finds_its_slice_of_a_nifti(
    tmp_path: Path, plane: Plane
) -> None:
    path = tmp_path / "scan.nii.gz"
    for code in ("RAS", "LPS", "SPL", "AIR"):
        write_nifti(
            path, draw_slices(), spacing=SPACING, plane=plane, orientation=code, origin=ORIGIN
        )
        stack = open_stack(path)
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
        affine = RAS_TO_LPS @ image.affine
        axis = int(np.argmax(np.abs(CANONICAL_AXES[plane][0])))
        for corner in product(*((0, n - 1) for n in voxels.shape)):
            place = float((affine @ [*corner, 1])[axis])
            for nudge in (-2.4, 0.0, 2.4):  # mm, of steps of 5
                frame = find_frame(stack, path, place + nudge)
                assert value_of(stack, frame) == voxels[corner], (code, corner)


@given(
    offset=st.floats(-500, 500),
    step=st.floats(0.1, 20),
    count=st.integers(2, 40),
    share=st.floats(-0.49, 0.49),
    data=st.data(),
)
def test_a_position_belongs_to_the_nearest_slice(
    offset: float, step: float, count: int, share: float, data: st.DataObject
) -> None:
    stack = make_stack(offset, step, count)
    frame = data.draw(st.integers(0, count - 1))
    # Positions are taken as rounded to 0.001 mm: nearer than that to the middle decides nothing.
    away = share * (step - 0.01)
    assert find_frame(stack, "scan", offset + step * frame + away) == frame


def make_stack(offset: float, step: float, count: int) -> Stack:
    affine = np.eye(4)
    affine[:3, :3] = CANONICAL_AXES["axial"].T * np.array([step, 1, 1])
    affine[2, 3] = offset
    return Stack(
        num_frames=count,
        height=4,
        width=4,
        channels=1,
        dtype=np.dtype(np.int16),
        spacing=(step, 1.0, 1.0),
        positions=offset + step * np.arange(count, dtype=np.float64),
        unit="mm",
        modality="CT",
        read_frames=lambda frames: np.zeros((1, len(frames), 4, 4), np.int16),
        affine=affine,
    )


def test_the_middle_of_two_slices_belongs_to_the_lower_one() -> None:
    assert find_frame(make_stack(0.0, 5.0, 4), "scan", 7.5) == 1
    assert find_frame(make_stack(0.0, 5.0, 4), "scan", -2.5) == 0


def test_a_kept_gap_is_counted_by_true_positions() -> None:
    stack = replace(make_stack(0.0, 5.0, 4), positions=np.array([0.0, 5.0, 15.0, 20.0]))
    assert find_frame(stack, "scan", 15.0) == 2
    with pytest.raises(GeometryError, match="no slice lies at 10"):
        find_frame(stack, "scan", 10.0)


@pytest.mark.parametrize("place", [-2.6, 17.6, 1e9])
def test_a_position_outside_is_refused_with_the_range(place: float) -> None:
    with pytest.raises(GeometryError) as caught:
        find_frame(make_stack(0.0, 5.0, 4), "scan", place)
    assert caught.value.code == "unknown_slice"
    assert "from 0.0 to 15.0 mm" in caught.value.message


def test_inclined_slices_have_no_position_along_an_axis() -> None:
    stack = make_stack(0.0, 5.0, 4)
    assert stack.affine is not None
    tilted = stack.affine.copy()
    tilted[2, 1] = 0.9  # 2.7 mm over 4 rows, of steps of 5 mm
    with pytest.raises(GeometryError, match=r"inclined: each reaches over 2\.7 mm along z"):
        find_frame(replace(stack, affine=tilted), "scan", 5.0)


def test_a_uid_of_another_series_is_refused_without_naming_it(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, draw_slices(), spacing=SPACING)
    with pytest.raises(GeometryError) as caught:
        find_frame(open_stack(tmp_path), tmp_path, instance_key("1.2.3.4.5"))
    assert "Is the label of another series?" in caught.value.message
    assert "1.2.3.4.5" not in caught.value.message


def test_slices_that_were_cut_or_resampled_have_no_uid(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, draw_slices(), spacing=SPACING)
    key = open_stack(tmp_path).frame_keys[0]
    across = open_stack(tmp_path, plane="coronal")
    coarse = resample_stack(open_stack(tmp_path), spacing=(10.0, 0.0, 0.0))
    for stack in (across, coarse):
        with pytest.raises(GeometryError, match="nothing in it is called by"):
            find_frame(stack, tmp_path, key)
    assert resample_stack(open_stack(tmp_path), size=(4, 4)).frame_keys[0] == key


def test_a_multi_frame_image_needs_the_frame() -> None:
    keys = tuple(f"{instance_key('1.2.3')}#{n}" for n in (1, 2, 3, 4))
    stack = replace(make_stack(0.0, 5.0, 4), frame_keys=keys)
    assert find_frame(stack, "scan", instance_key("1.2.3", 3)) == 2
    with pytest.raises(GeometryError, match="Add the frame's number"):
        find_frame(stack, "scan", instance_key("1.2.3"))


def test_two_names_of_one_slice_must_agree() -> None:
    stack = make_stack(0.0, 5.0, 4)
    assert place_labels(stack, "scan", {4.9: "yes", 0.0: "no"}, {1: "yes"}) == {0: "no", 1: "yes"}
    with pytest.raises(GeometryError, match="has another label already"):
        place_labels(stack, "scan", {4.9: "no"}, {1: "yes"})


def test_a_plain_array_has_no_position() -> None:
    stack = replace(make_stack(0.0, 5.0, 4), affine=None)
    with pytest.raises(GeometryError, match="no patient axes"):
        find_frame(stack, "scan", 5.0)
