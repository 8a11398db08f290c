"""Several stacks under one SeriesInstanceUID are told apart, and never mixed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import UID

from medvid.contract import GeometryError
from medvid.io import open_stack
from medvid.io.scan import ScanRow, scan_tree
from medvid.io.write import write_dicom_series

Change = Callable[[pydicom.Dataset], None]


@pytest.fixture
def volume() -> NDArray[np.int16]:
    slices = np.arange(8, dtype=np.int16) * 100
    return np.broadcast_to(slices[:, None, None], (8, 12, 10)).copy()


@pytest.fixture
def series(tmp_path: Path, volume: NDArray[np.int16]) -> Path:
    folder = tmp_path / "mr"
    write_dicom_series(folder, volume, spacing=(5.0, 0.7, 0.8), modality="MR")
    return folder


def add(series: Path, number: int, change: Change, brighter: int) -> None:
    """Adds a second set of slices under the same UID, each brighter by a constant."""
    for file in sorted(series.glob("IM_*.dcm")):
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
        pixels = np.frombuffer(dataset.PixelData, "<u2") + brighter
        dataset.PixelData = pixels.astype("<u2").tobytes()
        change(dataset)
        dataset.save_as(series / f"extra{number}_{file.name}")


def mark(series: Path, change: Change) -> None:
    for file in series.glob("IM_*.dcm"):
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)


def setting(**values: Any) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def assert_two_stacks(series: Path, volume: NDArray[np.int16], word: str) -> list[ScanRow]:
    rows = scan_tree(series)
    assert [row.verdict for row in rows] == ["ok", "ok"], rows
    with pytest.raises(GeometryError, match="several series"):
        open_stack(series)
    brightness = []
    for row in rows:
        assert word in row.series
        stack = open_stack(row.path, series=row.series)
        difference = stack.read()[0] - volume
        assert np.ptp(difference) == 0  # every slice is of one set, in the right order
        brightness.append(int(difference.max()))
    assert sorted(brightness) == [0, 7]
    return rows


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ({"EchoTime": 20}, {"EchoTime": 80}, "EchoTime=80"),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, "AcquisitionNumber="),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, "Temporal"),
        ({"TriggerTime": 0}, {"TriggerTime": 420.5}, "TriggerTime="),
        ({"InversionTime": 90}, {"InversionTime": 900}, "InversionTime="),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}, "DiffusionBValue="),
        ({"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B60s"}, "Kernel="),
        ({"SequenceName": "*ep_b0"}, {"SequenceName": "*ep_b1000"}, "SequenceName="),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "M"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
            "ImageType=",
        ),
    ],
)
def test_phases_echoes_and_b_values_are_stacks_of_their_own(
    series: Path,
    volume: NDArray[np.int16],
    first: dict[str, Any],
    second: dict[str, Any],
    word: str,
) -> None:
    mark(series, setting(**first))
    add(series, 1, setting(**second), 7)
    rows = assert_two_stacks(series, volume, word.split("=")[0])
    assert any(word in row.series for row in rows)


def test_phases_that_only_their_times_tell_apart_are_stacks_of_their_own(
    series: Path, volume: NDArray[np.int16]
) -> None:
    def at(seconds: int) -> Change:
        def change(dataset: pydicom.Dataset) -> None:
            dataset.ContentTime = f"{100000 + seconds + int(dataset.InstanceNumber)}.5"

        return change

    mark(series, at(0))
    add(series, 1, at(20), 7)
    assert_two_stacks(series, volume, "ContentTime#")


def test_times_that_overlap_tell_nothing(series: Path) -> None:
    def at(seconds: int) -> Change:
        def change(dataset: pydicom.Dataset) -> None:
            dataset.ContentTime = f"{100000 + seconds + int(dataset.InstanceNumber)}"

        return change

    mark(series, at(0))
    add(series, 1, at(3), 7)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "repeated_positions")


def test_two_tags_together_tell_four_stacks_apart(series: Path, volume: NDArray[np.int16]) -> None:
    mark(series, setting(EchoTime=20, AcquisitionNumber=1))
    add(series, 1, setting(EchoTime=80, AcquisitionNumber=1), 7)
    add(series, 2, setting(EchoTime=20, AcquisitionNumber=2), 14)
    add(series, 3, setting(EchoTime=80, AcquisitionNumber=2), 21)
    rows = scan_tree(series)
    assert [row.verdict for row in rows] == ["ok"] * 4
    brightness = {
        row.series.partition(":")[2]: open_stack(row.path, series=row.series).read()[0] - volume
        for row in rows
    }
    assert {name: np.unique(one).tolist() for name, one in brightness.items()} == {
        "EchoTime=20,AcquisitionNumber=1": [0],
        "EchoTime=80,AcquisitionNumber=1": [7],
        "EchoTime=20,AcquisitionNumber=2": [14],
        "EchoTime=80,AcquisitionNumber=2": [21],
    }


def test_a_phase_that_lacks_a_slice_is_refused_alone(
    series: Path, volume: NDArray[np.int16]
) -> None:
    mark(series, setting(EchoTime=20))
    add(series, 1, setting(EchoTime=80), 7)
    (series / "extra1_IM_0004.dcm").unlink()
    rows = {row.series.partition(":")[2]: row for row in scan_tree(series)}
    assert rows["EchoTime=20"].verdict == "ok"
    assert (rows["EchoTime=80"].verdict, rows["EchoTime=80"].fix) == ("fixable", "on_gap=resample")


def test_a_number_that_runs_through_one_stack_does_not_part_it(
    series: Path, volume: NDArray[np.int16]
) -> None:
    mark(series, lambda d: setattr(d, "AcquisitionNumber", 1 + int(d.InstanceNumber) % 2))
    (row,) = scan_tree(series)
    assert (row.verdict, row.frames) == ("ok", 8)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_two_reconstructions_between_each_other_are_two_stacks(
    series: Path, volume: NDArray[np.int16]
) -> None:
    mark(series, setting(ConvolutionKernel="B30f"))
    add(series, 1, lifting(ConvolutionKernel="B60s"), 7)
    assert_two_stacks(series, volume, "ConvolutionKernel=")


def lifting(half: float = 2.5, **values: Any) -> Change:
    """Moves slices by half a step, which makes an even grid of two sets that alternate."""

    def change(dataset: pydicom.Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + half]
        setting(**values)(dataset)

    return change


NEVER_MIXED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
    ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}),
    ({"InversionTime": 90}, {"InversionTime": 900}),
    ({"FrameOfReferenceUID": "1.2.3"}, {"FrameOfReferenceUID": "1.2.4"}),
    ({"StudyInstanceUID": "1.2.3"}, {"StudyInstanceUID": "1.2.4"}),
]


@pytest.mark.parametrize(("first", "second"), NEVER_MIXED)
def test_two_phases_between_each_other_are_two_stacks(
    series: Path, volume: NDArray[np.int16], first: dict[str, Any], second: dict[str, Any]
) -> None:
    mark(series, setting(SliceThickness="", **first))
    add(series, 1, lifting(**second), 7)
    rows = assert_two_stacks(series, volume, next(iter(first)))
    assert not any("1.2." in row.series for row in rows)


@pytest.mark.parametrize(("first", "second"), NEVER_MIXED)
def test_a_gap_is_no_reason_to_mix_two_phases(
    series: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    mark(series, setting(**first))
    add(series, 1, lifting(**second), 7)
    (series / "IM_0004.dcm").unlink()
    (series / "extra1_IM_0006.dcm").unlink()
    assert [(row.frames, row.code, row.fix) for row in scan_tree(series)] == [
        (7, "missing_slices", "on_gap=resample")
    ] * 2


def in_halves(keyword: str, below: Any, above: Any) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        setattr(dataset, keyword, below if int(dataset.InstanceNumber) <= 4 else above)

    return change


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_slices_of_two_frames_of_reference_or_studies_are_never_stitched(
    series: Path, keyword: str
) -> None:
    mark(series, in_halves(keyword, "1.2.3", "1.2.4"))
    rows = scan_tree(series)
    assert [(row.verdict, row.frames) for row in rows] == [("ok", 4), ("ok", 4)]
    assert all(f":{keyword}=" in row.series and "1.2." not in row.series for row in rows)
    with pytest.raises(GeometryError, match="several series"):
        open_stack(series)


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_frame_of_reference_that_is_not_stated_parts_nothing(series: Path, keyword: str) -> None:
    mark(series, in_halves(keyword, "1.2.3", ""))
    assert open_stack(series).num_frames == 8


def test_slices_of_a_frame_of_reference_each_are_no_stack(series: Path) -> None:
    mark(series, lambda d: setattr(d, "FrameOfReferenceUID", f"1.2.{d.InstanceNumber}"))
    (row,) = scan_tree(series)
    assert (row.verdict, row.code, row.fix) == ("refused", "mixed", "")
    assert "frame of reference" in row.reason


def test_one_slice_of_another_frame_of_reference_is_missed(series: Path) -> None:
    mark(series, setting(FrameOfReferenceUID="1.2.3"))
    odd = pydicom.dcmread(series / "IM_0004.dcm")
    odd.FrameOfReferenceUID = "1.2.4"
    odd.save_as(series / "IM_0004.dcm")
    codes = {row.code: row for row in scan_tree(series)}
    assert set(codes) == {"missing_slices", "single_image"}
    assert codes["single_image"].files == ("IM_0004.dcm",)


@pytest.mark.parametrize(
    ("keyword", "below", "above"),
    [("EchoTime", 20, 80.5), ("ConvolutionKernel", "B30f", "B70s"), ("InversionTime", 90, 900)],
)
def test_what_two_stacks_on_top_of_each_other_would_differ_in_is_noted(
    series: Path, keyword: str, below: Any, above: Any
) -> None:
    mark(series, in_halves(keyword, below, above))
    assert f"Its slices differ in {keyword} ({below}, {above})." in open_stack(series).notes
    (row,) = scan_tree(series)
    assert (row.verdict, keyword in row.reason) == ("ok", True)


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, "AcquisitionNumber="),
        ({"TriggerTime": 0}, {"TriggerTime": 300}, "TriggerTime="),
        ({"ImageType": ["ORIGINAL", "M"]}, {"ImageType": ["ORIGINAL", "P"]}, "ImageType="),
        ({"ContentTime": "100000"}, {"ContentTime": "100100"}, "ContentTime#"),
        ({"AcquisitionTime": "100000"}, {"AcquisitionTime": "100100"}, "AcquisitionTime#"),
    ],
)
def test_what_alternates_is_one_stack_unless_its_slices_overlap(
    series: Path,
    volume: NDArray[np.int16],
    first: dict[str, Any],
    second: dict[str, Any],
    word: str,
) -> None:
    mark(series, setting(SliceThickness=2.5, **first))
    add(series, 1, lifting(**second), 7)
    (row,) = scan_tree(series)
    assert (row.verdict, row.frames) == ("ok", 16)  # even slices acquired before odd ones
    mark(series, setting(SliceThickness=5))
    for file in series.glob("extra1_*"):
        dataset = pydicom.dcmread(file)
        dataset.SliceThickness = 5
        dataset.save_as(file)
    assert_two_stacks(series, volume, word)


def test_an_overlapping_reconstruction_is_one_stack(
    series: Path, volume: NDArray[np.int16]
) -> None:
    def later(dataset: pydicom.Dataset) -> None:
        dataset.ContentTime = f"1000{int(dataset.InstanceNumber):02d}"
        dataset.AcquisitionNumber = int(dataset.InstanceNumber) // 4
        dataset.SliceThickness = 10

    mark(series, later)
    (row,) = scan_tree(series)
    assert (row.verdict, row.frames) == ("ok", 8)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_a_number_with_an_underscore_is_no_number(series: Path) -> None:
    file = min(series.iterdir())
    content = file.read_bytes()
    at = content.index(b"0.0\\0.0\\35.0" if b"0.0\\0.0\\35.0" in content else b"0.0\\0.0\\0.0")
    file.write_bytes(content[:at] + b"0_0" + content[at + 3 :])
    (row,) = scan_tree(series)
    assert (row.verdict, row.files) == ("fixable", (file.name,))


def test_one_slice_with_another_matrix_is_no_stack_and_no_part_of_one(
    series: Path, volume: NDArray[np.int16]
) -> None:
    def halved(dataset: pydicom.Dataset) -> None:
        dataset.Rows = 6
        dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]

    odd = series / "odd.dcm"
    dataset = pydicom.dcmread(series / "IM_0002.dcm")
    halved(dataset)
    dataset.SOPInstanceUID = "2.25.3"
    dataset.save_as(odd)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)
    rows = {row.code: row for row in scan_tree(series)}
    assert rows[""].frames == 8
    assert (rows["single_image"].verdict, rows["single_image"].files) == ("refused", ("odd.dcm",))


def test_a_scout_that_does_not_say_so_is_told_by_its_direction_and_count(
    series: Path, volume: NDArray[np.int16]
) -> None:
    for number in range(3):
        dataset = pydicom.dcmread(series / "IM_0002.dcm")
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [0, 20 * number, 0]
        dataset.SOPInstanceUID = f"2.25.4{number}"
        dataset.save_as(series / f"scout{number}.dcm")
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)
    rows = {row.code: row for row in scan_tree(series)}
    assert rows[""].frames == 8
    assert rows["localizer"].files == ("scout0.dcm", "scout1.dcm", "scout2.dcm")


def test_a_turning_view_is_one_refusal(series: Path) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        angle = np.radians(20.0 * number)

        def turn(dataset: pydicom.Dataset, angle: float = angle) -> None:
            row = [float(np.cos(angle)), float(np.sin(angle)), 0]
            dataset.ImageOrientationPatient = [*row, 0, 0, -1]

        dataset = pydicom.dcmread(file)
        turn(dataset)
        dataset.save_as(file)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code, len(row.files)) == ("refused", "mixed", 8)


def test_two_patients_under_one_number_are_refused(series: Path) -> None:
    for file in sorted(series.iterdir())[4:]:
        dataset = pydicom.dcmread(file)
        dataset.PatientID = "ANOTHER-3"
        dataset.save_as(file)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code, len(row.files)) == ("refused", "mixed_patients", 4)
    assert "ANOTHER" not in str(row)


def test_slices_without_a_series_number_are_held_together_by_their_folder(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    for name in ("a", "b"):
        write_dicom_series(tmp_path / name, volume, spacing=(5.0, 1.0, 1.0), modality="MR")
        mark(tmp_path / name, lambda d: delattr(d, "SeriesInstanceUID"))
    rows = scan_tree(tmp_path)
    assert [(Path(row.path).name, row.verdict, row.frames) for row in rows] == [
        ("a", "ok", 8),
        ("b", "ok", 8),
    ]
