"""`fixable` is a promise: who gives the options that the row names has a stack."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import UID

import medvid.io.scan_rows as rows_module
import medvid.io.scan_tasks as tasks_module
from medvid.contract import GeometryError, Stack
from medvid.io import open_stack
from medvid.io.scan import ScanRow, scan_tree
from medvid.io.write import write_dicom_series, write_nifti

RLE_RUNS = 12 + 12 + 8 + 64
"""Bytes from the pixels' tag to the first run: the element's head, an offset table with one entry,
an item's head, and RLE's own header."""

Change = Callable[[pydicom.Dataset], None]


@pytest.fixture
def series(tmp_path: Path, volume: NDArray[np.int16]) -> Path:
    folder = tmp_path / "export" / "ct"
    write_dicom_series(folder, volume, spacing=(5.0, 0.7, 0.8), patient_id="SECRET-7")
    return folder


def edit(file: Path, change: Change, to: Path | None = None) -> None:
    dataset = pydicom.dcmread(file)
    change(dataset)
    (to or file).parent.mkdir(exist_ok=True, parents=True)
    dataset.save_as(to or file)


def files_of(series: Path) -> list[Path]:
    return sorted(series.glob("*.dcm"))


def only_row(series: Path) -> ScanRow:
    rows = scan_tree(series.parent)
    assert len(rows) == 1, rows
    return rows[0]


def lift(millimetres: float) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + millimetres]

    return change


def rename(uid: str, then: Change) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.SOPInstanceUID = uid
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(uid)
        then(dataset)

    return change


def blacken(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


def open_fixed(row: ScanRow) -> Stack:
    """Does what the row says."""
    fix = dict(option.split("=") for option in row.fix.split())
    return open_stack(row.path, series=row.series, **fix)  # type: ignore[arg-type]


def test_a_missing_slice_is_fixable_by_filling_it(series: Path, volume: NDArray[np.int16]) -> None:
    files_of(series)[3].unlink()
    row = only_row(series)
    assert (row.verdict, row.code, row.fix) == ("fixable", "missing_slices", "on_gap=resample")
    assert "1 of 8 slices is missing, between 10.0 and 20.0 mm (IM_0003.dcm, IM_0005.dcm)" in (
        row.reason
    )
    assert "`on_gap: resample`" in row.reason
    stack = open_fixed(row)
    np.testing.assert_array_equal(stack.read()[0], volume)  # the slices rise by even steps
    assert stack.positions.tolist() == [5.0 * n for n in range(8)]
    assert "1 of 8 frames was interpolated between 7 slices, at 15.0 mm (on_gap: resample)." in (
        stack.notes
    )


def test_a_missing_slice_may_be_put_back(series: Path, tmp_path: Path) -> None:
    away = shutil.move(files_of(series)[3], tmp_path / "away.dcm")
    assert "Ask for what is missing" in only_row(series).reason
    shutil.move(away, series / "asked-for.dcm")
    assert only_row(series).verdict == "ok"


def test_several_missing_slices_are_said_in_the_plural_with_every_gap(series: Path) -> None:
    for number in (1, 2, 5):
        files_of(series)[0].with_name(f"IM_{number + 1:04d}.dcm").unlink()
    reason = only_row(series).reason
    assert "3 of 8 slices are missing, between 0.0 and 15.0 mm" in reason
    assert "(IM_0001.dcm, IM_0004.dcm) and between 20.0 and 30.0 mm" in reason


def test_another_image_at_one_place_is_refused(series: Path, tmp_path: Path) -> None:
    copy = series / "copy.dcm"
    edit(files_of(series)[3], rename("2.25.7", blacken), copy)
    row = only_row(series)
    assert (row.verdict, row.code) == ("refused", "duplicate_slice")
    assert "copy.dcm" in row.files
    shutil.move(copy, tmp_path / "copy.dcm")
    assert only_row(series).verdict == "ok"


def test_a_single_image_of_another_echo_is_told_by_its_tag(series: Path) -> None:
    def echo(image: pydicom.Dataset) -> None:
        blacken(image)
        image.EchoTime = 80

    for file in files_of(series):
        edit(file, lambda image: setattr(image, "EchoTime", 10))
    edit(files_of(series)[3], rename("2.25.7", echo), series / "echo.dcm")
    row = only_row(series)
    assert (row.verdict, row.code) == ("refused", "duplicate_slice")
    assert "(IM_0004.dcm, echo.dcm); they differ in EchoTime, which does not sort" in row.reason
    assert "nothing in their headers" not in row.reason


def test_an_identical_duplicate_is_left_out_and_noted(series: Path) -> None:
    edit(files_of(series)[3], rename("2.25.7", lambda _: None), series / "copy.dcm")
    row = only_row(series)
    assert (row.verdict, row.frames) == ("ok", 8)
    assert "1 identical duplicate was left out" in row.reason


@pytest.mark.parametrize(
    ("modality", "change", "verdict"),
    [
        ("MR", {"PhotometricInterpretation": "MONOCHROME1"}, "refused"),
        ("CT", {"PhotometricInterpretation": "MONOCHROME1"}, "ok"),  # HU, however they are shown
        ("CT", {"PixelPaddingValue": -2000}, "refused"),
        ("CT", {"RescaleIntercept": 1}, "refused"),
    ],
)
def test_images_are_duplicates_where_their_values_are_the_same(
    series: Path, modality: str, change: dict[str, Any], verdict: str
) -> None:
    """The stored bits are the same, and half of them are -2000."""

    def fill(image: pydicom.Dataset) -> None:
        image.Modality = modality
        image.PixelData = np.array([-2000, 100] * 60, "<i2").tobytes()
        image.PixelRepresentation = 1
        image.RescaleIntercept = 0

    def differ(image: pydicom.Dataset) -> None:
        for name, value in change.items():
            setattr(image, name, value)
        if "PixelPaddingValue" in image:
            image["PixelPaddingValue"].VR = "SS"

    for file in files_of(series):
        edit(file, fill)
    edit(files_of(series)[3], rename("2.25.7", differ), series / "copy.dcm")
    row = only_row(series)
    assert (row.verdict, row.code) == (verdict, "" if verdict == "ok" else "duplicate_slice")


def test_copies_of_a_broken_image_are_a_sentence(series: Path) -> None:
    """Whether they show the same cannot be looked up: no pixel has zero bits."""
    file = files_of(series)[0]
    edit(file, lambda image: setattr(image, "BitsAllocated", 0))
    shutil.copy(file, series / "copy.dcm")
    row = only_row(series)
    assert (row.verdict, row.code, row.files) == ("fixable", "bits", ("IM_0001.dcm", "copy.dcm"))
    assert open_fixed(row).num_frames == 7


def test_a_change_of_step_is_fixable_and_its_even_part_is_named(series: Path) -> None:
    for number, file in enumerate(files_of(series)[5:]):
        edit(file, lift(2.3 * (number + 1)))
    row = only_row(series)
    assert (row.verdict, row.code, row.fix) == ("fixable", "uneven_steps", "on_gap=resample")
    assert "The 5 slices from 0.0 to 20.0 mm (IM_0001.dcm to IM_0005.dcm)" in row.reason
    assert np.ptp(np.diff(open_fixed(row).positions)) < 1e-9
    part = series / "even"
    part.mkdir()
    for file in files_of(series)[:5]:
        shutil.move(file, part)
    found = {Path(row.path).name: (row.verdict, row.frames) for row in scan_tree(series)}
    assert found == {"even": ("ok", 5), "ct": ("ok", 3)}
    assert open_stack(part).num_frames == 5


def test_where_more_would_be_made_up_than_was_scanned_slices_can_only_be_kept(
    series: Path, volume: NDArray[np.int16]
) -> None:
    for number, file in enumerate(files_of(series)):
        edit(file, lift(0.0 if number < 5 else 203.0 * (number - 4)))
    row = only_row(series)
    assert (row.verdict, row.code, row.fix) == ("fixable", "uneven_steps", "on_gap=keep")
    with pytest.raises(GeometryError, match="most of them made up"):
        open_stack(series, on_gap="resample")
    stack = open_fixed(row)
    np.testing.assert_array_equal(stack.read()[0], volume)
    assert stack.positions.tolist() == [0, 5, 10, 15, 20, 228, 436, 644]


@pytest.mark.parametrize("count", [1, 4])
def test_a_broken_file_is_fixable_among_whole_ones_and_not_among_broken_ones(
    series: Path, volume: NDArray[np.int16], count: int
) -> None:
    for file in files_of(series)[-count:]:
        file.write_bytes(file.read_bytes()[:-50])
    row = only_row(series)
    assert row.code == "truncated"
    assert (row.verdict, row.fix) == (
        ("fixable", "on_bad=quarantine") if count == 1 else ("refused", "")
    )
    assert row.files[0] == files_of(series)[-count].name
    if count == 1:
        assert "The other 7 images are a regular stack" in row.reason
        stack = open_fixed(row)
        np.testing.assert_array_equal(stack.read()[0], volume[:7])
        assert any("IM_0008.dcm; on_bad: quarantine" in note for note in stack.notes)
    else:
        assert "each of 4 images" in row.reason


def test_a_broken_file_in_the_middle_needs_both_options(
    series: Path, volume: NDArray[np.int16]
) -> None:
    file = files_of(series)[3]
    file.write_bytes(file.read_bytes()[:-50])
    row = only_row(series)
    assert (row.verdict, row.fix) == ("fixable", "on_bad=quarantine on_gap=resample")
    assert "Slices are missing without it: export it again" in row.reason
    np.testing.assert_array_equal(open_fixed(row).read()[0], volume)
    with pytest.raises(GeometryError, match="1 of 8 slices is missing"):
        open_stack(series, on_bad="quarantine")


def test_an_image_in_another_direction_is_a_row_of_its_own(series: Path) -> None:
    def turn(dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    odd = files_of(series)[7]
    edit(odd, turn)
    rows = {row.code: row for row in scan_tree(series)}
    assert (rows[""].verdict, rows[""].frames) == ("ok", 7)
    assert rows["single_image"].files == (odd.name,)
    assert open_stack(series).num_frames == 7


def test_two_directions_under_one_number_are_two_stacks(series: Path) -> None:
    def turn(dataset: pydicom.Dataset) -> None:
        x, _, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, z, 0]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    for file in files_of(series)[4:]:
        edit(file, turn)
    rows = scan_tree(series)
    assert {(row.plane, row.verdict, row.frames) for row in rows} == {
        ("axial", "ok", 4),
        ("coronal", "ok", 4),
    }
    with pytest.raises(GeometryError, match="several series"):
        open_stack(series)
    for row in rows:
        assert row.series.endswith(f":{row.plane}")
        assert open_stack(row.path, series=row.series).num_frames == 4


def test_different_images_at_a_single_place_are_refused(series: Path) -> None:
    for number, file in enumerate(files_of(series)):
        edit(file, lift(-5.0 * number))
    row = only_row(series)
    assert (row.verdict, row.code) == ("refused", "repeated_positions")
    assert "all 8 images lie at one place" in row.reason


def test_pixels_that_do_not_decode_are_counted_and_named(
    series: Path, volume: NDArray[np.int16]
) -> None:
    def encapsulate(dataset: pydicom.Dataset) -> None:
        dataset.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)  # RLE

    for file in files_of(series):
        edit(file, encapsulate)
    for file in files_of(series)[2:4]:
        # The runs themselves are gone; the header still says how long they should be.
        content = file.read_bytes()
        start = content.rfind(b"\xe0\x7f\x10\x00") + RLE_RUNS
        file.write_bytes(content[:start] + b"\x80" * (len(content) - start - 8) + content[-8:])
    assert [row.verdict for row in scan_tree(series)] == ["ok"]
    (row,) = scan_tree(series, pixels=True)
    assert (row.verdict, row.code) == ("fixable", "pixels_damaged")
    assert row.fix == "on_bad=quarantine on_gap=resample"
    assert row.files == tuple(file.name for file in files_of(series)[2:4])
    assert "The other 6 slices can be decoded" in row.reason
    stack = open_fixed(row)
    np.testing.assert_array_equal(stack.read()[0], volume)
    assert any("2 undecodable images were left out (IM_0003.dcm, IM_0004" in n for n in stack.notes)


def test_an_archive_of_several_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 3, 4)), b=np.zeros((2, 3, 4)))
    (row,) = scan_tree(tmp_path)
    assert (row.verdict, row.code) == ("refused", "several_arrays")


@pytest.mark.parametrize(
    "error", [ValueError("SECRET-7"), struct.error(), KeyError(), IndexError()]
)
def test_an_error_that_no_reader_foresaw_is_a_row(
    series: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write_nifti(series / "v.nii", np.zeros((3, 4, 5), np.int16), spacing=(2.0, 1.0, 1.0))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(rows_module, "open_file", fail)
    monkeypatch.setattr(rows_module, "stack_from_series", fail)
    rows = scan_tree(series)
    assert sorted((row.kind, row.verdict, row.code) for row in rows) == [
        ("dicom", "refused", "unreadable"),
        ("nifti", "refused", "unreadable"),
    ]
    for row in rows:
        assert row.path in row.reason
        assert type(error).__name__ in row.reason
        assert "SECRET" not in str(row)
    monkeypatch.setattr(rows_module, "sort_series", fail)
    monkeypatch.setattr(tasks_module, "read_header", fail)
    assert {row.code for row in scan_tree(series)} == {"unreadable"}
    assert len(scan_tree(series)) == 9


def test_a_series_that_cannot_be_sorted_is_one_row(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("SECRET-7")

    monkeypatch.setattr(rows_module, "sort_series", fail)
    row = only_row(series)
    assert (row.verdict, row.code, len(row.files)) == ("refused", "unreadable", 8)
    assert "KeyError" in row.reason
    assert "SECRET" not in str(row)


def test_linked_folders_have_a_row(series: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (series / "link").symlink_to(tmp_path / "other", target_is_directory=True)
    assert [row.code for row in scan_tree(series) if row.verdict == "ignored"] == ["linked_folder"]


def test_a_broken_link_and_a_header_cut_short_have_a_row(series: Path) -> None:
    (series / "gone.nii.gz").symlink_to(series / "nowhere.nii.gz")
    (series / "gone.dcm").symlink_to(series / "nowhere.dcm")
    (series / "cut.dcm").write_bytes(files_of(series)[0].read_bytes()[:400])
    rows = scan_tree(series)
    assert sorted((row.verdict, row.files) for row in rows) == [
        ("ok", ()),
        ("refused", ("cut.dcm",)),
        ("refused", ("gone.dcm",)),
        ("refused", ("gone.nii.gz",)),
    ]


def test_a_length_that_leads_out_of_the_header_is_a_damaged_header(series: Path) -> None:
    file = files_of(series)[0]
    content = file.read_bytes()
    # The group's length, a number of four bytes, now claims five.
    start = content.index(b"\x02\x00\x00\x00UL\x04\x00")
    file.write_bytes(content[: start + 6] + b"\x05" + content[start + 7 :])
    rows = [row for row in scan_tree(series) if file.name in row.files]
    assert [(row.verdict, row.code) for row in rows] == [("refused", "header_damaged")]


def test_objects_are_called_what_they_are(series: Path) -> None:
    def without_pixels(dataset: pydicom.Dataset) -> None:
        del dataset.PixelData

    def two_frames(dataset: pydicom.Dataset) -> None:
        dataset.NumberOfFrames = 2
        dataset.PixelData = dataset.PixelData * 2

    for name, change, code, words in (
        ("bare.dcm", without_pixels, "no_pixel_data", "has no pixel data"),
        ("two.dcm", two_frames, "multi_frame", "holds 2 frames in one file"),
    ):
        root = series.parent / code
        edit(files_of(series)[0], change, root / name)
        (row,) = scan_tree(root)
        assert (row.verdict, row.code) == ("refused", code)
        assert f"{name} {words}" in row.reason
        assert "report" not in row.reason
        assert "enhanced" not in row.reason
