"""On real DICOM, where it lies beside the checkout: every folder has its verdict."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medvid.contract import Stack
from medvid.io import open_stack
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_pixels import read_slices
from medvid.io.geometry import nearest_plane
from medvid.io.scan import scan_tree

DATA = Path(__file__).parents[2] / "shared" / "data"
AWKWARD = "dicom_awkward_dicom2nifti"


def find(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"shared/data/{name} is absent")
    return DATA / name


Verdicts = dict[tuple[str, str, str, str, int], int]

VERDICTS: dict[str, Verdicts] = {
    "dicom_ct_chest_cptac": {("CT", "ok", "", "", 99): 1},
    # Two blocks of 14 slices, 4 and 7 mm apart, which overlap by one slice.
    "dicom_ct_head_tilt_ge": {("CT", "fixable", "uneven_steps", "on_gap=resample", 28): 1},
    "dicom_mr_brain_tumor_tcia": {("MR", "ok", "", "", 22): 1},
    "dicom_mr_hippocrop": {("MR", "ok", "", "", frames): 1 for frames in (32, 35, 40)},
    # A field map with its magnitude in one file; four time points of one series in four files.
    "dicom_enhanced_mr/In/Philips": {("MR", "ok", "", "", 32): 2},
    "dicom_enhanced_mr/In/Siemens": {("MR", "ok", "", "", 6): 4},
    "dicom_transfer_syntaxes_ct": {
        # One slice in 16 encodings, of which two are retired JPEG processes.
        ("CT", "refused", "syntax_unsupported", "", 16): 1,
        ("CT", "refused", "single_image", "", 1): 2,
        ("SR", "refused", "report", "", 1): 1,
        ("US", "refused", "color", "", 1): 1,
        ("CT", "ok", "", "", 2): 1,
    },
    f"{AWKWARD}/failing/gantrytilting": {("CT", "ok", "", "", 4): 1},
    f"{AWKWARD}/failing/notavolume": {("CT", "refused", "repeated_positions", "", 4): 1},
    f"{AWKWARD}/failing/slicecount": {("MR", "ok", "", "", 2): 1},
    f"{AWKWARD}/failing/sliceincrement/001": {
        ("CT", "fixable", "missing_slices", "on_gap=resample", 4): 1
    },
    f"{AWKWARD}/failing/sliceincrement/002": {
        ("CT", "fixable", "missing_slices", "on_gap=resample", 4): 1
    },
    # Two slices each of a sagittal and an axial stack under one number.
    f"{AWKWARD}/failing/sliceorientation": {("MR", "ok", "", "", 2): 2},
    f"{AWKWARD}/generic/anatomical": {("MR", "ok", "", "", 4): 2},
    f"{AWKWARD}/generic/compressed_j2k": {("MR", "ok", "", "", 4): 1},
    f"{AWKWARD}/generic/compressed_jpeg": {("MR", "ok", "", "", 4): 1},
    f"{AWKWARD}/generic/compressed_jpegls": {("MR", "ok", "", "", 4): 1},
    f"{AWKWARD}/generic/compressed_rle": {("MR", "ok", "", "", 4): 1},
    f"{AWKWARD}/generic/rgb": {("MR", "refused", "color", "", 4): 1},
    f"{AWKWARD}/hitachi": {("MR", "ok", "", "", 4): 1},
    f"{AWKWARD}/hyperfine": {("MR", "ok", "", "", 8): 1},
    f"{AWKWARD}/philips_enhanced": {("MR", "ok", "", "", 8): 1},
    f"{AWKWARD}/siemens_multiframe": {("MR", "ok", "", "", 8): 1},
}
"""Folder -> how many rows of which modality, verdict, reason, fix and number of images."""


@pytest.mark.parametrize("name", VERDICTS)
def test_every_folder_has_its_verdict(name: str) -> None:
    rows = [row for row in scan_tree(find(name), pixels=True) if row.kind == "dicom"]
    found = Counter((row.modality, row.verdict, row.code, row.fix, row.frames) for row in rows)
    assert found == Counter(VERDICTS[name])
    for row in rows:
        if row.verdict == "ok":
            assert open_stack(row.path, series=row.series).num_frames == row.frames
        elif row.verdict == "fixable":
            fix = dict(option.split("=") for option in row.fix.split())
            assert open_stack(row.path, series=row.series, **fix).num_frames > 1  # type: ignore[arg-type]


def test_every_dicom_folder_is_in_the_list() -> None:
    listed = {name.split("/")[0] for name in VERDICTS}
    if not DATA.exists():
        pytest.skip("shared/data is absent")
    assert {folder.name for folder in DATA.glob("dicom_*")} == listed


def plane_of(stack: Stack) -> str:
    assert stack.affine is not None
    across = np.cross(stack.affine[:3, 1], stack.affine[:3, 2])
    return nearest_plane(across / np.linalg.norm(across))


REFERENCES = (
    "failing/slicecount/001",
    "generic/anatomical/001",
    "generic/anatomical/002_non_isotropic",
    "generic/compressed_j2k/001",
    "generic/compressed_jpeg/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "hyperfine/anatomical/001",
    "philips_enhanced/anatomical/001",
    "siemens_multiframe/anatomical/001",
)
"""With a NIfTI by another converter beside each."""


@pytest.mark.parametrize("case", REFERENCES)
def test_voxels_and_geometry_are_those_of_the_reference(case: str) -> None:
    folder = find(AWKWARD) / case
    stack = open_stack(folder)
    reference = open_stack(
        folder.with_name(f"{folder.name}_ground_truth.nii.gz"),
        plane=plane_of(stack),  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(stack.read()[0], reference.read()[0], rtol=1e-6, atol=1e-3)
    assert stack.affine is not None
    assert reference.affine is not None
    np.testing.assert_allclose(stack.affine, reference.affine, atol=1e-3)


def test_the_other_two_references_are_told_apart() -> None:
    """Colours, refused on both sides; and a tilted series with a gap, resampled by the reference.

    The reference takes the table's step (0.778 mm) for the distance of the tilted slices, which is
    smaller by the cosine of the tilt.
    """
    root = find(AWKWARD)
    rows = scan_tree(root / "generic/rgb")
    assert {row.code for row in rows} == {"color", "not_grey"}
    folder = root / "failing/sliceincrement/002"
    mended = open_stack(folder, on_gap="resample", detilt=True)
    reference = open_stack(folder.with_name("002_ground_truth.nii.gz"), plane="axial")
    assert (mended.num_frames, mended.height, mended.width) == (5, 514, 512)
    assert (reference.num_frames, reference.height, reference.width) == (5, 514, 512)
    assert mended.spacing[0] == pytest.approx(0.778 * np.cos(np.radians(15.5)), abs=1e-3)
    assert mended.spacing[1:] == pytest.approx(reference.spacing[1:], abs=1e-5)


def test_one_slice_in_many_encodings_has_the_same_pixels() -> None:
    folder = find("dicom_transfer_syntaxes_ct")
    headers = {
        file.name: read_header(file) for file in folder.iterdir() if file.name.startswith("CTImage")
    }
    plain = headers["CTImage.dcm"]
    expected = read_slices([plain], np.dtype(np.int16))
    worst = {}
    for name, header in headers.items():
        # Of these two the standard has no decoder any more; 8-bit JPEG holds other values.
        if not name.endswith(("4.53.dcm", "4.55.dcm", "4.50.dcm", "4.51.dcm")):
            decoded = read_slices([header], np.dtype(np.int16)).astype(int)
            worst[name.removesuffix(".dcm").rpartition("_")[2]] = int(
                np.abs(decoded - expected).max()
            )
    lossy = {"1.2.840.10008.1.2.4.81": 1, "1.2.840.10008.1.2.4.91": 5}
    assert len(worst) == 12
    assert worst == {syntax: lossy.get(syntax, 0) for syntax in worst}


def test_the_tilted_head_is_read_by_every_option() -> None:
    folder = find("dicom_ct_head_tilt_ge")
    kept = open_stack(folder, on_gap="keep")
    steps = np.diff(kept.positions)
    assert kept.num_frames == 28
    assert Counter(np.round(steps, 1).tolist()) == {4.0: 13, 7.0: 13, 1.1: 1}
    assert any("sheared by 18.5 degrees" in note for note in kept.notes)
    even = open_stack(folder, on_gap="resample")
    assert np.ptp(np.diff(even.positions)) < 1e-6
    np.testing.assert_array_equal(even.read([0]), kept.read([0]))
    upright = open_stack(folder, on_gap="keep", detilt=True)
    assert upright.height > kept.height
    assert upright.read([14]).min() == -1024
