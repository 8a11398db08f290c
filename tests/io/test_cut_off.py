"""Packed files that are cut off are refused, also where a codec would fill up what is missing."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from medvid.contract import DataError, MedvidError
from medvid.io import open_stack
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_refusals import refuse_image
from medvid.io.scan import scan_tree
from tests.io.packed import END, PACKED, change_all, pack_jpeg, recode

DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
JPEG_LS = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small_jpeg_ls_lossless.dcm"


@pytest.fixture
def jpegs(series: Path) -> list[Path]:
    return change_all(series, lambda image: recode(image, PACKED["jpeg"]))


@pytest.mark.parametrize("kind", PACKED)
def test_what_the_tests_pack_is_read_back(
    series: Path, volume: NDArray[np.int16], kind: str
) -> None:
    change_all(series, lambda image: recode(image, PACKED[kind]))
    (row,) = scan_tree(series, pixels=True)
    assert (row.verdict, row.frames) == ("ok", 8)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


@pytest.mark.parametrize("lost", [9, 20, 40])
@pytest.mark.parametrize("kind", PACKED)
def test_a_cut_off_slice_is_refused_by_its_header_alone(series: Path, kind: str, lost: int) -> None:
    file = change_all(series, lambda image: recode(image, PACKED[kind]))[3]
    file.write_bytes(file.read_bytes()[:-lost])
    rows = scan_tree(series)
    (row,) = [row for row in rows if file.name in row.files and row.code != "missing_slices"]
    # A deflated file is one stream: without its end nothing of it is certain.
    assert row.code == ("header_damaged" if kind == "deflated" else "truncated")
    assert not [row for row in rows if row.verdict == "ok"]
    with pytest.raises(MedvidError, match=r"IM_000"):
        open_stack(series)


def test_a_cut_off_slice_may_be_left_out(jpegs: list[Path], volume: NDArray[np.int16]) -> None:
    jpegs[0].write_bytes(jpegs[0].read_bytes()[:-20])
    folder = jpegs[0].parent
    (row,) = scan_tree(folder)
    assert (row.verdict, row.code, row.fix) == ("fixable", "truncated", "on_bad=quarantine")
    stack = open_stack(folder, on_bad="quarantine")
    np.testing.assert_array_equal(stack.read()[0], volume[1:])


@pytest.mark.parametrize(
    ("padding", "whole"), [(b"", True), (b"\0", True), (b"\xff", True), (b"\0" * 200, False)]
)
def test_a_stream_may_be_padded_and_must_end(
    jpegs: list[Path], padding: bytes, whole: bool
) -> None:
    image = pydicom.dcmread(jpegs[0])
    stream = pack_jpeg(image.pixel_array)
    for content, expected in ((stream + padding, whole), (stream.removesuffix(END), False)):
        image.PixelData = encapsulate([content + b"\0" * (len(content) % 2)])
        image.save_as(jpegs[0])
        why = refuse_image(read_header(jpegs[0]))
        assert (why is None) == expected
        assert why is None or why[0] == "truncated"


def test_only_the_mark_behind_the_pixels_may_be_missing(
    jpegs: list[Path], volume: NDArray[np.int16]
) -> None:
    for file in jpegs:
        content = file.read_bytes()
        assert content.endswith(DELIMITER)
        file.write_bytes(content.removesuffix(DELIMITER))
    folder = jpegs[0].parent
    np.testing.assert_array_equal(open_stack(folder).read()[0], volume)


def test_zeros_in_place_of_the_end_are_no_end(jpegs: list[Path]) -> None:
    """As an interrupted download leaves a file whose size was set beforehand."""
    content = jpegs[0].read_bytes()
    jpegs[0].write_bytes(content[:-40] + bytes(40))
    with pytest.raises(MedvidError) as caught:
        open_stack(jpegs[0].parent)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("lost", [9, 200, 2000])
def test_jpeg_ls_is_refused_too(tmp_path: Path, lost: int) -> None:
    content = JPEG_LS.read_bytes()
    end = content.index(DELIMITER) + len(DELIMITER)
    assert refuse_image(read_header(JPEG_LS)) is None
    file = tmp_path / "slice.dcm"
    file.write_bytes(content[: end - lost])
    why = refuse_image(read_header(file))
    assert why is not None
    assert why[0] == "truncated"


def test_a_multi_frame_file_with_too_few_frames_is_cut_off(jpegs: list[Path]) -> None:
    image = pydicom.dcmread(jpegs[0])
    frames = [pack_jpeg(image.pixel_array)] * 2
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2.1")
    image.NumberOfFrames = 3
    image.PixelData = encapsulate(frames)
    image.save_as(jpegs[0])
    assert read_header(jpegs[0]).cut


def test_a_cut_off_deflated_file_is_a_sentence(series: Path) -> None:
    file = change_all(series, lambda image: recode(image, PACKED["deflated"]))[3]
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError) as caught:
        read_header(file)  # was zlib's own error
    assert caught.value.code == "header_damaged"
    assert file.name in caught.value.message
