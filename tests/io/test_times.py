"""Moments are put in order with their days, and past midnight without them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medvid.io import open_stack
from medvid.io.dicom_times import DAY_S, NIGHT_S, join_time, read_moments, split_datetime
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series


def spell(second: int) -> str:
    return f"{second // 3600 % 24:02d}{second // 60 % 60:02d}{second % 60:02d}"


@given(
    start=st.integers(0, int(DAY_S) - 1),
    after=st.lists(st.integers(0, int(NIGHT_S)), min_size=1, max_size=9),
    day=st.sampled_from(["", "20200101", "2020.01.01"]),
)
def test_half_a_day_is_in_order_whenever_it_begins(start: int, after: list[int], day: str) -> None:
    """Without days, and with the one that was put in place of all of them."""
    moments = read_moments([join_time(day, spell(start + second)) for second in after])
    assert moments is not None
    assert np.diff(moments).tolist() == np.diff(after).tolist()


@given(st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)), min_size=2, max_size=9))
def test_days_count_before_times(when: list[datetime]) -> None:
    assume(len({one.date() for one in when}) > 1)
    joined = [join_time(f"{one:%Y%m%d}", f"{one:%H%M%S.%f}") for one in when]
    assert [split_datetime(f"{one:%Y%m%d%H%M%S.%f}+0100") for one in when] == [
        f"{one}+0100" for one in joined
    ]
    moments = read_moments(joined)
    assert moments is not None
    expected = [(one - when[0]).total_seconds() for one in when]
    assert [one - moments[0] for one in moments] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "moments",
    [
        ["100000", ""],
        [" 10", " "],
        [" 100000", "20200101 100001", "20200102 100001"],
        [" 000000", " 080000", " 160000"],
        [" noon", " 100000"],
        [],
    ],
)
def test_moments_that_cannot_be_compared_have_no_order(moments: list[str]) -> None:
    assert read_moments(moments) is None


def write_phases(folder: Path, phases: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Writes phases at the same places; each slice has a day and a time."""
    for phase, stated in enumerate(phases):
        volume = np.full((len(stated), 4, 4), 100 * phase, np.int16)
        place = folder / f"{phase}"
        write_dicom_series(
            place, volume, spacing=(5.0, 1.0, 1.0), modality="MR", series_uid="2.25.7"
        )
        for file, (day, time) in zip(sorted(place.iterdir()), stated, strict=True):
            dataset = pydicom.dcmread(file)
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{phase}"
            dataset.ContentDate, dataset.ContentTime = day, time
            dataset.save_as(folder / f"{phase}_{file.name}")
            file.unlink()
        place.rmdir()


@pytest.mark.parametrize(
    ("before", "after"),
    [("20191231", "20200101"), ("", ""), ("19000101", "19000101")],
    ids=["stated", "absent", "made up"],
)
def test_midnight_does_not_mix_two_phases(tmp_path: Path, before: str, after: str) -> None:
    first = [(before, "235958"), (before, "235959.5"), (after, "000000"), (after, "000001")]
    second = [(after, f"00003{number}") for number in range(4)]
    write_phases(tmp_path, [first, second])
    rows = scan_tree(tmp_path)
    assert [row.verdict for row in rows] == ["ok", "ok"]
    assert not any(day in str(row) for row in rows for day in (before, after) if day)
    for number, row in enumerate(rows):
        assert row.series.endswith(f":ContentTime#{number + 1}")
        assert (open_stack(row.path, series=row.series).read() == 100 * number).all()


def test_a_day_that_one_image_does_not_state_mixes_no_phases(tmp_path: Path) -> None:
    phases = [[("20200101", f"10{phase}00{number}") for number in range(4)] for phase in range(2)]
    phases[1][2] = ("", phases[1][2][1])
    write_phases(tmp_path, phases)
    assert [(row.verdict, row.frames) for row in scan_tree(tmp_path)] == [("ok", 4)] * 2


def test_a_second_visit_at_an_earlier_hour_is_the_second_phase(tmp_path: Path) -> None:
    first = [("20200101", f"10000{number}") for number in range(4)]
    second = [("20200102", f"09000{number}") for number in range(4)]
    write_phases(tmp_path, [second, first])
    rows = {row.series.rpartition("#")[2]: row for row in scan_tree(tmp_path)}
    stack = open_stack(rows["1"].path, series=rows["1"].series)
    assert (stack.read() == 100).all()
