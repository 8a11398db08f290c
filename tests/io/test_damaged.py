"""What fuzzing found once, each as a case of its own."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medvid.contract import MedvidError
from medvid.io import open_stack
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series, write_nifti
from medvid.io.write_video import write_video


def spoil_slope(image: pydicom.Dataset) -> None:
    raw = b"unknown "
    tag = pydicom.tag.Tag("RescaleSlope")
    del image[tag]
    image[tag] = pydicom.dataelem.RawDataElement(tag, "DS", len(raw), raw, 0, False, True)


def spoil_sign(image: pydicom.Dataset) -> None:
    image.PixelRepresentation = 2


def lose_sign(image: pydicom.Dataset) -> None:
    del image.PixelRepresentation


def spoil_grey(image: pydicom.Dataset) -> None:
    image.PhotometricInterpretation = "MONOCHROME3"


def lose_rows(image: pydicom.Dataset) -> None:
    image.Rows = 4


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (spoil_slope, "rescale_invalid"),  # was read as a slope of 1
        (spoil_sign, "bits"),
        (lose_sign, "bits"),  # was read as unsigned
        (spoil_grey, "photometric"),  # was read as MONOCHROME2
        (lose_rows, "pixels_surplus"),  # was read as the upper half
    ],
)
@pytest.mark.parametrize("every", [False, True])
def test_a_header_that_says_nothing_certain_of_its_pixels_is_refused(
    tmp_path: Path, spoil: Callable[[pydicom.Dataset], None], code: str, every: bool
) -> None:
    write_dicom_series(tmp_path, np.zeros((6, 8, 8), np.int16), spacing=(5.0, 1.0, 1.0))
    for file in sorted(tmp_path.iterdir())[: None if every else 1]:
        image = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            spoil(image)
            image.save_as(file)
    assert code in {row.code for row in scan_tree(tmp_path)}
    with pytest.raises(MedvidError) as caught:
        open_stack(tmp_path)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (108, float("inf"), "no_nifti"),  # vox_offset: was an OverflowError of nibabel's
        (280 + 4 * 11, 1e30, "affine_unreal"),  # the origin: was taken, and places were lost
        (280, 1e6, "affine_unreal"),  # the size of a voxel
    ],
)
def test_numbers_that_no_volume_has_are_refused(
    tmp_path: Path,
    offset: int,
    value: float,
    code: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "scan.nii"
    write_nifti(path, np.zeros((6, 8, 8), np.int16), spacing=(5.0, 1.0, 1.0))
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = struct.pack("<f", value)
    path.write_bytes(content)
    with pytest.raises(MedvidError) as caught:
        open_stack(path)
    assert caught.value.code == code
    assert "scan.nii" in caught.value.message


def test_a_header_that_announces_more_than_any_memory_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    write_nifti(path, np.zeros((6, 8, 8), np.int16), spacing=(5.0, 1.0, 1.0))
    content = bytearray(path.read_bytes())
    content[108:112] = struct.pack("<f", 1e30)  # where voxels begin
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(bytes(content), mtime=0))
    with pytest.raises(MedvidError) as caught:
        open_stack(tmp_path / "scan.nii.gz").read()
    assert caught.value.code == "truncated"


def make_clip(path: Path) -> bytes:
    frames = np.full((12, 32, 32, 3), 20, np.uint8)
    frames += 15 * np.arange(12, dtype=np.uint8)[:, None, None, None]
    write_video(path, frames)
    return path.read_bytes()


def test_a_damaged_index_of_an_avi_gives_single_frames_as_the_whole_clip_has_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "clip.avi"
    content = make_clip(path)
    index = content.rindex(b"idx1")
    # An entry points to the first frame; pictures themselves are not touched.
    entry = slice(index + 8, index + 8 + 16)
    for place in range(index + 8, len(content) - 15, 16):
        spoilt = bytearray(content)
        spoilt[place + 8 : place + 12] = content[entry][8:12]
        path.write_bytes(spoilt)
        try:
            stack = open_stack(path)
        except MedvidError:
            continue
        for frame in range(stack.num_frames):
            np.testing.assert_array_equal(stack.read([frame])[:, 0], stack.read()[:, frame])


def test_a_damaged_file_is_judged_alike_every_time(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    content = make_clip(path)
    path.write_bytes(bytes(5) + content[5:])  # FFmpeg then takes it for a raw stream
    codes = set()
    for _ in range(10):
        try:
            codes.add(str(open_stack(path).num_frames))
        except MedvidError as error:
            codes.add(error.code)
    assert len(codes) == 1


def test_a_slice_at_the_end_of_the_world_fills_no_memory(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, np.zeros((6, 8, 8), np.int16), spacing=(5.0, 1.0, 1.0))
    file = sorted(tmp_path.iterdir())[-1]
    image = pydicom.dcmread(file)
    image.ImagePositionPatient = [0, 0, 1_000_000_000]
    image.save_as(file)
    (row,) = scan_tree(tmp_path)  # laid an even grid of 200 million frames
    assert row.code == "missing_slices"
    with pytest.raises(MedvidError, match="most of them made up"):
        open_stack(tmp_path, on_gap="resample")
