"""Folders as classes: `root/<class>/<case>`, the layout of most small collections.

Where from: sort your scans or videos into one folder a class.

On disk: a case is a file (NIfTI, NRRD, MHA, NumPy, video) or a folder (a DICOM series, frames).
The file's name without its ending is taken for the patient, so `benign/P07.nii.gz` and
`malignant/P07.nii.gz` stay on one side of a split. **Where a patient has several cases with
different names, say so** in a table `root/patients.csv` with the columns `case` (as
`<class>/<name>`) and `patient_id`; otherwise they leak from training into test.

Command: `medvid manifest folders ROOT -o manifest.csv`
"""

import re
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np

from medvid.contract import Record, SourceError
from medvid.io.ordering import natural_key
from medvid.io.sheet import Row, read_sheet
from medvid.io.sidecars import is_of_macos

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
# `.nii.gz` is one ending; a dot elsewhere belongs to the name, as in DICOM UIDs of folders.
_ENDING = re.compile(r"(\.nii|\.tar)?\.[A-Za-z0-9]+$")
_NOT_CASES = {"thumbs.db", "desktop.ini"}
# A sentence with more names than this is not read.
_NAMED = 5


def classes(root: Path) -> tuple[str, ...]:
    """Returns the names of the folders, in natural order."""
    return tuple(folder.name for folder in _list_class_folders(root))


def records(root: Path) -> Iterator[Record]:
    """Yields the cases class by class, in natural order.

    Args:
        root: the folder that holds one folder a class.

    Raises:
        SourceError: when there are no classes or no cases, or `patients.csv` leaves cases out
            or gives one of them two patients.
    """
    cases = [
        (folder.name, path) for folder in _list_class_folders(root) for path in _list_cases(folder)
    ]
    if not cases:
        raise SourceError(
            f"The folders in {root} hold no cases. Put one file or folder a case into each.",
            code="no_cases",
            files=[root],
        )
    patients = _read_patients(root, cases)
    taken: dict[str, Path] = {}
    for label, path in cases:
        case_id = f"{label}/{_strip_ending(path)}"
        if case_id in taken:
            raise SourceError(
                f"{taken[case_id].name} and {path.name} in the folder `{label}` differ only in "
                "their ending, so their cases would bear the same name. Rename one.",
                code="double_case",
                files=[taken[case_id], path],
            )
        taken[case_id] = path
        yield Record(case_id, patients[case_id], str(path.absolute()), label=label)


def imitate(root: Path) -> None:
    """Writes two classes of three arrays; one patient has a case in both."""
    rng = np.random.default_rng(0)
    for label, names in {"benign": ("P1", "P2", "P10"), "malignant": ("P1", "P3", "P4")}.items():
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            volume = rng.integers(-1000, 400, (6, 16, 16)).astype(np.int16)
            np.save(folder / f"{name}.npy", volume)


def _list_class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise SourceError(f"There is no folder {root}.", code="no_folder", files=[root])
    folders = [path for path in _list_cases(root) if path.is_dir()]
    if not folders:
        raise SourceError(
            f"{root} holds no folders. Sort the cases into one folder a class.",
            code="no_classes",
            files=[root],
        )
    if {folder.name.lower() for folder in folders} <= _SPLITS:
        raise SourceError(
            f"The folders in {root} are named like splits ({folders[0].name}), not like classes. "
            "Give one of them as the root, or write a table with a column `split`.",
            code="splits_not_classes",
            files=folders,
        )
    return folders


def _list_cases(folder: Path) -> list[Path]:
    found = [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and not is_of_macos(path.name)
        and path.name.lower() not in _NOT_CASES
    ]
    return sorted(found, key=lambda path: (natural_key(path.name), path.name))


def _strip_ending(path: Path) -> str:
    return path.name if path.is_dir() else _ENDING.sub("", path.name)


def _read_patients(root: Path, cases: list[tuple[str, Path]]) -> dict[str, str]:
    """Returns case_id -> patient_id."""
    named = {f"{label}/{_strip_ending(path)}": path for label, path in cases}
    path = root / "patients.csv"
    if not path.exists():
        return {case_id: _strip_ending(case) for case_id, case in named.items()}
    sheet = read_sheet(path, is_free=lambda name: name not in ("case", "patient_id"))
    sheet.require("case", "It names a case as <class>/<name>.")
    sheet.require("patient_id", "It says whose case it is.")
    told: dict[str, Row] = {}
    for row in sheet:
        case_id = _find_case(row.get("case"), named)
        if case_id is None or not row.get("patient_id"):
            continue
        first = told.setdefault(case_id, row)
        if first.get("patient_id") != row.get("patient_id"):
            raise SourceError(
                f"patients.csv, line {row.line} says that {case_id} is of the patient "
                f"`{row.get('patient_id')}`, and line {first.line} says "
                f"`{first.get('patient_id')}`. Keep the right one.",
                code="two_patients",
                files=[path],
            )
    unnamed = [case_id for case_id in named if case_id not in told]
    if unnamed:
        raise SourceError(
            f"patients.csv leaves out {len(unnamed)} of {len(named)} cases: "
            f"{', '.join(unnamed[:_NAMED])}. Name the patient of every case.",
            code="unknown_patient",
            files=[named[case_id] for case_id in unnamed],
        )
    return {case_id: told[case_id].get("patient_id") for case_id in named}


def _find_case(text: str, named: Container[str]) -> str | None:
    """Returns the case_id that a row means, by the case's own name or by that of its file."""
    case = Path(text.replace("\\", "/"))
    # A folder keeps its dots, so the whole name comes first.
    for name in (case.name, _ENDING.sub("", case.name)):
        if f"{case.parent.name}/{name}" in named:
            return f"{case.parent.name}/{name}"
    return None
