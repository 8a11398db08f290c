"""Sports-1M: 1,133,158 YouTube videos with one or more of 487 kinds of sport.

Where from: the authors' repository `sports-1m-dataset` has the lists, under CC BY 3.0; the videos
belong to their makers. medvid downloads nothing.

On disk: `labels.txt` (one sport a line, counted from 0) and `original/train_partition.txt` and
`original/test_partition.txt` (unpacked: gzip -d), where a line is `URL 168,169`. The partitions may
also lie right below the root. Videos are called after the identifier at the end of the URL
(`UDqivjS-lpI.mp4`) and lie in any folders below the root; the lists say nothing of that, and this
is what download scripts write.

A video may show several sports, so this is a multi-label task: every sport of labels.txt is 0 or 1.
A line that stands there twice counts once; a video with two sets of sports is refused. With few
videos on disk some sports are in none of them; name those to be learnt in `data.classes`.
Videos that are listed but not on disk are left out and reported; nothing takes their place.

Command: `medvid manifest sports1m ROOT -o manifest.csv`
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from medvid.contract import Record, SourceError
from medvid.io.endings import VIDEOS
from medvid.io.sidecars import is_of_macos
from medvid.io.text_files import read_text, read_whole

_PARTITIONS = {"train": "train_partition.txt", "test": "test_partition.txt"}
_IDENTIFIER = re.compile(r"(?:[?&]v=|/)([A-Za-z0-9_-]{11})(?:[&#].*)?$")


@dataclass(frozen=True, slots=True)
class _Item:
    """A line of a partition: the video, the numbers of its sports, and its side."""

    video: str
    sports: tuple[int, ...]
    split: str


def classes(root: Path) -> tuple[str, ...]:
    """Returns the sports in the order of labels.txt."""
    path = root / "labels.txt"
    names = [line for line in _read_lines(path) if line]
    if len(set(names)) != len(names) or not names:
        _refuse(path, "names no sport, or one of them twice.", "bad_list")
    return tuple(names)


def records(root: Path) -> Iterator[Record]:
    """Yields the listed videos that are on disk: the training partition, then the test partition.

    Args:
        root: holds labels.txt, the partitions and the videos.

    Raises:
        SourceError: when a list is absent, a line cannot be meant, or no listed video is on disk.
    """
    names = classes(root)
    present = _find_videos(root)
    # Few of the possible sets of sports occur, so a million records share some thousand labels.
    labels: dict[tuple[int, ...], Mapping[str, int]] = {}
    first = None
    found = 0
    for item in _read_partitions(root, len(names)):
        first = first or item
        if item.video not in present:
            continue
        found += 1
        if item.sports not in labels:
            labels[item.sports] = {
                name: int(number in item.sports) for number, name in enumerate(names)
            }
        yield Record(
            case_id=item.video,
            patient_id=item.video,
            path=str(present[item.video].absolute()),
            label=labels[item.sports],
            split=item.split,
        )
    if not found:
        called = f"; the first is called {first.video}.mp4" if first else ""
        _refuse(root, f"holds none of the listed videos, in no folder{called}.", "no_cases")


def missing(root: Path) -> list[str]:
    """Returns the identifiers of listed videos that are not on disk."""
    present = _find_videos(root)
    items = _read_partitions(root, len(classes(root)))
    return [item.video for item in items if item.video not in present]


def imitate(root: Path) -> None:
    """Writes six videos of three sports, and partitions of seven."""
    from medvid.io.write_video import write_video

    rng = np.random.default_rng(0)
    (root / "original").mkdir(parents=True, exist_ok=True)
    (root / "labels.txt").write_text("boomerang\nmodel aircraft\npétanque\n", encoding="utf-8")
    sides = {"train": ("0", "1", "0,2", "1,2"), "test": ("0", "1,2", "2")}
    number = 0
    for split, sports in sides.items():
        lines = []
        for listed in sports:
            video = f"UDqivjS-l{number:02d}"
            lines.append(f"https://www.youtube.com/watch?v={video} {listed}\n")
            number += 1
            if number < 7:
                frames = rng.integers(0, 255, (8, 32, 40, 3)).astype(np.uint8)
                folder = root / "videos" / split
                folder.mkdir(parents=True, exist_ok=True)
                write_video(folder / f"{video}.mp4", frames)
        (root / "original" / _PARTITIONS[split]).write_text("".join(lines), encoding="utf-8")


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        _refuse(path, "is not there. Put the authors' lists there, unpacked.", "no_list")
    return [line.strip() for line in read_text(path).splitlines()]


def _read_partitions(root: Path, sports: int) -> Iterator[_Item]:
    found: dict[str, tuple[int, _Item]] = {}
    for split, name in _PARTITIONS.items():
        path = root / name if (root / name).is_file() else root / "original" / name
        for number, line in enumerate(_read_lines(path), start=1):
            if not line:
                continue
            url, _, listed = line.partition(" ")
            video = _IDENTIFIER.search(url)
            parts = [read_whole(part) for part in listed.replace(" ", "").split(",")]
            known = [part for part in parts if part is not None and part < sports]
            if video is None or len(known) < len(parts):
                _refuse(
                    path,
                    f"line {number}: `{line}` is not a URL that ends in a video's identifier, a "
                    f"blank, and numbers from 0 to {sports - 1}, the lines of labels.txt.",
                    "bad_list",
                )
            item = _Item(video[1], tuple(sorted(set(known))), split)
            first, other = found.setdefault(item.video, (number, item))
            if other is item:
                yield item
            elif other != item:  # a line that stands there twice does no harm
                same = other.split == split
                where = f"in line {first} with other sports" if same else "in the other partition"
                _refuse(
                    path,
                    f"line {number}: names {item.video}, which is {where} too. Remove one of the "
                    "two lines.",
                    "bad_list",
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
