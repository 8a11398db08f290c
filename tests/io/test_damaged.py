"""What fuzzing found once, each as a case of its own."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medvid.contract import MedvidError
from medvid.io import open_stack
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series, write_nifti
from medvid.io.write_video import write_video
from tests.io.packed import PACKED, change_all, recode


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


def lose_column(image: pydicom.Dataset) -> None:
    image.Columns = 7


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (spoil_slope, "rescale_invalid"),  # was read as a slope of 1
        (spoil_sign, "bits"),
        (lose_sign, "bits"),  # was read as unsigned
        (spoil_grey, "photometric"),  # was read as MONOCHROME2
        (lose_rows, "pixels_surplus"),  # was read as the upper half
        (lose_column, "pixels_surplus"),  # was read sheared
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


PLAIN = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


@pytest.mark.parametrize("syntax", PLAIN)
@pytest.mark.parametrize("depth", [8, 16])
def test_one_column_too_few_is_refused_and_the_byte_that_evens_is_not(
    tmp_path: Path, syntax: UID, depth: int
) -> None:
    write_dicom_series(tmp_path, np.zeros((6, 7, 9), np.int16), spacing=(5.0, 1.0, 1.0))
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    for columns, code in ((9, ""), (8, "pixels_surplus")):
        for number, file in enumerate(sorted(tmp_path.iterdir())):
            image = pydicom.dcmread(file)
            image.BitsAllocated = image.BitsStored = depth
            image.HighBit, image.Columns = depth - 1, columns
            pixels = np.full((7, 9), number, f"{order}u{depth // 8}")
            image.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
            image["PixelData"].VR = "OW"
            image.file_meta.TransferSyntaxUID = syntax
            little, implicit = order == "<", syntax == ImplicitVRLittleEndian
            pydicom.dcmwrite(file, image, implicit_vr=implicit, little_endian=little)
        (row,) = scan_tree(tmp_path)
        assert row.code == code
        if not code:
            slices = open_stack(tmp_path).read()[0]
            assert slices[:, 3, 3].tolist() == [n - 1024 for n in range(6)]


def spoil_run(image: pydicom.Dataset) -> None:
    """Makes the first run of packed pixels longer than the image: the codec in Rust gives up."""
    image.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    begin = struct.unpack("<L", frame[4:8])[0]
    image.PixelData = encapsulate([frame[:begin] + b"\x81\x01" * (len(frame) - begin)])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_codec_that_panics_has_not_decoded_a_slice(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("rle")
    write_dicom_series(tmp_path, np.zeros((6, 40, 40), np.int16), spacing=(5.0, 1.0, 1.0))
    for number, file in enumerate(sorted(tmp_path.iterdir())):
        image = pydicom.dcmread(file)
        if number == 5:
            spoil_run(image)
        image.save_as(file)
    (row,) = scan_tree(tmp_path, pixels=True, workers=workers)
    assert (row.verdict, row.code, row.fix) == ("fixable", "pixels_damaged", "on_bad=quarantine")
    assert row.files == ("IM_0006.dcm",)
    with pytest.raises(MedvidError) as caught:
        open_stack(tmp_path).read()
    assert caught.value.code == "pixels_damaged"


def test_who_stops_the_program_stops_a_codec_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom_series(tmp_path, np.zeros((6, 8, 8), np.int16), spacing=(5.0, 1.0, 1.0))
    change_all(tmp_path, lambda image: recode(image, PACKED["rle"]))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medvid.io.dicom_pixels.pixel_array", stop)
    with pytest.raises(KeyboardInterrupt):
        open_stack(tmp_path).read()


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
