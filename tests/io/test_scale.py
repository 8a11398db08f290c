"""What gives values their unit is stated by every slice, and is one for all; CT can show air."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import PositronEmissionTomographyImageStorage

from medvid.contract import GeometryError
from medvid.io import open_stack
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_refusals import refuse_image
from medvid.io.dicom_slice import SliceHeader
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series

Change = Callable[[pydicom.Dataset], None]


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> SliceHeader:
    folder = tmp_path_factory.mktemp("ct")
    write_dicom_series(folder, np.zeros((2, 48, 40), np.int16), spacing=(5.0, 0.7, 0.8))
    return read_header(folder / "IM_0001.dcm")


def edit_all(series: Path, change: Change) -> None:
    for file in series.iterdir():
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)


LOST = [("RescaleSlope",), ("RescaleIntercept",), ("RescaleSlope", "RescaleIntercept")]


def lose(dataset: pydicom.Dataset, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        delattr(dataset, keyword)


@pytest.mark.parametrize("keywords", LOST)
def test_ct_without_a_rescale_is_not_called_hu(series: Path, keywords: tuple[str, ...]) -> None:
    edit_all(series, lambda dataset: lose(dataset, keywords))
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "no_rescale")
    assert "so its values are not known to be HU. Export it again with them" in row.reason
    with pytest.raises(GeometryError) as caught:
        open_stack(series)
    assert caught.value.code == "no_rescale"


def test_slices_without_a_rescale_are_not_mixed_with_others(
    series: Path, volume: NDArray[np.int16]
) -> None:
    file = sorted(series.iterdir())[-1]
    dataset = pydicom.dcmread(file)
    lose(dataset, LOST[-1])
    dataset.save_as(file)
    (row,) = scan_tree(series)
    assert (row.code, row.fix, row.files) == ("no_rescale", "on_bad=quarantine", (file.name,))
    with pytest.raises(GeometryError):
        open_stack(series)
    np.testing.assert_array_equal(open_stack(series, on_bad="quarantine").read()[0], volume[:-1])


def make_pet(dataset: pydicom.Dataset) -> None:
    dataset.Modality, dataset.SOPClassUID = "PT", PositronEmissionTomographyImageStorage
    dataset.Units, dataset.RescaleIntercept = "BQML", 0
    dataset.RescaleSlope = 0.5 + int(dataset.InstanceNumber)


@pytest.mark.parametrize("empty", [True, False])
def test_a_pet_slice_without_its_slope_is_refused_and_may_be_left_out(
    series: Path, volume: NDArray[np.int16], empty: bool
) -> None:
    edit_all(series, make_pet)
    stored = volume.astype(np.int32) + 1024
    slopes = np.arange(8)[:, None, None] + 1.5
    np.testing.assert_array_equal(open_stack(series).read()[0], stored * slopes)
    file = sorted(series.iterdir())[-1]
    dataset = pydicom.dcmread(file)
    lose(dataset, LOST[0])
    if empty:
        dataset.RescaleSlope = None
    dataset.save_as(file)
    (row,) = scan_tree(series)
    assert (row.code, row.fix, row.files) == ("no_rescale", "on_bad=quarantine", (file.name,))
    assert "is PET without RescaleSlope" in row.reason
    kept = open_stack(series, on_bad="quarantine")
    np.testing.assert_array_equal(kept.read()[0], (stored * slopes)[:-1])


def test_pet_in_two_units_is_no_stack(series: Path) -> None:
    edit_all(series, make_pet)
    assert scan_tree(series)[0].verdict == "ok"
    first = sorted(series.iterdir())[0]
    dataset = pydicom.dcmread(first)
    dataset.Units = "CNTS"
    dataset.save_as(first)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "mixed_units")
    assert "its 8 images are PET in several units" in row.reason
    del dataset.Units
    dataset.save_as(first)
    assert scan_tree(series)[0].verdict == "ok"


@pytest.mark.parametrize("slope", [1, 2])
def test_mr_of_which_some_slices_lost_their_rescale_is_no_stack(
    series: Path, volume: NDArray[np.int16], slope: int
) -> None:
    def make_mr(dataset: pydicom.Dataset) -> None:
        dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "MR", slope, 0
        if dataset.InstanceNumber % 2:
            lose(dataset, LOST[-1])

    edit_all(series, make_mr)
    (row,) = scan_tree(series)
    if slope == 1:  # what all store anyway
        np.testing.assert_array_equal(open_stack(series).read()[0], volume + 1024)
        return
    assert (row.verdict, row.code) == ("refused", "mixed_rescale")
    assert (
        "4 images of 8 (IM_0001.dcm, IM_0003.dcm, IM_0005.dcm, IM_0007.dcm) have no" in row.reason
    )
    with pytest.raises(GeometryError, match="different scales"):
        open_stack(series, on_gap="keep")


def test_two_echoes_that_are_scaled_apart_are_still_two_stacks(
    series: Path, volume: NDArray[np.int16]
) -> None:
    def make_mr(dataset: pydicom.Dataset) -> None:
        dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "MR", 2, 0
        dataset.EchoTime = 80

    edit_all(series, make_mr)
    for file in sorted(series.iterdir()):
        dataset = pydicom.dcmread(file)
        lose(dataset, LOST[-1])
        dataset.EchoTime = 20
        dataset.SOPInstanceUID += ".1"
        dataset.save_as(series / f"echo1_{file.name}")
    rows = {row.series.split(":")[1]: row for row in scan_tree(series)}
    assert {name: row.verdict for name, row in rows.items()} == {
        "EchoTime=20": "ok",
        "EchoTime=80": "ok",
    }
    for name, factor in (("EchoTime=20", 1), ("EchoTime=80", 2)):
        stack = open_stack(series, series=rows[name].series)
        np.testing.assert_array_equal(stack.read()[0], (volume + 1024) * factor)


@pytest.mark.parametrize("word", ["", "ct"])
def test_ct_is_known_by_its_class_and_in_small_letters(series: Path, word: str) -> None:
    def call(dataset: pydicom.Dataset) -> None:
        with pydicom.config.disable_value_validation():
            dataset.Modality = word

    edit_all(series, call)
    assert open_stack(series).modality == scan_tree(series)[0].modality == "CT"
    edit_all(series, lambda dataset: lose(dataset, LOST[-1]))
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "no_rescale")


def wrap_air(dataset: pydicom.Dataset, bits: int = 12) -> None:
    """Stores HU without a sign, as if the intercept had been written into the values."""
    stored = np.frombuffer(dataset.PixelData, "<u2").astype(np.int32) - 1024
    dataset.BitsStored, dataset.HighBit, dataset.RescaleIntercept = bits, bits - 1, 0
    dataset.PixelData = (stored % (1 << bits)).astype("<u2").tobytes()


@pytest.mark.parametrize("bits", [12, 16])
def test_ct_whose_air_was_wrapped_to_the_top_is_refused(series: Path, bits: int) -> None:
    edit_all(series, lambda dataset: wrap_air(dataset, bits))
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "no_air")
    assert f"{bits} bits with no sign and its rescale hold no value below 0 HU" in row.reason


def test_a_wrapped_slice_may_be_left_out(series: Path, volume: NDArray[np.int16]) -> None:
    file = sorted(series.iterdir())[-1]
    dataset = pydicom.dcmread(file)
    wrap_air(dataset)
    dataset.save_as(file)
    (row,) = scan_tree(series)
    assert (row.code, row.fix, row.files) == ("no_air", "on_bad=quarantine", (file.name,))
    np.testing.assert_array_equal(open_stack(series, on_bad="quarantine").read()[0], volume[:-1])


@given(
    stored=st.integers(8, 16),
    signed=st.booleans(),
    slope=st.sampled_from([-1.0, 0.5, 1.0, 2.0]),
    intercept=st.integers(-2000, 2000),
)
def test_ct_is_refused_exactly_where_no_stored_value_is_fat_or_less(
    header: SliceHeader, stored: int, signed: bool, slope: float, intercept: int
) -> None:
    every = np.arange(1 << stored) - (1 << stored - 1 if signed else 0)
    image = replace(
        header,
        bits=(16, stored),
        high_bit=stored - 1,
        signed=signed,
        slope=slope,
        intercept=float(intercept),
    )
    found = refuse_image(image)
    assert (found is not None) == bool((every * slope + intercept > -100).all())


def test_mr_needs_no_rescale(series: Path, volume: NDArray[np.int16]) -> None:
    def make_mr(dataset: pydicom.Dataset) -> None:
        lose(dataset, LOST[-1])
        dataset.Modality = "MR"

    edit_all(series, make_mr)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume + 1024)


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        *(("HU", ""), ("[HU]", ""), ("US", ""), ("", "")),
        *(("HU_MOD", "not_hu"), ("Z_EFF", "not_hu"), ("MGML", "not_hu")),
    ],
)
def test_maps_that_are_called_ct_are_not_read_as_hu(series: Path, unit: str, code: str) -> None:
    edit_all(series, lambda dataset: setattr(dataset, "RescaleType", unit))
    (row,) = scan_tree(series)
    assert row.code == code
