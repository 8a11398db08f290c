"""UCF101: 13,320 videos of 101 human actions, with the official three splits.

Where from: https://www.crcv.ucf.edu/data/UCF101.php, the archives `UCF101.rar` and
`UCF101TrainTestSplits-RecognitionTask.zip`, unpacked side by side. medvid downloads nothing.

On disk: `UCF-101/<Class>/v_<Class>_gNN_cNN.avi` and
`ucfTrainTestlist/{classInd,trainlist01..03,testlist01..03}.txt` below the root. Clips of one group
gNN share scene and actor, so class and group together stand for the patient.

The published accuracy is the mean over splits 1, 2 and 3. Videos of a list that are not on disk
are left out and reported; nothing takes their place.

Command: `medvid manifest ucf101 ROOT -o manifest.csv split=1`
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np

from medvid.contract import Record, SourceError
from medvid.io.sidecars import has_ending
from medvid.io.text_files import read_text, read_whole

Split = Literal[1, 2, 3]

_VIDEOS, _LISTS = "UCF-101", "ucfTrainTestlist"
_GROUP = re.compile(r"_(g\d\d)_c\d\d$")


@dataclass(frozen=True)
class _Item:
    """A line of a split.

    Args:
        name: `<Class>/<file>.avi`, as listed.
        label: the class as classInd.txt spells it.
        split: train or test.
    """

    name: str
    label: str
    split: str

    @property
    def key(self) -> str:
        # Folder and lists say HandstandPushups, file names HandStandPushups; copies differ.
        return self.name.casefold()

    @property
    def stem(self) -> str:
        return Path(self.name).stem


def classes(root: Path) -> tuple[str, ...]:
    """Returns the classes in the order of classInd.txt."""
    return tuple(_read_classes(root))


def records(root: Path, *, split: Split = 1) -> Iterator[Record]:
    """Yields the listed videos that are on disk: the training list, then the test list.

    Args:
        root: holds `UCF-101/` and `ucfTrainTestlist/`.
        split: 1, 2 or 3.

    Raises:
        SourceError: when lists are absent or contradict classInd.txt, or no listed video is there.
    """
    present = _find_videos(root)
    items = _read_split(root, split)
    if not any(item.key in present for item in items):
        _refuse(
            root / _VIDEOS,
            f"holds none of the {len(items)} videos of split {split}; they should lie there as "
            f"{items[0].name}.",
            "no_cases",
        )
    for item in items:
        if item.key in present:
            group = _GROUP.search(item.stem)
            if group is None:
                _refuse(root / _LISTS, f"names {item.name}, without a group gNN.", "bad_list")
            yield Record(
                case_id=item.stem,
                patient_id=f"{item.label}_{group[1]}",
                path=str(present[item.key].absolute()),
                label=item.label,
                split=item.split,
            )


def missing(root: Path, *, split: Split = 1) -> list[str]:
    """Returns the videos of a split that are not on disk, as their list names them."""
    present = _find_videos(root)
    return [item.name for item in _read_split(root, split) if item.key not in present]


def unlisted(root: Path, *, split: Split = 1) -> list[str]:
    """Returns the videos on disk that no list of a split names, as `<Class>/<file>`."""
    listed = {item.key for item in _read_split(root, split)}
    present = _find_videos(root)
    return [
        path.relative_to(root / _VIDEOS).as_posix()
        for key, path in present.items()
        if key not in listed
    ]


def imitate(root: Path) -> None:
    """Writes videos of two classes, the spelling trap among them, and all lists."""
    from medvid.io.write_video import write_video

    rng = np.random.default_rng(0)
    names = ("Archery", "HandstandPushups")
    groups = ("g01", "g08", "g15")
    listed: dict[str, list[str]] = {group: [] for group in groups}
    for number, label in enumerate(names, start=1):
        folder = root / _VIDEOS / label
        folder.mkdir(parents=True, exist_ok=True)
        spelled = label.replace("HandstandP", "HandStandP")
        for group in groups:
            name = f"v_{spelled}_{group}_c01.avi"
            frames = rng.integers(0, 255, (8, 32, 40, 3)).astype(np.uint8)
            write_video(folder / name, frames)
            listed[group].append(f"{label}/{name} {number}")
    lists = root / _LISTS
    lists.mkdir(exist_ok=True)
    index = "".join(f"{number} {label}\r\n" for number, label in enumerate(names, start=1))
    (lists / "classInd.txt").write_bytes(index.encode())
    for split, tested in enumerate(groups, start=1):
        train = [line for group in groups if group != tested for line in listed[group]]
        test = [line.split()[0] for line in listed[tested]]
        (lists / f"trainlist0{split}.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
        (lists / f"testlist0{split}.txt").write_text("\n".join(test) + "\n", encoding="utf-8")


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        _refuse(
            path, "is not there. Unpack the official train/test lists beside UCF-101/.", "no_list"
        )
    lines = read_text(path).splitlines()
    return [line.strip() for line in lines if line.strip()]


def _read_classes(root: Path) -> dict[str, int]:
    """Returns class -> number, from 1, in the order of the numbers."""
    path = root / _LISTS / "classInd.txt"
    found = {}
    for line in _read_lines(path):
        text, name = (*line.split(None, 1), "")[:2]
        number = read_whole(text)
        if number is None or not name:
            _refuse(path, f"has the line `{line}`, which is not `<number> <Class>`.", "bad_list")
        found[name.strip()] = number
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _read_split(root: Path, split: Split) -> list[_Item]:
    numbers = _read_classes(root)
    spelling = {name.casefold(): name for name in numbers}
    items: dict[str, _Item] = {}
    for part in ("train", "test"):
        path = root / _LISTS / f"{part}list0{split}.txt"
        for line in _read_lines(path):
            # Training lists end their lines with the class's number; test lists have none.
            name, number = (*line.replace("\\", "/").split(None, 1), "")[:2]
            label = spelling.get(name.partition("/")[0].casefold())
            if label is None:
                _refuse(
                    path, f"names {name}, whose folder is no class of classInd.txt.", "bad_list"
                )
            if number and read_whole(number) is None:
                _refuse(
                    path,
                    f"has `{number}` where the number of its class belongs, after {name}.",
                    "bad_list",
                )
            if number and read_whole(number) != numbers[label]:
                _refuse(
                    path,
                    f"gives {name} the class {number}, but classInd.txt numbers {label} as "
                    f"{numbers[label]}.",
                    "bad_list",
                )
            item = _Item(name, label, part)
            if item.key in items:
                _refuse(path, f"names {name} a second time in split {split}.", "bad_list")
            items[item.key] = item
    return list(items.values())


def _find_videos(root: Path) -> dict[str, Path]:
    """Returns the lower-case `<class>/<file>` -> path, sorted; of copies the first."""
    folder = root / _VIDEOS
    if not folder.is_dir():
        _refuse(
            folder, "is not there. The root must hold UCF-101/ and ucfTrainTestlist/.", "no_folder"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*/*")):
        if has_ending(path.name, ".avi"):
            found.setdefault(path.relative_to(folder).as_posix().casefold(), path)
    return found


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
