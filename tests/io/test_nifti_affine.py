"""A NIfTI header that does not say for certain where its voxels lie is refused, or told."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io import open_stack
from medvid.io.nifti_affine import read_affine

AFFINE = np.diag([-0.8, -0.7, 5.0, 1.0])
"""x right to left, y back to front, z feet to head: nibabel's LAS with thick axial slices."""

VOXELS = np.zeros((9, 7, 5), np.int16)

PIXDIM = 76
"""Byte of the NIfTI-1 header where the voxels' lengths lie, behind the sign of the qform."""


def save(
    path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64], codes: tuple[int, int]
) -> Path:
    image = nibabel.Nifti1Image(VOXELS, None)
    image.header.set_sform(sform, code=codes[0])
    image.header.set_qform(qform, code=codes[1])
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("codes", [(1, 1), (4, 1), (2, 1)])
def test_forms_of_which_one_mirrors_the_volume_are_refused(
    tmp_path: Path, axis: int, codes: tuple[int, int]
) -> None:
    mirrored = AFFINE.copy()
    mirrored[:, axis] *= -1
    path = save(tmp_path / "v.nii.gz", AFFINE, mirrored, codes)
    with pytest.raises(GeometryError, match=r"left and right are not known\.") as caught:
        open_stack(path)
    assert (caught.value.code, caught.value.files) == ("mirrored_forms", (str(path),))


@pytest.mark.parametrize("codes", [(1, 0), (0, 1)])
def test_a_form_that_is_not_used_contradicts_nothing(
    tmp_path: Path, codes: tuple[int, int]
) -> None:
    mirrored = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    path = save(tmp_path / "v.nii.gz", AFFINE, mirrored, codes)
    assert open_stack(path).spacing == pytest.approx((5.0, 0.7, 0.8))


@pytest.mark.parametrize(
    ("codes", "shift", "noted"),
    [((1, 1), 8.0, True), ((4, 1), 8.0, False), ((1, 1), 0.3, False), ((2, 2), 8.0, True)],
)
def test_forms_that_lie_apart_in_one_space_are_noted(
    tmp_path: Path, codes: tuple[int, int], shift: float, noted: bool
) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += shift
    stack = open_stack(save(tmp_path / "v.nii.gz", AFFINE, moved, codes))
    told = [note for note in stack.notes if "qform" in note]
    assert told == (
        ["sform and qform differ by up to 10.0 voxels; the sform was taken."] if noted else []
    )


@given(
    turn=st.integers(0, 5),
    flips=st.tuples(*[st.booleans()] * 3),
    lengths=st.tuples(*[st.floats(0.1, 9)] * 3),
)
def test_forms_that_say_the_same_are_neither_refused_nor_noted(
    turn: int, flips: tuple[bool, ...], lengths: tuple[float, ...]
) -> None:
    order = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)][turn]
    affine = np.eye(4)
    affine[:3, :3] = np.diag(lengths)[:, order] * [-1 if flip else 1 for flip in flips]
    header = nibabel.Nifti1Header()
    header.set_data_shape(VOXELS.shape)
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    assert read_affine(Path("never-read.nii"), header)[1] == []


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(0, 1), (0, 0), (1, 1)])
def test_a_voxel_without_a_length_is_refused_where_no_sform_places_it(
    tmp_path: Path, ending: str, codes: tuple[int, int]
) -> None:
    path = save(tmp_path / f"v{ending}", AFFINE, AFFINE, codes)
    content = bytearray(nibabel.load(path).to_bytes())
    content[PIXDIM + 12 : PIXDIM + 16] = bytes(4)
    with nibabel.openers.Opener(path, "wb") as file:
        file.write(bytes(content))
    if codes[0]:
        assert open_stack(path).spacing == pytest.approx((5.0, 0.7, 0.8))
        return
    with pytest.raises(GeometryError, match="pixdim is 0, and no sform") as caught:
        open_stack(path)
    assert caught.value.code == "no_spacing"


def test_voxels_of_a_millimetre_are_no_voxels_without_a_length(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", np.eye(4), np.diag([1.0, 1.0, 1.0, 1.0]), (0, 1))
    assert open_stack(path).spacing == (1.0, 1.0, 1.0)
