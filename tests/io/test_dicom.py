"""DICOM series: right, or refused with a reason; and never a patient's name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import UID

from medvid.contract import DataError, GeometryError, MedvidError
from medvid.io import open_stack
from medvid.io.identity import patient_token, series_token
from medvid.io.write import write_dicom_series

PATIENT = "MUELLER-1951"


@pytest.fixture
def series(tmp_path: Path, volume: NDArray[np.int16]) -> Path:
    folder = tmp_path / "Serie ü 1"
    write_dicom_series(folder, volume, spacing=(5.0, 0.7, 0.8), patient_id=PATIENT)
    return folder


def edit(file: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    dataset = pydicom.dcmread(file)
    change(dataset)
    dataset.save_as(file)


def test_values_are_hu_and_frames_come_alone(series: Path, volume: NDArray[np.int16]) -> None:
    stack = open_stack(series)
    assert (str(stack.dtype), stack.modality, stack.unit) == ("int16", "CT", "mm")
    np.testing.assert_array_equal(stack.read([6, 1])[0], volume[[6, 1]])


def test_instance_numbers_never_decide_the_order(series: Path, volume: NDArray[np.int16]) -> None:
    for number, file in enumerate(sorted(series.iterdir())):
        edit(file, lambda d, n=number: setattr(d, "InstanceNumber", (n * 5) % 8))  # type: ignore[misc]
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_thickness_is_never_taken_for_the_step(series: Path) -> None:
    for file in series.iterdir():
        edit(file, lambda d: setattr(d, "SliceThickness", 2.5))
    assert open_stack(series).spacing[0] == pytest.approx(5)


def test_rescale_and_inverted_grey_are_applied(series: Path, volume: NDArray[np.int16]) -> None:
    def change(dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -2048

    for file in series.iterdir():
        edit(file, change)
    np.testing.assert_array_equal(open_stack(series).read()[0], 2 * volume)


def _move(millimetres: float) -> Callable[[Path], None]:
    def change(series: Path) -> None:
        def shift(dataset: pydicom.Dataset) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z + millimetres]

        edit(sorted(series.iterdir())[4], shift)

    return change


def _drop(series: Path) -> None:
    sorted(series.iterdir())[3].unlink()


def _duplicate(series: Path) -> None:
    files = sorted(series.iterdir())
    dataset = pydicom.dcmread(files[3])
    dataset.SOPInstanceUID = "2.25.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("2.25.7")
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(series / "copy.dcm")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_drop, "missing_slices"),
        (_move(1.7), "uneven_steps"),
        (_duplicate, "duplicate_slice"),
    ],
)
def test_an_irregular_series_is_refused_with_files_named(
    series: Path, spoil: Callable[[Path], None], code: str
) -> None:
    spoil(series)
    with pytest.raises(GeometryError) as caught:
        open_stack(series)
    assert caught.value.code == code
    assert caught.value.files
    assert "IM_" in caught.value.message or "copy" in caught.value.message


def test_several_series_are_told_apart_and_chosen(series: Path, volume: NDArray[np.int16]) -> None:
    other = volume + np.int16(7)
    write_dicom_series(
        series / "second", other, spacing=(5.0, 0.7, 0.8), series_uid="2.25.99", patient_id=PATIENT
    )
    with pytest.raises(GeometryError, match=r"several series.*`series=`") as caught:
        open_stack(series)
    token = series_token("2.25.99")
    assert token in caught.value.message
    np.testing.assert_array_equal(open_stack(series, series=token).read()[0], other)


def test_a_localizer_never_gets_into_the_stack(series: Path, volume: NDArray[np.int16]) -> None:
    dataset = pydicom.dcmread(sorted(series.iterdir())[0])
    dataset.SOPInstanceUID = "2.25.5"
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("2.25.5")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    dataset.save_as(series / "scout.dcm")
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_a_truncated_slice_is_named(series: Path) -> None:
    file = sorted(series.iterdir())[2]
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises((DataError, GeometryError), match=file.name):
        open_stack(series).read()


def test_no_message_and_no_note_names_the_patient(series: Path) -> None:
    uid = str(pydicom.dcmread(sorted(series.iterdir())[0]).SeriesInstanceUID)
    said = [*open_stack(series).notes]
    for spoil in (_drop, _duplicate, _move(2.0)):
        spoil(series)
        with pytest.raises(MedvidError) as caught:
            open_stack(series).read()
        said.append(caught.value.message)
    assert not any(word in text for text in said for word in (PATIENT, "Phantom", uid))


def test_tokens_are_stable_and_patients_are_salted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = []
    for name in ("one", "two"):
        for variable in ("XDG_CONFIG_HOME", "APPDATA"):
            monkeypatch.setenv(variable, str(tmp_path / name))
        tokens.append([patient_token("4711"), patient_token("4711")])
    assert tokens[0][0] == tokens[0][1]
    assert tokens[0][0] != tokens[1][0]
    assert series_token("1.2.3") == series_token("1.2.3") != series_token("1.2.4")
