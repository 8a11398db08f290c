"""Kinetics 400, 600 or 700: ten-second clips of human actions from YouTube.

Where from: the authors' annotation files and the mirrors of the CVD foundation name the clips; the
annotations are under CC BY 4.0, the videos belong to their makers. medvid downloads nothing.

On disk: CSV files with the columns `label, youtube_id, time_start, time_end, split` (more columns
do no harm; a test list without `label` gives unlabelled cases), right below the root or in its
folder `annotations/`. Clips are called `<youtube_id>_<start>_<end>.mp4`, both times in whole
seconds with six digits, and lie in any folders below the root, such as `train/<class>/`.

Splits are those of the column: `train`, `val` (or `validate`) and `test`. The YouTube video stands
for the patient; Kinetics 700 has videos with clips in two splits, and `patient=clip` takes the
split as it is there. Clips that are listed but not on disk, as always some are, are left out and
reported; nothing takes their place. The layout of the files is that of the usual download scripts.

Command: `medvid manifest kinetics ROOT -o manifest.csv`
"""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from medvid.contract import Record, SourceError
from medvid.io.endings import VIDEOS
from medvid.io.ordering import natural_key
from medvid.io.sheet import Row, Sheet, is_missing, read_sheet
from medvid.io.sidecars import has_ending, is_of_macos
from medvid.io.text_files import read_decimal

_COLUMNS = {"youtube_id", "time_start", "time_end", "split"}
_SPLITS = {
    "train": "train",
    "val": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
}
_PLACES = (".", "annotations")


@dataclass(frozen=True)
class _Clip:
    """A row of a list: the file's name without its ending, and what is known of it."""

    stem: str
    video: str
    label: str | None
    split: str


def classes(root: Path) -> tuple[str, ...]:
    """Returns the labels of all lists, in natural order."""
    labels = {clip.label for clip in _read_lists(root)} - {None}
    return tuple(sorted((str(label) for label in labels), key=natural_key))


def records(root: Path, *, patient: Literal["video", "clip"] = "video") -> Iterator[Record]:
    """Yields the listed clips that are on disk, list by list.

    Args:
        root: holds the CSV files (or `annotations/` with them) and the clips.
        patient: what stands for the patient: the YouTube video, or the clip.

    Raises:
        SourceError: when there is no list, a row cannot be meant, or no listed clip is on disk.
    """
    clips = _read_lists(root)
    present = _find_videos(root)
    if not any(clip.stem in present for clip in clips):
        _refuse(
            root,
            f"holds none of the {len(clips)} listed clips, in no folder; the first is called "
            f"{clips[0].stem}.mp4.",
            "no_cases",
        )
    for clip in clips:
        if clip.stem in present:
            yield Record(
                case_id=clip.stem,
                patient_id=clip.video if patient == "video" else clip.stem,
                path=str(present[clip.stem].absolute()),
                label=clip.label,
                split=clip.split,
            )


def missing(root: Path, *, patient: Literal["video", "clip"] = "video") -> list[str]:
    """Returns the listed clips that are not on disk."""
    present = _find_videos(root)
    return [f"{clip.stem}.mp4" for clip in _read_lists(root) if clip.stem not in present]


def imitate(root: Path) -> None:
    """Writes lists of eight clips of two classes, and all clips but the last one."""
    from medvid.io.write_video import write_video

    rng = np.random.default_rng(0)
    lists = root / "annotations"
    lists.mkdir(parents=True, exist_ok=True)
    number = 0
    for split, spelled in (("train", "train"), ("val", "validate")):
        with (lists / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split", "is_cc"])
            for label in ("air drumming", "abseiling") * 2:
                # Identifiers may begin with a dash or a zero.
                video, start = f"-0Ab_cD3{number:03d}", 59 + number
                writer.writerow([label, video, start, start + 10, spelled, 0])
                number += 1
                folder = root / split / label.replace(" ", "_")
                folder.mkdir(parents=True, exist_ok=True)
                if number < 8:
                    frames = rng.integers(0, 255, (8, 32, 40, 3)).astype(np.uint8)
                    write_video(folder / f"{video}_{start:06d}_{start + 10:06d}.mp4", frames)


def _read_lists(root: Path) -> list[_Clip]:
    paths = [
        path
        for place in _PLACES
        for path in sorted((root / place).glob("*"))
        if has_ending(path.name, ".csv")
    ]
    sheets = [read_sheet(path, is_free=lambda name: name not in _COLUMNS) for path in paths]
    lists = [sheet for sheet in sheets if set(sheet.columns) >= _COLUMNS]
    if not lists:
        _refuse(
            root,
            f"holds no CSV with the columns {', '.join(sorted(_COLUMNS))}, nor does its folder "
            "annotations/. Put the annotation files there.",
            "no_list",
        )
    clips: dict[str, _Clip] = {}
    for sheet in lists:
        for row in sheet:
            clip = _read_row(sheet, row)
            if clips.setdefault(clip.stem, clip) != clip:
                _refuse(
                    sheet.path,
                    f"line {row.line}: the clip {clip.stem} has another label or split in an "
                    "earlier line. Remove one.",
                    "double_case",
                )
    if not clips:
        _refuse(lists[0].path, "names no clip.", "bad_list")
    return list(clips.values())


def _read_row(sheet: Sheet, row: Row) -> _Clip:
    start, end = (read_decimal(row.get(column)) for column in ("time_start", "time_end"))
    if start is None or end is None:
        _refuse(
            sheet.path,
            f"line {row.line}: `{row.get('time_start')}` to `{row.get('time_end')}` are no times "
            "in seconds.",
            "no_number",
        )
    split = _SPLITS.get(row.get("split").lower())
    if split is None:
        _refuse(
            sheet.path,
            f"line {row.line}: `{row.get('split')}` is no split; there are {', '.join(_SPLITS)}.",
            "unknown_split",
        )
    if is_missing(row.get("label")):
        _refuse(
            sheet.path,
            f"line {row.line}: the label is `{row.get('label')}`, which would be a class. Leave "
            "the cell empty where nothing is known.",
            "no_label",
        )
    video = row.get("youtube_id")
    return _Clip(
        f"{video}_{round(start):06d}_{round(end):06d}", video, row.get("label") or None, split
    )


def _find_videos(root: Path) -> dict[str, Path]:
    """Returns stem -> path of every video below the root; of copies the first by name."""
    found: dict[str, Path] = {}
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() in VIDEOS and not is_of_macos(name):
                found.setdefault(path.stem, path)
    return found


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
