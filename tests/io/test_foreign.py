"""What lies beside slices and is none has a row with its reason, and never gets into the stack."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import UID

import medvid.io.kinds as kinds_module
import medvid.io.scan as scan_module
import medvid.io.scan_tasks as tasks_module
from medvid.contract import DataError, GeometryError
from medvid.io import open_stack
from medvid.io.kinds import KINDS
from medvid.io.scan import ScanRow, scan_tree
from medvid.io.sidecars import has_dicom_mark, list_images
from medvid.io.write import write_nifti

Change = Callable[[pydicom.Dataset], None]

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def add(series: Path, name: str, *changes: Change, own_series: bool = True) -> None:
    """Puts a changed copy of a slice beside the slices."""
    image = pydicom.dcmread(series / "IM_0003.dcm")
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{len(name)}7")
    if own_series:
        image.SeriesInstanceUID = f"2.25.{len(name)}8"
    for change in changes:
        change(image)
    image.save_as(series / name)


def be(sop_class: str) -> Change:
    def change(image: pydicom.Dataset) -> None:
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID(sop_class)

    return change


def say(**values: object) -> Change:
    def change(image: pydicom.Dataset) -> None:
        for keyword, value in values.items():
            setattr(image, keyword, value)

    return change


def lose(*keywords: str) -> Change:
    def change(image: pydicom.Dataset) -> None:
        for keyword in keywords:
            delattr(image, keyword)

    return change


def colour(image: pydicom.Dataset) -> None:
    image.SamplesPerPixel, image.PlanarConfiguration = 3, 0
    image.PhotometricInterpretation = "RGB"
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = bytes(3 * image.Rows * image.Columns)


OBJECTS: dict[str, tuple[tuple[Change, ...], str, str]] = {
    "page.dcm": (
        (be(SECONDARY_CAPTURE), colour, lose(*PLACE)),
        "color",
        "is a colour image (such as a screenshot or a report page), not a slice.",
    ),
    "grey_page.dcm": (
        (be(SECONDARY_CAPTURE), lose(*PLACE)),
        "secondary_capture",
        "is a secondary capture (a screenshot) without a position.",
    ),
    # Scanners call it CT and copy the place of a slice into it.
    "dose_page.dcm": (
        (say(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),),
        "secondary_capture",
        "is a secondary capture (a saved screen), not a slice.",
    ),
    "dose_report.dcm": (
        (be("1.2.840.10008.5.1.4.1.1.88.67"), say(Modality="SR"), lose("PixelData", *PLACE)),
        "report",
        "is a structured report, not an image series.",
    ),
    "letter_pdf.dcm": (
        (be("1.2.840.10008.5.1.4.1.1.104.1"), say(Modality="DOC"), lose("PixelData", *PLACE)),
        "report",
        "is an encapsulated document, not an image series.",
    ),
    "organs_seg.dcm": (
        (be("1.2.840.10008.5.1.4.1.1.66.4"), say(Modality="SEG")),
        "segmentation",
        "is a segmentation, not an image series.",
    ),
    "outlines_rt.dcm": (
        (be("1.2.840.10008.5.1.4.1.1.481.3"), say(Modality="RTSTRUCT"), lose("PixelData", *PLACE)),
        "radiotherapy",
        "is a radiotherapy object, not an image series.",
    ),
    "presentation.dcm": (
        (be("1.2.840.10008.5.1.4.1.1.11.1"), say(Modality="PR"), lose("PixelData", *PLACE)),
        "presentation_state",
        "is a presentation state, not an image series.",
    ),
    "scout_image_1.dcm": (
        (
            say(
                ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
                ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            ),
        ),
        "localizer",
        "a localizer (scout)",
    ),
}
"""File name -> what makes it of a slice, its reason code and sentence."""


@pytest.mark.parametrize("own_series", [True, False])
@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_no_slice_has_its_row_and_leaves_the_series_alone(
    series: Path, volume: NDArray[np.int16], name: str, own_series: bool
) -> None:
    changes, code, sentence = OBJECTS[name]
    add(series, name, *changes, own_series=own_series)
    rows = {row.code: row for row in scan_tree(series, pixels=True)}
    assert {found: row.verdict for found, row in rows.items()} == {"": "ok", code: "refused"}
    assert rows[code].files == (name,)
    assert name in rows[code].reason
    assert sentence in rows[code].reason
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_everything_together_has_a_row_each(series: Path, volume: NDArray[np.int16]) -> None:
    for name, (changes, _, _) in OBJECTS.items():
        add(series, name, *changes)
    rows = scan_tree(series)
    refused = {row.files: row.code for row in rows if row.verdict == "refused"}
    assert refused == {(name,): code for name, (_, code, _) in OBJECTS.items()}
    assert [row.frames for row in rows if row.verdict == "ok"] == [8]
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


@pytest.mark.parametrize(
    "name", ["IM_0008.log", "1.2.840.7.py", "1.2.840.7.db", ".IM_0008", "README", "IM_0008.jpg"]
)
def test_a_slice_is_known_by_what_it_is_and_not_by_its_name(
    series: Path, volume: NDArray[np.int16], name: str
) -> None:
    (series / "IM_0008.dcm").rename(series / name)
    (series / "notes.log").write_text("no scan", encoding="utf-8")
    (series / ".hidden").touch()
    rows = {row.verdict: row for row in scan_tree(series)}
    assert rows["ok"].frames == 8
    assert rows["ignored"].files == (".hidden", "notes.log")
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)
    assert {file.name for file in list_images(series)} == {
        *(f"IM_000{number}.dcm" for number in range(1, 8)),
        name,
    }


@pytest.mark.parametrize("ending", [ending for endings in KINDS.values() for ending in endings])
def test_slices_that_are_called_like_volumes_are_slices_to_scan_and_to_open(
    series: Path, volume: NDArray[np.int16], ending: str
) -> None:
    for file in series.iterdir():
        file.rename(file.with_suffix(ending))
    (row,) = scan_tree(series)
    assert (row.kind, row.verdict, row.frames) == ("dicom", "ok", 8)
    np.testing.assert_array_equal(open_stack(row.path).read()[0], volume)
    with pytest.raises(DataError, match=f"IM_0003{ending} is a single DICOM file"):
        open_stack(series / f"IM_0003{ending}")


def test_a_slice_beside_a_header_file_is_not_taken_for_its_voxels(
    series: Path, volume: NDArray[np.int16]
) -> None:
    (series / "IM_0008.dcm").rename(series / "IM_0008.raw")
    (series / "IM_0008.mhd").write_text("ObjectType = Image\n", encoding="utf-8")
    rows = {row.kind: row for row in scan_tree(series)}
    assert (rows["dicom"].verdict, rows["dicom"].frames) == ("ok", 8)
    assert rows["mha"].verdict == "refused"


def test_the_first_bytes_of_a_file_are_asked_for_once(
    series: Path, volume: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(path: Path) -> bool:
        asked.append(path.name)
        return has_dicom_mark(path)

    for module in (kinds_module, scan_module, tasks_module):
        monkeypatch.setattr(module, "has_dicom_mark", ask)
    (series / "IM_0008.dcm").rename(series / "IM_0008.nii")
    write_nifti(series.parent / "v.nii", volume, spacing=(5.0, 0.7, 0.8))
    assert [row.kind for row in scan_tree(series.parent)] == ["dicom", "nifti"]
    assert sorted(asked) == ["IM_0008.nii", "v.nii"]


def test_a_directory_file_is_dicom_and_no_scan(series: Path, volume: NDArray[np.int16]) -> None:
    image = pydicom.dcmread(series / "IM_0001.dcm")
    be("1.2.840.10008.1.3.10")(image)
    image.save_as(series / "DICOMDIR")
    rows = {row.verdict: row for row in scan_tree(series)}
    assert (rows["ok"].frames, rows["ignored"].files) == (8, ("DICOMDIR",))
    np.testing.assert_array_equal(open_stack(series / "DICOMDIR").read()[0], volume)
    (series / "DICOMDIR").rename(series / "DICOMDIR.txt")
    rows = {row.verdict: row for row in scan_tree(series)}
    assert (rows["ok"].frames, rows["refused"].code) == (8, "directory")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.timeout(60)
def test_a_pipe_with_a_text_files_name_is_not_waited_for(
    series: Path, volume: NDArray[np.int16]
) -> None:
    os.mkfifo(series / "pipe.log")
    assert series / "pipe.log" not in list_images(series)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_a_mosaic_is_refused_and_its_converter_named(series: Path) -> None:
    for file in series.iterdir():
        image = pydicom.dcmread(file)
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        image.save_as(file)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code, len(row.files)) == ("refused", "mosaic", 8)
    assert "is a mosaic of several slices in one image. Convert it with dcm2niix." in row.reason
    with pytest.raises(GeometryError, match="mosaic"):
        open_stack(series)


def test_placed_secondary_captures_are_read_and_named(
    series: Path, volume: NDArray[np.int16]
) -> None:
    for file in series.iterdir():
        image = pydicom.dcmread(file)
        be(SECONDARY_CAPTURE)(image)
        image.save_as(file)
    (row,) = scan_tree(series)
    assert (row.verdict, row.frames) == ("ok", 8)
    assert "Secondary capture: a program made the pixels" in row.reason
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_burned_in_text_of_a_refused_series_is_named_too(series: Path) -> None:
    for file in sorted(series.iterdir()):
        image = pydicom.dcmread(file)
        image.BurnedInAnnotation = "YES"
        image.save_as(file)
    (series / "IM_0004.dcm").unlink()
    add(series, "page.dcm", *OBJECTS["page.dcm"][0], say(BurnedInAnnotation="YES"))
    rows = {row.code: row.reason for row in scan_tree(series)}
    assert set(rows) == {"missing_slices", "color"}
    assert all("Burned-in annotation" in reason for reason in rows.values())


def measured(row: ScanRow) -> tuple[object, ...]:
    return row.plane, row.spacing_t, row.spacing_h, row.spacing_w, row.extent_mm


def test_a_series_with_a_gap_is_measured_all_the_same(series: Path) -> None:
    (series / "IM_0004.dcm").unlink()
    (row,) = scan_tree(series)
    assert row.verdict == "fixable"
    assert measured(row) == ("axial", 5.0, 0.7, 0.8, 40.0)


def test_what_does_not_say_where_it_lies_has_no_measures(series: Path) -> None:
    for file in series.iterdir():
        image = pydicom.dcmread(file)
        image.ImageOrientationPatient = [0, 0, 0, 0, 0, 0]
        image.save_as(file)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "orientation_invalid")
    assert measured(row) == ("", 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "PixelSpacing"])
@pytest.mark.parametrize("word", [b"nan", b"inf"])
def test_a_place_that_is_no_number_is_named(series: Path, keyword: str, word: bytes) -> None:
    file = series / "IM_0008.dcm"
    image = pydicom.dcmread(file)
    setattr(image, keyword, [7.7] * len(image[keyword].value))
    image.save_as(file)
    file.write_bytes(file.read_bytes().replace(b"7.7", word, 1))
    (row,) = scan_tree(series)
    assert (row.code, row.fix, row.files) == ("no_position", "on_bad=quarantine", (file.name,))
    assert f"{file.name} has a number in its {keyword} that is not finite" in row.reason
