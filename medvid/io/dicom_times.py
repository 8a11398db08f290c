"""When images were made: what tells phases apart where nothing else does.

A scan may run past midnight, so the day is compared with the time. It is a patient's visit and
stays inside the reader.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise

DATES: Mapping[str, str] = {
    "ContentTime": "ContentDate",
    "AcquisitionTime": "AcquisitionDate",
}
"""Where the day of a time stands; of other times it stands before them."""

DAY_S = 86_400.0
NIGHT_S = DAY_S / 2
"""Of a day without any image; what is left is shorter than the way round, and has one beginning."""

DATE_DIGITS = 8

_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2}(?:\.\d+)?)?")
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")


def join_time(day: str, time: str) -> str:
    """Returns a moment as `read_moments` takes it, "" without a time."""
    return f"{day} {time}" if time else ""


def split_datetime(text: str) -> str:
    """Returns the moment that a DICOM date with time states, "" without a time."""
    return join_time(text[:DATE_DIGITS], text[DATE_DIGITS:])


def read_moments(moments: Sequence[str]) -> list[float] | None:
    """Puts moments on one axis of time, whether or not they state their days.

    Without days, or with one day for all (which may be a made-up one), the longest pause of the
    clock is taken for the one before the first image, so that 23:59 comes before 00:01.

    Args:
        moments: from `join_time`, in any order.

    Returns:
        Seconds from any beginning, in the order of the moments; None where one of them is missing
        or is no time, or where nothing says which came first.
    """
    read = [_read_moment(moment) for moment in moments]
    known = [one for one in read if one is not None]
    days = {day for day, _ in known} - {None}
    undated = any(day is None for day, _ in known)
    if not known or len(known) < len(read) or (undated and len(days) > 1):
        return None
    if len(days) > 1:
        return [(day or 0) * DAY_S + second for day, second in known]
    seconds = [second for _, second in known]
    pause, start = _find_longest_pause(seconds)
    if pause < NIGHT_S:
        return None if undated and not days else seconds
    return [(second - start) % DAY_S for second in seconds]


def _read_moment(moment: str) -> tuple[int | None, float] | None:
    """Returns the number of the day, None where it is not stated, and the second of the day."""
    day, _, time = moment.partition(" ")
    digits = _TIME.match(time)
    if digits is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in digits.groups())
    return _read_day(day), (hours * 60 + minutes) * 60 + seconds


def _read_day(text: str) -> int | None:
    digits = _DATE.fullmatch(text)
    try:
        return date(*map(int, digits.groups())).toordinal() if digits else None
    except ValueError:
        return None


def _find_longest_pause(seconds: Sequence[float]) -> tuple[float, float]:
    """Returns how long the clock runs without a moment, and the moment at which that ends."""
    ordered = sorted(set(seconds))
    before = [ordered[-1] - DAY_S, *ordered]
    return max((end - start, end) for start, end in pairwise(before))
