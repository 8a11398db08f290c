"""Rows and columns that the packed pixels contradict: pixels would lie in wrong rows, silently."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from medvid.contract import MedvidError
from medvid.io import open_stack
from medvid.io.dicom_headers import read_header
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series
from tests.io.packed import pack_jpeg
from tests.io.test_fuzz_packed import SHAPED, SIDE, lengthen_rows, write_packed


@pytest.mark.parametrize("kind", SHAPED)
def test_rows_of_another_length_are_refused(tmp_path: Path, kind: str) -> None:
    write_packed(tmp_path, kind)
    files = sorted(tmp_path.iterdir())
    header = read_header(files[0])
    assert header.stream_shape == header.shape
    for file in files:
        lengthen_rows(file, 2)
    (row,) = scan_tree(tmp_path)
    assert (row.verdict, row.code) == ("refused", "stream_shape")
    rows, columns = header.shape
    assert f"compressed as {rows} x {columns} pixels" in row.reason
    with pytest.raises(MedvidError, match="its header says"):
        open_stack(tmp_path)


def test_one_such_slice_may_be_left_out(tmp_path: Path) -> None:
    write_packed(tmp_path, "jpeg_2000")
    lengthen_rows(sorted(tmp_path.iterdir())[0], 2)
    (row,) = scan_tree(tmp_path)
    assert (row.verdict, row.code, row.fix) == ("fixable", "stream_shape", "on_bad=quarantine")
    assert open_stack(tmp_path, on_bad="quarantine").num_frames == 5


@pytest.mark.parametrize(
    ("before", "known"),
    [
        (b"", True),
        (b"\xff\xfe\0\x06abcd", True),  # a comment
        (b"\xff\xe0\x01\x02" + bytes(256), True),  # longer than what is read first
        (b"\xff\xfe\xff\xff", False),  # leads out of the file
    ],
)
def test_segments_before_the_frame_are_passed_over(
    tmp_path: Path, before: bytes, known: bool
) -> None:
    write_packed(tmp_path, "jpeg")
    file = sorted(tmp_path.iterdir())[0]
    image = pydicom.dcmread(file)
    stream = pack_jpeg(image.pixel_array)
    image.PixelData = encapsulate([stream[:2] + before + stream[2:]])
    image.save_as(file)
    assert read_header(file).stream_shape == ((SIDE, SIDE) if known else (0, 0))


def test_rle_states_no_size_whatever_its_bytes_are(tmp_path: Path) -> None:
    write_packed(tmp_path, "rle")
    file = sorted(tmp_path.iterdir())[0]
    image = pydicom.dcmread(file)
    image.PixelData = encapsulate([bytes(8) + b"\xff\x4f\xff\x51" + b"\xf8" * 40])
    image.save_as(file)
    assert read_header(file).stream_shape == (0, 0)


def test_a_stream_in_a_file_of_boxes_states_its_size() -> None:
    file = Path(pydicom.__file__).parent / "data" / "test_files" / "GDCMJ2K_TextGBR.dcm"
    header = read_header(file)
    assert header.stream_shape == header.shape == (400, 400)


def test_odd_slices_between_others_hide_no_gap(tmp_path: Path) -> None:
    """The second and the fourth of five have a matrix of their own each."""
    volume = np.zeros((5, 8, 8), np.int16)
    write_dicom_series(tmp_path, volume, spacing=(5.0, 1.0, 1.0))
    for number, rows in ((1, 4), (3, 2)):
        file = sorted(tmp_path.iterdir())[number]
        image = pydicom.dcmread(file)
        image.Rows, image.PixelData = rows, image.PixelData[: rows * 16]
        image.save_as(file)
    rows_found = scan_tree(tmp_path)
    assert {row.verdict for row in rows_found} == {"refused"}
    with pytest.raises(MedvidError, match="may be missing") as caught:
        open_stack(tmp_path)
    assert caught.value.code == "mixed"
    assert {Path(file).name for file in caught.value.files} == {"IM_0002.dcm", "IM_0004.dcm"}
