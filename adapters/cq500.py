"""CQ500: 491 head CTs, read by three radiologists for bleeding, fractures and mass effect.

Where from: qure.ai's page of the data set, an archive a study (`CQ500-CT-0.zip` and so on) and
`reads.csv`. Licence: CC BY-NC-SA 4.0. medvid downloads nothing.

On disk: `reads.csv` right below the root, and each study's folder as its archive unpacks, there or
up to two folders further down: `CQ500CT0 CQ500CT0/Unknown Study/CT Plain/CT000000.dcm`. Some may be
absent; they are reported.

A case is a study, of which one series is read. A study holds several: thin and thick slices, bone
kernels, some with contrast medium, reformats and parts of a head. `series` says which is wanted:
`thin` takes the thinnest slices (the default), `thick` the thickest, `most_slices` what its name
says; of equal ones the one with most slices, then the first by name. Only axial series that can be
read as a stack and cover a brain are considered; contrast and bone series only with `contrast=true`
and `bone=true`, as told by the names of their folders. `names=*plain*` narrows the choice by name.
A study without such a series stops, or is left out and reported with `on_bad=quarantine`.

A finding is present when two of the three readers say so; a column `votes_<finding>` holds how many
did. `findings` chooses which (by default bleeding and its five kinds). No table names the patients,
and the study stands for its patient.

Command: `medvid manifest cq500 ROOT -o manifest.csv`
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import numpy as np
from pydantic import Field

from medvid.contract import ConfigError, Record, SourceError
from medvid.io.sheet import Row, Sheet, read_sheet
from medvid.io.study_series import Choice, Wanted, Wish, choose_series
from medvid.io.write import derive_uid, write_dicom_series

CLASSES = ("ich", "iph", "ivh", "sdh", "edh", "sah")

Finding = Literal[
    "ich",
    "iph",
    "ivh",
    "sdh",
    "edh",
    "sah",
    "bleed_left",
    "bleed_right",
    "chronic_bleed",
    "fracture",
    "calvarial_fracture",
    "other_fracture",
    "mass_effect",
    "midline_shift",
]
Findings = Annotated[list[Finding], Field(min_length=1)]
OnBad = Literal["stop", "quarantine"]
Workers = Annotated[int, Field(gt=0)]

COLUMNS: Mapping[str, str] = {
    "ich": "ICH",
    "iph": "IPH",
    "ivh": "IVH",
    "sdh": "SDH",
    "edh": "EDH",
    "sah": "SAH",
    "bleed_left": "BleedLocation-Left",
    "bleed_right": "BleedLocation-Right",
    "chronic_bleed": "ChronicBleed",
    "fracture": "Fracture",
    "calvarial_fracture": "CalvarialFracture",
    "other_fracture": "OtherFracture",
    "mass_effect": "MassEffect",
    "midline_shift": "MidlineShift",
}
"""Findings and the ends of their columns, which begin with the reader: `R1:ICH`."""

READERS = ("R1", "R2", "R3")
MAJORITY = 2
"""Of three readers, as the authors took the truth (Chilamkurthy et al., Lancet 2018)."""

_STUDY = re.compile(r"CQ500CT(\d{1,9}) CQ500CT\1", re.IGNORECASE)
_NAME = re.compile(r"CQ500-CT-(\d{1,9})", re.IGNORECASE)
_DEPTH = 3
"""Folders between the root and a study's own, that one included."""

# A sentence with more studies than this is not read.
_NAMED = 3


def records(
    root: Path,
    *,
    series: Wanted = "thin",
    findings: Findings | None = None,
    names: str = "*",
    contrast: bool = False,
    bone: bool = False,
    on_bad: OnBad = "stop",
    workers: Workers | None = None,
) -> Iterator[Record]:
    """Yields the studies that are on disk, in the order of the table.

    Args:
        root: holds reads.csv and the studies' folders.
        series: which one of a study: that with the `thin` or `thick` slices, or `most_slices`.
        findings: what is labelled, such as `[ich]` or `[fracture,mass_effect]`; None takes `ich`
            and its five kinds.
        names: the series' folder is called so; `*` stands for any text, case does not matter.
        contrast: consider series with contrast medium too.
        bone: consider series of a bone kernel too.
        on_bad: `stop` at studies without such a series, or `quarantine`: leave them out.
        workers: processes that read headers; None takes as many as there are cores. Give 1 in a
            script whose main module cannot be imported anew.

    Raises:
        ConfigError: when `findings` names none, or one of them twice.
        SourceError: when the table or all studies are absent, a row cannot be meant, or a study
            has no such series.
    """
    labelled = _list_findings(findings)
    rows = _read_reads(root, labelled)
    folders = _find_studies(root)
    there = [number for number in rows if number in folders]
    if not there:
        first = next(iter(rows))
        _refuse(
            root,
            f"holds none of the {len(rows)} studies that reads.csv names. The first should lie "
            f"there as `CQ500CT{first} CQ500CT{first}`.",
            "no_cases",
        )
    studies = [folders[number] for number in there]
    wish = Wish(series, names, contrast, bone)
    choices = choose_series(studies, wish, workers=workers or os.cpu_count() or 1)
    without = {study: choices[study].why for study in studies if not choices[study].path}
    if without and (on_bad == "stop" or len(without) == len(studies)):
        told = [f"{study.name}: {why}" for study, why in list(without.items())[:_NAMED]]
        raise SourceError(
            f"{len(without)} of {len(studies)} studies have no series that is asked for. "
            f"{' '.join(told)} Allow contrast=true or bone=true, loosen `names`, or leave such "
            "studies out with on_bad=quarantine.",
            code="no_series",
            files=list(without),
        )
    for number, study in zip(there, studies, strict=True):
        if study not in without:
            yield _build_record(rows[number], choices[study], labelled)


def missing(
    root: Path,
    *,
    series: Wanted = "thin",
    findings: Findings | None = None,
    names: str = "*",
    contrast: bool = False,
    bone: bool = False,
    on_bad: OnBad = "stop",
    workers: Workers | None = None,
) -> list[str]:
    """Returns the studies of the table that are not on disk, and why others were left out."""
    rows = _read_reads(root, _list_findings(findings))
    folders = _find_studies(root)
    absent = [row.get("name") for number, row in rows.items() if number not in folders]
    if on_bad == "stop":
        return absent
    there = {number: folders[number] for number in rows if number in folders}
    wish = Wish(series, names, contrast, bone)
    choices = choose_series(list(there.values()), wish, workers=workers or os.cpu_count() or 1)
    left = {number: choices[study].why for number, study in there.items()}
    return absent + [f"{rows[number].get('name')}: {why}" for number, why in left.items() if why]


_ABSENT = 3
"""The study of the made-up copy that is in the table alone."""


def imitate(root: Path) -> None:
    """Writes twelve studies, the first three of two to four series, and the table of thirteen.

    Every finding is in four studies or more and absent in four or more, so that they can be split.
    """
    root.mkdir(parents=True, exist_ok=True)
    columns = ["name", "Category"]
    columns += [f"{reader}:{column}" for reader in READERS for column in COLUMNS.values()]
    lines = [",".join(columns)]
    bleeds = ("ICH", "IPH", "IVH", "SDH", "EDH", "SAH")
    # What each of the three readers saw, study by study.
    seen = (
        (("ICH", "IPH", "IVH"), ("ICH", "IPH", "IVH"), ("ICH", "IPH", "SAH")),
        ((), ("ICH", "SDH"), ()),
        (("ICH", "SDH", "EDH", "SAH"), ("ICH", "SDH", "EDH", "SAH", "Fracture"), ("Fracture",)),
        ((), (), ()),
        *([saw] * 3 for saw in (bleeds, ()) for _ in range(4)),
        ((), ("ICH", "EDH"), ()),
    )
    # Thicker than the published ones, so that there are few files.
    series = {
        "CT Plain": 10.0,
        "CT PLAIN THIN": 8.0,
        "CT POST CONTRAST": 6.0,
        "CT Thin Bone": 5.0,
    }
    for number, readings in enumerate(seen):
        cells = [str(int(name in saw)) for saw in readings for name in COLUMNS.values()]
        lines.append(",".join([f"CQ500-CT-{number}", "B1" if number < 2 else "B2", *cells]))
        study = root / f"CQ500CT{number} CQ500CT{number}" / "Unknown Study"
        if number != _ABSENT:
            for name, step in list(series.items())[: max(4 - number, 1)]:
                _write_series(study / name, step, number)
    (root / "reads.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_series(folder: Path, step: float, number: int) -> None:
    count = round(120 / step)
    volume = np.full((count, 8, 8), 30 + number, np.int16)
    volume[:, 0, 0] = np.arange(count)
    write_dicom_series(
        folder,
        volume,
        spacing=(step, 4.0, 4.0),
        patient_id=f"CQ500-CT-{number}",
        series_uid=derive_uid(f"cq500|{number}|{folder.name}"),
        description=folder.name.removeprefix("CT "),
    )
    for place, file in enumerate(sorted(folder.glob("*.dcm"))):
        file.rename(folder / f"CT{place:06d}.dcm")


def _list_findings(findings: Sequence[Finding] | None) -> Sequence[str]:
    listed = CLASSES if findings is None else tuple(findings)
    if not listed or len(set(listed)) < len(listed):
        raise ConfigError(
            f"`findings` is [{', '.join(listed)}]. Name one finding or more, each once.",
            code="bad_value",
        )
    return listed


def _read_reads(root: Path, findings: Sequence[str]) -> dict[int, Row]:
    """Returns the number of each study -> its row."""
    sheet = read_sheet(root / "reads.csv")
    sheet.require("name", "It names the study, such as CQ500-CT-0.")
    for finding in findings:
        for reader in READERS:
            sheet.require(f"{reader}:{COLUMNS[finding]}", "It is part of the published table.")
    rows: dict[int, Row] = {}
    for row in sheet:
        named = _NAME.fullmatch(row.get("name"))
        if named is None:
            _refuse_row(sheet, row, f"`{row.get('name')}` names no study, as CQ500-CT-0 does.")
        number = int(named[1])
        if number in rows:
            _refuse_row(
                sheet,
                row,
                f"{row.get('name')} stands in line {rows[number].line} already. Keep one of them.",
                "double_case",
            )
        for finding in findings:
            for column in (f"{reader}:{COLUMNS[finding]}" for reader in READERS):
                if row.get(column) not in ("0", "1"):
                    _refuse_row(
                        sheet, row, f"`{row.get(column)}` in the column `{column}` is not 0 or 1."
                    )
        rows[number] = row
    if not rows:
        _refuse(sheet.path, "names no study: it has no rows.", "empty_table")
    return rows


def _find_studies(root: Path) -> dict[int, Path]:
    """Returns the number of each study -> its folder."""
    found: dict[int, Path] = {}
    for folder in _list_folders(root, _DEPTH):
        named = _STUDY.fullmatch(folder.name)
        if named is None:
            continue
        known = found.setdefault(int(named[1]), folder)
        if known != folder:
            raise SourceError(
                f"{root} holds the study `{folder.name}` twice: {known} and {folder}. Keep one.",
                code="double_case",
                files=[known, folder],
            )
    return found


def _list_folders(folder: Path, depth: int) -> Iterator[Path]:
    if depth == 0 or not folder.is_dir():
        return
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        yield below
        if not _STUDY.fullmatch(below.name):
            yield from _list_folders(below, depth - 1)


def _build_record(row: Row, choice: Choice, findings: Sequence[str]) -> Record:
    votes = {
        finding: sum(row.get(f"{reader}:{COLUMNS[finding]}") == "1" for reader in READERS)
        for finding in findings
    }
    name = row.get("name")
    return Record(
        case_id=name,
        patient_id=name,
        path=os.path.abspath(choice.path),
        series=choice.token,
        label={finding: int(count >= MAJORITY) for finding, count in votes.items()},
        extra={
            "category": row.get("Category"),
            "thickness_mm": f"{choice.thickness:g}",
            "series_beside": str(choice.others),
            **{f"votes_{finding}": str(count) for finding, count in votes.items()},
        },
    )


def _refuse_row(sheet: Sheet, row: Row, what: str, code: str = "no_label") -> NoReturn:
    _refuse(sheet.path, f"line {row.line}: {what}", code)


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
