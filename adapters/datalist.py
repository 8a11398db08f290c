"""A MONAI data list: the JSON file of the Medical Segmentation Decathlon, for classification.

Where from: written for MONAI's `load_decathlon_datalist`, Auto3DSeg and many challenge codes.

On disk: a JSON file with lists `training`, `validation` and `test` of entries such as
`{"image": "a.nii.gz", "label": 1, "fold": 0}`; paths are relative to the JSON file. A label is a
number or a word, or a list of 0 and 1 for several findings, as long in every entry; names for
numbers are read from a mapping `"labels": {"0": "benign", "1": "malignant"}`, which then has all of
them. Labels that are segmentation files are refused. `split` is taken from the list's name where
more than the training list has labels. What is null is taken as absent.

Entries may say `case_id` and `patient_id`. Otherwise the file's name stands for both: **where a
patient has several files, name the patient**, or they leak from training into test. All other
single values of an entry are kept, for subgroups.

Command: `medvid manifest datalist dataset.json -o manifest.csv`
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from medvid.contract import Label, Record, SourceError
from medvid.io.ordering import natural_key
from medvid.io.sheet import is_missing

_SPLITS = {
    "training": "train",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_OWN = {"image", "label", "fold", "case_id", "patient_id"}
_IMAGE_FILE = re.compile(r"\.(nii|nii\.gz|nrrd|mha|mhd|seg|npy|npz|png|dcm)$", re.IGNORECASE)
_ENDING = re.compile(r"(\.nii)?\.[A-Za-z0-9]+$")
# A sentence with more file names than this is not read.
_NAMED = 5

Entry = dict[str, Any]
Listed = tuple[str, str, Entry]
"""Where an entry stands, such as `training[0]`; its side; what it says."""


def classes(root: Path) -> tuple[str, ...]:
    """Returns the names of the labels, or of the findings, in natural order."""
    path, names, entries = _read_entries(root)
    found: set[str] = set()
    for where, _, entry in entries:
        label = _read_label(path, where, entry, names)
        found |= {label} if isinstance(label, str) else set(label or ())
    return tuple(sorted(found, key=natural_key))


def records(root: Path) -> Iterator[Record]:
    """Yields the entries list by list, in the file's order.

    Args:
        root: the JSON file, or a folder that holds it as `dataset.json`.

    Raises:
        SourceError: for another kind of file, a label that names no class, an identifier that is no
            text or number, or absent images.
    """
    path, names, entries = _read_entries(root)
    _check_images(path, entries)
    labelled = {split for _, split, entry in entries if entry.get("label") not in (None, "")}
    split_known = len(labelled) > 1  # the decathlon's test lists have no labels
    taken: dict[str, str] = {}
    for where, split, entry in entries:
        stem = _ENDING.sub("", Path(entry["image"]).name)
        case_id = _read_name(path, where, entry, "case_id") or stem
        if case_id in taken:
            _refuse(
                path,
                f"{taken[case_id]} and {where} would both be the case `{case_id}`. Give them a "
                "`case_id` each, and the `patient_id` where it is one patient.",
                "double_case",
            )
        taken[case_id] = where
        yield Record(
            case_id=case_id,
            patient_id=_read_name(path, where, entry, "patient_id") or stem,
            path=str(path.absolute().parent / entry["image"]),
            label=_read_label(path, where, entry, names),
            split=split if split_known else None,
            fold=_read_fold(path, where, entry),
            extra={
                key: str(value)
                for key, value in entry.items()
                if key not in _OWN and isinstance(value, str | int | float)
            },
        )


def imitate(root: Path) -> None:
    """Writes five arrays and the data list that labels four of them."""
    path = root if root.suffix else root / "dataset.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for case in range(5):
        volume = rng.integers(-1000, 400, (6, 16, 16)).astype(np.int16)
        np.save(path.parent / f"case_{case}.npy", volume)
    training = [{"image": f"./case_{case}.npy", "label": case % 2} for case in range(4)]
    content = {
        "labels": {"0": "benign", "1": "malignant"},
        "training": training,
        "test": ["./case_4.npy"],
    }
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _read_list(root: Path) -> tuple[Path, Entry]:
    path = root / "dataset.json" if root.is_dir() else root
    if not path.is_file():
        _refuse(path, "There is no such file. Give the path of a data list.", "no_table")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        _refuse(path, f"This is no JSON: {error}.", "no_json")
    if not isinstance(content, dict) or not any(content.get(name) for name in _SPLITS):
        _refuse(path, f"There is none of the lists {', '.join(_SPLITS)} in it.", "no_cases")
    return path, content


def _read_entries(root: Path) -> tuple[Path, dict[str, str], list[Listed]]:
    """Returns the file, the names of numbers, and the entries of all lists."""
    path, content = _read_list(root)
    names = _read_names(path, content)
    entries = list(_list_entries(path, content))
    lengths = {
        len(label): where
        for where, _, entry in entries
        if isinstance(label := entry.get("label"), list)
    }
    if len(lengths) > 1:
        told = " and ".join(f"{length} at {where}" for length, where in sorted(lengths.items()))
        _refuse(
            path,
            f"Labels are lists of different length: {told}. Every entry has a 0 or 1 for each "
            "finding.",
            "uneven_labels",
        )
    return path, names, entries


def _read_names(path: Path, content: Entry) -> dict[str, str]:
    names = content.get("labels") or {}
    if not isinstance(names, dict):
        _refuse(
            path,
            '`labels` is no mapping from numbers to names. Write it as {"0": "benign", "1": '
            '"malignant"}, or leave it out.',
            "no_names",
        )
    counted = all(isinstance(number, int) for number in names.values())
    if counted and not any(str(name).isdecimal() for name in names):
        names = {number: name for name, number in names.items()}  # as nnU-Net writes it
    return {str(number): str(name) for number, name in names.items()}


def _list_entries(path: Path, content: Entry) -> Iterator[Listed]:
    for name, split in _SPLITS.items():
        listed = content.get(name) or []
        if not isinstance(listed, list):
            _refuse(path, f"`{name}` is no list of entries, which it should be.", "no_cases")
        for place, entry in enumerate(listed):
            # The decathlon's own test lists are bare paths.
            full = {"image": entry} if isinstance(entry, str) else entry
            image = full.get("image") if isinstance(full, dict) else None
            if not isinstance(image, str):
                _refuse(
                    path,
                    f"{name}[{place}] needs an `image` that is one path, and has {image!r}. "
                    "Several images a case, as of several MR sequences, are not read.",
                    "no_image",
                )
            # pandas writes null where a cell is empty.
            known = {key: value for key, value in full.items() if value is not None}
            yield f"{name}[{place}]", split, known


def _read_name(path: Path, where: str, entry: Entry, key: str) -> str:
    """Returns what a case or a patient is called, "" where the entry does not say."""
    given = entry.get(key, "")
    if isinstance(given, float) and given.is_integer():
        given = int(given)  # as for labels
    if isinstance(given, bool) or not isinstance(given, str | int) or is_missing(str(given)):
        _refuse(
            path,
            f"The {key} of {where} is {given!r}; write a text or a whole number, or leave it out.",
            "no_name",
        )
    return str(given).strip()


def _read_label(path: Path, where: str, entry: Entry, names: dict[str, str]) -> Label | None:
    label = entry.get("label")
    if label is None or label == "":
        return None
    if isinstance(label, str) and is_missing(label):
        _refuse(
            path,
            f"The label of {where} is `{label}`, which would be a class. Leave it out where "
            "nothing is known, or write another word for the class.",
            "no_label",
        )
    if isinstance(label, str) and _IMAGE_FILE.search(label):
        _refuse(
            path,
            f"The label of {where} is the file {label}, a segmentation. medvid learns classes: "
            "give a number or a word as label.",
            "segmentation_label",
        )
    if isinstance(label, list):
        if not label or any(value not in (0, 1) for value in label):
            _refuse(
                path,
                f"The label of {where} is {label}; a list of findings has 0 or 1 for each.",
                "no_label",
            )
        return {_name(path, where, k, names): int(value) for k, value in enumerate(label)}
    if isinstance(label, bool) or (isinstance(label, float) and label.is_integer()):
        label = int(label)  # pandas writes 1 as 1.0, and what it holds as truth as true
    if isinstance(label, str | int):
        return _name(path, where, label, names)
    told = json.dumps(label)
    _refuse(
        path,
        f"The label of {where} is {told}, which names no class. Write a whole number or a word.",
        "no_label",
    )


def _name(path: Path, where: str, label: str | int, names: dict[str, str]) -> str:
    """Returns the class of a word, or of a number that `labels` may name."""
    told = str(label)
    if names and told.isdecimal() and told not in names:
        _refuse(
            path,
            f"{where} has the number {told} as a label or a finding, and `labels` has no name for "
            f"it: it names {', '.join(names)}. Add it there.",
            "no_label",
        )
    return names.get(told, told)


def _read_fold(path: Path, where: str, entry: Entry) -> int | None:
    fold = entry.get("fold")
    if fold is not None and (not isinstance(fold, int) or isinstance(fold, bool) or fold < 0):
        _refuse(path, f"The fold of {where} is {fold!r}; folds count 0, 1, 2, ...", "no_number")
    return fold


def _check_images(path: Path, entries: list[Listed]) -> None:
    images = dict.fromkeys(path.absolute().parent / entry["image"] for _, _, entry in entries)
    absent = [image for image in images if not image.exists()]
    if absent:
        named = "; ".join(str(image) for image in absent[:_NAMED])
        more = f"; and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        raise SourceError(
            f"{path.name} names {len(absent)} of {len(images)} images that are not there: "
            f"{named}{more}. Paths are relative to {path.absolute().parent}.",
            code="missing_files",
            files=absent,
        )


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path.name}: {what}", code=code, files=[path])
