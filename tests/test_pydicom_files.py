"""On the DICOM files that pydicom ships for its own tests, and on those of the wheel pydicom-data.

The second part is skipped where that wheel is not installed (extra `dev`).
"""

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io import open_stack
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_pixels import choose_dtype, read_slices
from medvid.io.scan import ScanRow, scan_tree

FILES = Path(pydicom.__file__).parent / "data" / "test_files"

CODES = {
    "CT_small.dcm": "single_image",
    "ExplVR_BigEnd.dcm": "color",
    "JPEG2000.dcm": "secondary_capture",
    "SC_rgb_dcmtk_+eb+cr.dcm": "color",
    "SC_rgb_rle_2frame.dcm": "multi_frame",
    "examples_palette.dcm": "color",
    "examples_ybr_color.dcm": "multi_frame",
    "image_dfl.dcm": "secondary_capture",
    "liver_1frame.dcm": "segmentation",
    "meta_missing_tsyntax.dcm": "header_damaged",
    "reportsi.dcm": "report",
    "rtdose.dcm": "radiotherapy",
    "rtplan.dcm": "radiotherapy",
    "rtplan_truncated.dcm": "radiotherapy",
    "rtstruct.dcm": "radiotherapy",
    "test-SR.dcm": "report",
    "waveform_ecg.dcm": "no_pixel_data",
    "zipMR.gz": "not_dicom",
}
"""What is no stack, by name of file."""


@pytest.fixture(scope="module")
def rows() -> list[ScanRow]:
    return scan_tree(FILES, pixels=True)


def test_no_file_of_pydicoms_is_without_a_row(rows: list[ScanRow]) -> None:
    files = [file for file in FILES.rglob("*") if file.is_file()]
    ignored = [row for row in rows if row.verdict == "ignored"]
    listed = sum(row.frames if row.kind == "dicom" else len(row.files) for row in rows)
    assert len(ignored) == 1
    assert listed == len(files)
    assert all(row.reason.endswith(".") for row in rows if row.verdict != "ok")


@pytest.mark.parametrize("name", CODES)
def test_what_is_no_stack_has_its_reason(rows: list[ScanRow], name: str) -> None:
    assert [row.code for row in rows if name in row.files] == [CODES[name]]


SERIES = {
    "98892003/MR1/4919": ("refused", "single_image", 1),
    "77654033/CR1/6154": ("refused", "no_position", 1),
    "98892001/CT2N": ("refused", "localizer", 2),
    "98892001/CT5N": ("ok", "", 5),
    # Four of 165 slices: a stack of neighbours cannot be made of them.
    "77654033/CT2": ("fixable", "missing_slices", 4),
    "98892003/MR2": ("refused", "mixed", 3),
}
"""Of the study with a DICOMDIR."""


@pytest.mark.parametrize("name", SERIES)
def test_series_of_the_study_with_a_directory_file_have_their_verdicts(name: str) -> None:
    found = scan_tree(FILES / "dicomdirtests" / name)
    assert SERIES[name] in [(row.verdict, row.code, row.frames) for row in found]


def test_a_study_is_opened_by_its_directory_file() -> None:
    path = FILES / "dicomdirtests" / "DICOMDIR"
    with pytest.raises(GeometryError, match="holds several series"):
        open_stack(path)
    (row,) = scan_tree(FILES / "dicomdirtests/98892001/CT5N")
    stack = open_stack(path, series=row.series)
    assert (stack.num_frames, stack.height, stack.width) == (5, 16, 16)
    assert stack.spacing[0] == pytest.approx(2.5)


def read_one(file: Path) -> NDArray[np.generic]:
    header = read_header(file)
    slices: NDArray[np.generic] = read_slices([header], choose_dtype([header]))[0]
    return slices


def test_one_image_has_the_same_pixels_in_all_its_encodings() -> None:
    expected = pydicom.dcmread(FILES / "MR_small.dcm").pixel_array
    names = Counter[str]()
    for file in sorted(FILES.glob("MR_small*.dcm")):
        if "padded" not in file.name:  # its header explains fewer bytes than there are: refused
            np.testing.assert_array_equal(read_one(file), expected, err_msg=file.name)
            names[file.name] += 1
    assert len(names) >= 7


# The wheel pydicom-data


def find_wheel() -> Path:
    spec = importlib.util.find_spec("data_store")
    if spec is None or spec.origin is None:
        pytest.skip("pydicom-data is not installed (extra `dev`)")
    return Path(spec.origin).parent / "data"


@pytest.mark.parametrize("name", ["RG1", "RG3"])
def test_inverted_grey_is_turned_back_in_every_encoding(name: str) -> None:
    folder = find_wheel()
    # The second of each pair is the first without loss, packed or unpacked.
    for plain, packed in (("UNCR", "J2KR"), ("UNCI", "J2KI")):
        image = pydicom.dcmread(folder / f"{name}_{plain}.dcm")
        assert image.PhotometricInterpretation == "MONOCHROME1"
        expected = 2**image.BitsStored - 1 - image.pixel_array.astype(np.int64)
        np.testing.assert_array_equal(read_one(folder / f"{name}_{plain}.dcm"), expected)
        np.testing.assert_array_equal(read_one(folder / f"{name}_{packed}.dcm"), expected)


def test_an_enhanced_ct_is_placed_by_its_groups() -> None:
    """Two slices of a perfusion map, with columns that run to the right of the patient."""
    path = find_wheel() / "eCT_Supplemental.dcm"
    image = pydicom.dcmread(path)
    shared = image.SharedFunctionalGroupsSequence[0]
    direction = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(direction) == [-1, 0, 0, 0, 1, 0]
    scale = shared.PixelValueTransformationSequence[0]
    assert (scale.RescaleSlope, scale.RescaleIntercept) == (1, -1024)
    heights = [
        float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        for frame in image.PerFrameFunctionalGroupsSequence
    ]
    assert heights == [-159, -149]
    stack = open_stack(path)
    expected = image.pixel_array[:, :, ::-1].astype(np.int32) - 1024
    np.testing.assert_array_equal(stack.read()[0], expected)
    assert stack.positions.tolist() == heights
    assert stack.affine is not None
    assert stack.affine[:3, 3] == pytest.approx([99.5 - 511 * 0.388672, -301.5, -159])


ENHANCED_MR = (
    "emri_small.dcm",
    "emri_small_RLE.dcm",
    "emri_small_big_endian.dcm",
    "emri_small_jpeg_2k_lossless.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
)


def test_ten_frames_have_the_same_pixels_in_five_syntaxes() -> None:
    folder = find_wheel()
    expected = pydicom.dcmread(folder / ENHANCED_MR[0]).pixel_array
    assert len(expected) == 10
    for name in ENHANCED_MR:
        whole = read_header(folder / name)
        size = whole.shape[0] * whole.shape[1] * whole.bits[0] // 8
        frames = [
            replace(
                whole,
                frame=number,
                offset=whole.offset + number * size if whole.offset >= 0 else whole.offset,
            )
            for number in range(10)
        ]
        np.testing.assert_array_equal(read_slices(frames, np.dtype(np.int16)), expected)


def test_frames_without_functional_groups_are_refused_in_every_syntax() -> None:
    folder = find_wheel()
    for name in ENHANCED_MR:
        (row,) = scan_tree(folder / name)
        assert (row.verdict, row.code) == ("refused", "multi_frame")
        assert "does not say where each of them lies" in row.reason
