"""HMDB51: 6,766 clips of 51 human actions from films and the web, with the official three splits.

Where from: the page of the Serre lab at Brown University (HMDB), the archives `hmdb51_org.rar` and
`test_train_splits.rar`; the first one holds an archive a class. Licence: CC BY 4.0. medvid
downloads nothing.

On disk: `<class>/*.avi`, right below the root or in its folder `hmdb51_org/`, and
`testTrainMulti_7030_splits/<class>_test_split{1,2,3}.txt`. A line names a clip and says 1 (train),
2 (test) or 0 (neither: left out, so that a class has 70 and 30 clips).

Clips of one film share scene and actors, so class and film together stand for the patient. The
lists keep a film's clips of a class on one side; where a copy of them does not, `patient=clip`
takes the split as it is.

The published accuracy is the mean over splits 1, 2 and 3. Clips of a list that are not on disk are
left out and reported; nothing takes their place.

Command: `medvid manifest hmdb51 ROOT -o manifest.csv split=1`
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from medvid.contract import Record, SourceError
from medvid.io.sidecars import has_ending
from medvid.io.text_files import read_text

Split = Literal[1, 2, 3]

_LISTS = "testTrainMulti_7030_splits"
_VIDEO_FOLDERS = (".", "hmdb51_org")
_SIDES = {"1": "train", "2": "test", "0": None}
_TAGS = re.compile(r"_[a-z]+_(cm|nm)_np\d+_(ba|fr|le|ri)_(bad|med|goo)_\d+$", re.IGNORECASE)
"""Ends of clip names: visible body part, camera motion, people, view, quality, number."""


@dataclass(frozen=True)
class _Item:
    """A line of a split: the clip's class and name, and its side, None when left out."""

    label: str
    name: str
    side: str | None

    @property
    def key(self) -> tuple[str, str]:
        return self.label, self.name.casefold()


def classes(root: Path) -> tuple[str, ...]:
    """Returns the classes that have a list of split 1, in the order of the alphabet."""
    return tuple(_list_classes(root, 1))


def records(
    root: Path, *, split: Split = 1, patient: Literal["film", "clip"] = "film"
) -> Iterator[Record]:
    """Yields the clips of a split that are on disk, class by class.

    Args:
        root: holds the class folders (or `hmdb51_org/`) and `testTrainMulti_7030_splits/`.
        split: 1, 2 or 3.
        patient: what stands for the patient: the film that a clip was cut from, or the clip.

    Raises:
        SourceError: when lists or videos are absent, or a line cannot be meant.
    """
    items = _read_split(root, split)
    present = _find_videos(root, items)
    if not present:
        _refuse(
            root,
            f"holds none of the {len(items)} clips of split {split}; the first should lie at "
            f"{items[0].label}/{items[0].name}, there or in hmdb51_org/.",
            "no_cases",
        )
    for item in items:
        if item.side is not None and item.key in present:
            stem = Path(item.name).stem
            film = _TAGS.sub("", stem).removesuffix(f"_{item.label}")
            yield Record(
                case_id=f"{item.label}/{stem}",
                patient_id=f"{item.label}/{film if patient == 'film' else stem}",
                path=str(present[item.key].absolute()),
                label=item.label,
                split=item.side,
            )


def missing(
    root: Path, *, split: Split = 1, patient: Literal["film", "clip"] = "film"
) -> list[str]:
    """Returns the training and test clips of a split that are not on disk."""
    items = _read_split(root, split)
    present = _find_videos(root, items)
    return [
        f"{item.label}/{item.name}"
        for item in items
        if item.side is not None and item.key not in present
    ]


def imitate(root: Path) -> None:
    """Writes four clips of two classes, one of them unused in each split, and all lists."""
    from medvid.io.write_video import write_video

    rng = np.random.default_rng(0)
    lists = root / _LISTS
    lists.mkdir(parents=True, exist_ok=True)
    for label in ("brush_hair", "wave"):
        folder = root / "hmdb51_org" / label
        folder.mkdir(parents=True, exist_ok=True)
        names = [
            f"{film}_{label}_u_nm_np1_ba_goo_{number}.avi"
            for film, number in (("April_09", 0), ("April_09", 1), ("#20_Sarah", 0), ("Trip", 2))
        ]
        for name in names:
            frames = rng.integers(0, 255, (8, 32, 40, 3)).astype(np.uint8)
            write_video(folder / name, frames)
        for split, sides in ((1, "1120"), (2, "2201"), (3, "1102")):
            # The authors' lines end in a blank.
            lines = [f"{name} {side} \n" for name, side in zip(names, sides, strict=True)]
            path = lists / f"{label}_test_split{split}.txt"
            path.write_text("".join(lines), encoding="utf-8")


def _list_classes(root: Path, split: Split) -> dict[str, Path]:
    """Returns class -> its list."""
    folder = root / _LISTS
    if not folder.is_dir():
        _refuse(folder, "is not there. Unpack test_train_splits.rar below the root.", "no_list")
    ending = f"_test_split{split}.txt"
    found = {
        path.name[: -len(ending)]: path
        for path in sorted(folder.iterdir())
        if has_ending(path.name, ending)
    }
    if not found:
        _refuse(folder, f"holds no list <class>{ending}.", "no_list")
    return dict(sorted(found.items()))


def _read_split(root: Path, split: Split) -> list[_Item]:
    items: dict[tuple[str, str], _Item] = {}
    for label, path in _list_classes(root, split).items():
        for line in read_text(path).splitlines():
            if not line.strip():
                continue
            # Names hold no blanks, but may hold nearly anything else.
            name, side = ("", *line.rsplit(None, 1))[-2:]
            if side not in _SIDES or not name:
                _refuse(
                    path, f"has the line `{line}`, which is not `<clip> 0`, 1 or 2.", "bad_list"
                )
            item = _Item(label, name.strip(), _SIDES[side])
            if item.key in items:
                _refuse(path, f"names {name} twice.", "bad_list")
            items[item.key] = item
    if not items:
        _refuse(root / _LISTS, f"names no clip in split {split}.", "bad_list")
    return list(items.values())


def _find_videos(root: Path, items: list[_Item]) -> dict[tuple[str, str], Path]:
    """Returns (class, lower-case name) -> path of the listed clips on disk; of copies the first."""
    listed = {item.key for item in items}
    labels = {item.label.casefold(): item.label for item in items}
    found: dict[tuple[str, str], Path] = {}
    for place in _VIDEO_FOLDERS:
        for folder in sorted((root / place).glob("*/")):
            label = labels.get(folder.name.casefold())
            for path in sorted(folder.iterdir()) if label else ():
                key = (str(label), path.name.casefold())
                if key in listed and has_ending(path.name, ".avi"):
                    found.setdefault(key, path)
    return found


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
