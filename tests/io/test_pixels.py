"""Stored values become the modality's own, whatever sign, table, padding or codec they come in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from medvid.io import open_stack
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series

Change = Callable[[pydicom.Dataset], None]


@pytest.fixture
def volume() -> NDArray[np.int16]:
    slices = np.arange(5, dtype=np.int16) * 100 - 300
    return np.broadcast_to(slices[:, None, None], (5, 48, 40)).copy()


@pytest.fixture
def series(tmp_path: Path, volume: NDArray[np.int16]) -> Path:
    folder = tmp_path / "ct"
    write_dicom_series(folder, volume, spacing=(5.0, 0.7, 0.8))
    return folder


def edit_all(series: Path, change: Change) -> None:
    for file in series.iterdir():
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)


def swap_bytes(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_plain_syntaxes_give_the_same_values(
    series: Path, volume: NDArray[np.int16], syntax: pydicom.uid.UID
) -> None:
    for file in series.iterdir():
        dataset = pydicom.dcmread(file)
        if syntax == ExplicitVRBigEndian:
            swap_bytes(dataset)
        dataset.file_meta.TransferSyntaxUID = syntax
        little = syntax != ExplicitVRBigEndian
        implicit = syntax == ImplicitVRLittleEndian
        pydicom.dcmwrite(file, dataset, implicit_vr=implicit, little_endian=little)
    (row,) = scan_tree(series, pixels=True)
    assert (row.verdict, row.frames) == ("ok", 5)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_packed_pixels_give_the_same_values(
    series: Path, volume: NDArray[np.int16], syntax: pydicom.uid.UID
) -> None:
    edit_all(series, lambda d: d.compress(syntax, generate_instance_uid=False))
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_signed_values_keep_their_sign(series: Path, volume: NDArray[np.int16]) -> None:
    def sign(dataset: pydicom.Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32) - 1024
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept = 0
        dataset.PixelData = stored.astype("<i2").tobytes()

    edit_all(series, sign)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_signed_twelve_bits_ignore_what_lies_above_them(
    series: Path, volume: NDArray[np.int16]
) -> None:
    def overlay(dataset: pydicom.Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32) - 1024
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept = 0
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = ((stored & 0xFFF) | 0x5000).astype("<u2").tobytes()

    edit_all(series, overlay)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_every_slice_has_its_own_rescale(series: Path, volume: NDArray[np.int16]) -> None:
    def scale(dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope = 1 + int(dataset.InstanceNumber) % 2
        dataset.RescaleIntercept = -1024 * dataset.RescaleSlope

    edit_all(series, scale)
    expected = volume * np.array([2, 1, 2, 1, 2])[:, None, None]
    np.testing.assert_array_equal(open_stack(series).read()[0], expected)


def show_low_bright(dataset: pydicom.Dataset) -> None:
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PhotometricInterpretation = "MONOCHROME1"


@pytest.mark.parametrize("modality", ["MR", "CR", "OT"])
def test_inverted_grey_is_turned_back(
    series: Path, volume: NDArray[np.int16], modality: str
) -> None:
    def invert(dataset: pydicom.Dataset) -> None:
        show_low_bright(dataset)
        stored = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32)
        dataset.PixelData = (4095 - stored).astype("<u2").tobytes()
        dataset.Modality = modality

    edit_all(series, invert)
    stack = open_stack(series)
    np.testing.assert_array_equal(stack.read()[0], volume)
    assert any("MONOCHROME1" in note for note in stack.notes)


@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_how_values_are_shown_does_not_change_hu(
    series: Path, volume: NDArray[np.int16], modality: str
) -> None:
    def show(dataset: pydicom.Dataset) -> None:
        show_low_bright(dataset)
        dataset.Modality = modality

    edit_all(series, show)
    stack = open_stack(series)
    np.testing.assert_array_equal(stack.read()[0], volume)
    assert "Low values are shown bright (MONOCHROME1); the values are as they are." in stack.notes


def test_bits_at_another_place_are_refused(series: Path) -> None:
    def lift(dataset: pydicom.Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2")
        dataset.BitsStored, dataset.HighBit = 12, 15
        dataset.PixelData = (stored << 4).astype("<u2").tobytes()

    edit_all(series, lift)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "high_bit")
    assert "stores 12 bits a pixel and says that the highest is number 15" in row.reason


def test_without_a_word_the_highest_bit_is_the_usual_one(
    series: Path, volume: NDArray[np.int16]
) -> None:
    edit_all(series, lambda dataset: delattr(dataset, "HighBit"))
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def add_table(dataset: pydicom.Dataset, first: int, entries: list[int]) -> None:
    table = Dataset()
    table.LUTDescriptor = [len(entries), first, 16]
    table.ModalityLUTType = "HU"
    table.add_new("LUTData", "US", entries)
    dataset.ModalityLUTSequence = Items([table])
    del dataset.RescaleSlope
    del dataset.RescaleIntercept


def test_a_modality_table_is_looked_up_and_clamped(series: Path, volume: NDArray[np.int16]) -> None:
    entries = [3 * n + 10 for n in range(500)]
    edit_all(series, lambda d: add_table(d, 750, entries))
    stored = np.clip(volume.astype(np.int32) + 1024 - 750, 0, 499)
    stack = open_stack(series)
    np.testing.assert_array_equal(stack.read()[0], 3 * stored + 10)
    assert stack.dtype == np.int16


def test_a_broken_modality_table_is_refused(series: Path) -> None:
    def cut(dataset: pydicom.Dataset) -> None:
        add_table(dataset, 0, [1, 2, 3])
        dataset.ModalityLUTSequence[0].LUTDescriptor = [99, 0, 16]

    edit_all(series, cut)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "modality_lut")


def test_padding_becomes_air(series: Path, volume: NDArray[np.int16]) -> None:
    def pad(dataset: pydicom.Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32) - 1024
        stored[:7] = -2000
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept = 0
        dataset.PixelData = stored.astype("<i2").tobytes()
        dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)  # of the wrong type, as often

    edit_all(series, pad)
    stack = open_stack(series)
    assert (stack.read()[0, :, 0, :7] == -1024).all()
    np.testing.assert_array_equal(stack.read()[0, :, 1:], volume[:, 1:])
    assert "Padding (-2000 HU) was mapped to air (-1024 HU)." in stack.notes


def pad_beyond_bits(dataset: pydicom.Dataset, signed: bool) -> None:
    """Stores 12 of 16 bits and pads seven rows with a value that needs more."""
    stored = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32)
    if signed:
        stored -= 1024
        dataset.RescaleIntercept = 0
    value = -30000 if signed else 63536
    stored.reshape(48, 40)[:7] = value
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    dataset.add_new("PixelPaddingValue", "SS" if signed else "US", value)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", ["plain", "rle", "deflated", "big endian"])
def test_padding_that_the_stored_bits_cannot_hold_becomes_air(
    series: Path, volume: NDArray[np.int16], syntax: str, signed: bool
) -> None:
    for file in series.iterdir():
        dataset = pydicom.dcmread(file)
        pad_beyond_bits(dataset, signed)
        if syntax == "rle":
            dataset.compress(RLELossless, generate_instance_uid=False)
        if syntax == "deflated":
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        if syntax == "big endian":
            swap_bytes(dataset)
            dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        little = syntax != "big endian"
        pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=little)
    stack = open_stack(series)
    assert (stack.read()[0, :, :7] == -1024).all()
    np.testing.assert_array_equal(stack.read()[0, :, 7:], volume[:, 7:])
    told = -30000 if signed else 62512
    assert f"Padding ({told} HU) was mapped to air (-1024 HU)." in stack.notes


def test_padding_that_no_pixel_can_have_is_not_noted(
    series: Path, volume: NDArray[np.int16]
) -> None:
    def pack(dataset: pydicom.Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)  # of 12 bits
        dataset.add_new("PixelPaddingValue", "US", 63536)

    edit_all(series, pack)
    stack = open_stack(series)
    np.testing.assert_array_equal(stack.read()[0], volume)
    assert not any("adding" in note for note in stack.notes)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_what_has_no_preamble_is_decoded_as_well(
    series: Path, volume: NDArray[np.int16], syntax: pydicom.uid.UID
) -> None:
    for file in series.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            file, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True
        )
        file.write_bytes(file.read_bytes()[132:])
    assert [row.verdict for row in scan_tree(series, pixels=True)] == ["ok"]
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_overlong_numbers_are_read_and_noted(series: Path, volume: NDArray[np.int16]) -> None:
    for file in series.iterdir():
        content = file.read_bytes()
        short = b"1.0\\0.0\\0.0\\0.0\\1.0\\0.0"
        at = content.index(short)
        long = b"1.00000000000000000000\\0.0\\0.0\\0.0\\0.999999999999999999999\\0.0"
        long += b" " * (len(long) % 2)
        length = len(long).to_bytes(2, "little")
        padded = short + b" " * (len(short) % 2)
        file.write_bytes(content[: at - 2] + length + long + content[at + len(padded) :])
    stack = open_stack(series)
    np.testing.assert_array_equal(stack.read()[0], volume)
    assert "Numbers longer than 16 characters or with a decimal comma were read." in stack.notes


def test_a_missing_codec_is_named_with_the_line_that_installs_it(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import medvid.io.dicom_refusals as refusals

    edit_all(series, lambda d: d.compress(JPEG2000Lossless, generate_instance_uid=False))

    class Without:
        is_available = False
        UID = JPEG2000Lossless

    monkeypatch.setattr(refusals, "get_decoder", lambda _: Without())
    refusals.refuse_syntax.cache_clear()
    (row,) = scan_tree(series)
    refusals.refuse_syntax.cache_clear()
    assert (row.verdict, row.code) == ("refused", "codec_missing")
    assert 'pip install "medvid[codecs]"' in row.reason
    assert "pip install pylibjpeg-openjpeg" in row.reason


def test_a_burned_in_annotation_is_named(series: Path) -> None:
    edit_all(series, lambda d: setattr(d, "BurnedInAnnotation", "YES"))
    (row,) = scan_tree(series)
    assert row.verdict == "ok"
    assert "Burned-in annotation" in row.reason


def test_a_folder_with_a_directory_file_and_bare_names_is_read(
    series: Path, volume: NDArray[np.int16]
) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        dataset = pydicom.dcmread(file)
        del dataset.InstanceNumber
        place = series / f"{number % 2}" / f"{7 - number:08X}"
        place.parent.mkdir(exist_ok=True)
        dataset.save_as(place)
        file.unlink()
    (series / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    for path in (series, series / "DICOMDIR"):
        np.testing.assert_array_equal(open_stack(path).read()[0], volume)
