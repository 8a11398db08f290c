"""Stacks whose slices lie between each other's are told apart; one stack never is."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.io import open_stack
from medvid.io.dicom_slice import MARKS
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series

Tags = dict[str, Any]

STEP_MM = 12.0
SLICES = 4


def write_stacks(folder: Path, stacks: int, tags: Callable[[int, int], Tags]) -> None:
    """Writes stacks of touching slices, which lie evenly between each other under one UID.

    `tags` takes the number of the stack and of its slice. Pixels of a stack are its hundreds.
    """
    for stack in range(stacks):
        volume = np.full((SLICES, 4, 4), 100 * stack, np.int16)
        volume += np.arange(SLICES, dtype=np.int16)[:, None, None]
        place = folder / f"{stack}"
        write_dicom_series(
            place, volume, spacing=(STEP_MM, 1.0, 1.0), modality="MR", series_uid="2.25.7"
        )
        for number, file in enumerate(sorted(place.iterdir())):
            dataset = pydicom.dcmread(file)
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z + STEP_MM * stack / stacks]
            dataset.SliceThickness = STEP_MM
            dataset.SOPInstanceUID = f"2.25.7.{stack}.{number}"
            for name, value in tags(stack, number).items():
                setattr(dataset, name, value)
            dataset.save_as(folder / f"{stack}_{file.name}")
            file.unlink()
        place.rmdir()


def read_hundreds(folder: Path) -> list[list[int]]:
    """Returns the hundreds of each stack that is found, in a fixed order."""
    rows = scan_tree(folder)
    assert [row.verdict for row in rows] == ["ok"] * len(rows), rows
    stacks = [open_stack(row.path, series=row.series) for row in rows]
    return sorted((stack.read()[0, :, 0, 0] // 100).tolist() for stack in stacks)


def apart(stacks: int) -> list[list[int]]:
    return [[stack] * SLICES for stack in range(stacks)]


def together(stacks: int) -> list[list[int]]:
    return [list(range(stacks)) * SLICES]


DIFFERING: dict[str, Sequence[Any]] = {
    "AcquisitionDateTime": ["20200101100000", "20200101101000", "20200101102000"],
    "AcquisitionNumber": [1, 2, 3],
    "CardiacNumberOfImages": [1, 2, 3],
    "ContrastBolusAgent": ["", "IOMERON MUELLER", "OTHER"],
    "KVP": [80, 120, 140],
    "PatientPosition": ["HFS", "HFP", "FFS"],
    "ProtocolName": ["MUELLER", "B", "C"],
    "ScanOptions": ["HELICAL", "AXIAL", "CINE"],
    "SeriesDescription": ["MUELLER NATIVE", "MUELLER ARTERIAL", "MUELLER VENOUS"],
    "SeriesNumber": [1, 2, 10],
    "SeriesTime": ["100000", "101000", "102000"],
}


@pytest.mark.parametrize("stacks", [2, 3])
@pytest.mark.parametrize("tag", DIFFERING)
def test_overlapping_stacks_are_parted_by_whatever_they_differ_in(
    tmp_path: Path, tag: str, stacks: int
) -> None:
    write_stacks(tmp_path, stacks, lambda stack, _: {tag: DIFFERING[tag][stack]})
    assert read_hundreds(tmp_path) == apart(stacks)
    rows = scan_tree(tmp_path)
    assert all(f":{tag}" in row.series for row in rows)
    assert not any(word in str(row) for row in rows for word in ("MUELLER", "2020"))


NEVER_IN_ONE = ("ContrastBolusAgent", "KVP", "PatientPosition", "ProtocolName", "SeriesDescription")


@pytest.mark.parametrize("tag", [*NEVER_IN_ONE, "SeriesNumber", "AcquisitionNumber"])
def test_thin_slices_are_parted_by_what_the_order_of_acquisition_never_changes(
    tmp_path: Path, tag: str
) -> None:
    """Prone and supine, with and without contrast; but even slices may be acquired before odd."""
    write_stacks(tmp_path, 2, lambda stack, _: {"SliceThickness": 1, tag: DIFFERING[tag][stack]})
    parted = tag != "AcquisitionNumber"
    assert read_hundreds(tmp_path) == (apart(2) if parted else together(2))


def test_parts_are_numbered_by_what_they_differ_in(tmp_path: Path) -> None:
    write_stacks(tmp_path, 2, lambda stack, _: {"SeriesNumber": 10 - 8 * stack})
    (row,) = (row for row in scan_tree(tmp_path) if row.series.endswith("SeriesNumber#1"))
    assert (open_stack(row.path, series=row.series).read() >= 100).all()


def test_every_mark_is_a_tag_that_files_state() -> None:
    assert len(set(MARKS)) == len(MARKS) > 20
    assert set(DIFFERING) & set(MARKS)
    assert all(pydicom.datadict.tag_for_keyword(keyword) for keyword in MARKS)


@pytest.mark.parametrize("stacks", [2, 3, 4])
def test_overlapping_stacks_are_parted_by_their_times(tmp_path: Path, stacks: int) -> None:
    write_stacks(
        tmp_path, stacks, lambda stack, number: {"ContentTime": f"10{5 * stack:02d}0{number}"}
    )
    assert read_hundreds(tmp_path) == apart(stacks)


def test_four_stacks_are_parted_by_two_tags(tmp_path: Path) -> None:
    write_stacks(
        tmp_path, 4, lambda stack, _: {"KVP": 80 + stack % 2, "SeriesNumber": 1 + stack // 2}
    )
    assert read_hundreds(tmp_path) == apart(4)


def test_a_gap_is_no_reason_to_mix_overlapping_stacks(tmp_path: Path) -> None:
    write_stacks(tmp_path, 2, lambda stack, _: {"SeriesNumber": stack})
    sorted(tmp_path.glob("0_*"))[1].unlink()
    assert sorted((row.frames, row.code, row.fix) for row in scan_tree(tmp_path)) == [
        (SLICES - 1, "missing_slices", "on_gap=resample"),
        (SLICES, "", ""),
    ]


@pytest.mark.parametrize("packs", [2, 3, 4])
@pytest.mark.parametrize(
    "tags",
    [
        lambda pack, number: {"AcquisitionTime": f"10{5 * pack:02d}0{number}"},
        lambda pack, number: {"AcquisitionTime": f"10{5 * pack:02d}00"},
        lambda pack, number: {"AcquisitionNumber": pack, "TriggerTime": 100 + pack},
    ],
    ids=["times", "a time", "numbers"],
)
def test_overlapping_slices_that_state_their_step_and_were_acquired_in_packs_stay_one_stack(
    tmp_path: Path, tags: Callable[[int, int], Tags], packs: int
) -> None:
    """As in fetal scans, where every second or third slice is acquired at a time."""
    for step, wanted in ((STEP_MM / packs, together(packs)), (STEP_MM, apart(packs))):

        def state(pack: int, number: int, step: float = step) -> Tags:
            return tags(pack, number) | {"SpacingBetweenSlices": step}

        write_stacks(tmp_path / f"{step}", packs, state)
        assert read_hundreds(tmp_path / f"{step}") == wanted


@pytest.mark.parametrize("tag", ["KVP", "SeriesNumber", "StackID"])
def test_the_two_ends_of_a_stack_are_no_stack_of_their_own(tmp_path: Path, tag: str) -> None:
    write_stacks(tmp_path, 1, lambda _, number: {tag: "100" if number in (0, 3) else "120"})
    assert read_hundreds(tmp_path) == [[0] * SLICES]
    (row,) = scan_tree(tmp_path)
    assert tag in row.reason


def test_copies_of_overlapping_slices_change_nothing(tmp_path: Path) -> None:
    write_stacks(tmp_path, 2, lambda stack, _: {"SeriesNumber": stack})
    for file in sorted(tmp_path.iterdir()):
        (tmp_path / f"copy_{file.name}").write_bytes(file.read_bytes())
    assert read_hundreds(tmp_path) == apart(2)


@pytest.mark.parametrize(
    "tags",
    [
        lambda place: {},
        lambda place: {"KVP": 120, "SeriesNumber": 3, "ContrastBolusAgent": "IOMERON"},
        lambda place: {"ContentTime": f"1000{place:02d}", "AcquisitionTime": f"1000{place:02d}"},
        lambda place: {"AcquisitionNumber": place, "ImageComments": f"{place}"},
        lambda place: {"AcquisitionNumber": place // 2, "SeriesDescription": f"MUELLER {place}"},
        lambda place: {"KVP": 120 if place < 6 else 100, "ScanOptions": "A" if place else "B"},
        lambda place: {"RepetitionTime": 800 + place, "ContrastBolusVolume": place // 6},
    ],
    ids=["nothing", "same", "times", "numbers", "runs", "halves", "own"],
)
def test_an_overlapping_reconstruction_stays_one_stack(
    tmp_path: Path, tags: Callable[[int], Tags]
) -> None:
    """Twelve slices, three times thicker than their step."""
    write_stacks(tmp_path, 3, lambda stack, number: tags(3 * number + stack))
    assert read_hundreds(tmp_path) == together(3)
    assert "MUELLER" not in str(scan_tree(tmp_path))
    (tmp_path / "1_IM_0002.dcm").unlink()
    (row,) = scan_tree(tmp_path)
    assert (row.code, row.frames) == ("missing_slices", 11)


@settings(deadline=None, max_examples=8)
@given(
    stacks=st.integers(2, 4),
    tag=st.sampled_from(MARKS),
    start=st.integers(0, 86_399),
    backwards=st.booleans(),
)
def test_stacks_are_parted_by_any_mark_and_at_any_time_of_the_day(
    stacks: int, tag: str, start: int, backwards: bool
) -> None:
    """Times without days: what runs past midnight is parted as at noon."""

    def state(stack: int, number: int) -> Tags:
        second = start + 600 * (stacks - stack if backwards else stack) + number
        return {"AcquisitionTime": f"{spell(second)}"}

    with tempfile.TemporaryDirectory() as folder:
        write_stacks(Path(folder) / "times", stacks, state)
        assert read_hundreds(Path(folder) / "times") == apart(stacks)
        if pydicom.datadict.dictionary_VR(tag) not in ("DA", "TM"):
            write_stacks(Path(folder) / "mark", stacks, lambda stack, _: {tag: f"{1 + stack}"})
            assert read_hundreds(Path(folder) / "mark") == apart(stacks)


def spell(second: int) -> str:
    minute, hour = second // 60 % 60, second // 3600 % 24
    return f"{hour:02d}{minute:02d}{second % 60:02d}"
