"""BIDS: a data set in the Brain Imaging Data Structure, labelled by a column of participants.tsv.

Where from: OpenNeuro and most neuroimaging groups share in this layout, under the licence that
`dataset_description.json` names. medvid downloads nothing.

On disk: `participants.tsv` and `sub-<label>/[ses-<label>/]{anat,dwi,func,pet,ct}/`, where images
are called `sub-<label>[_ses-<label>][_<key>-<value>...]_<suffix>.nii.gz` (or `.nii`).
`derivatives/` and `sourcedata/` are not read. Images of more than three axes (most of func, dwi and
pet) are found, and refused when they are opened.

A case is an image of one `suffix`; `channels=[T1w,FLAIR]` makes one case a session, with a channel
for each suffix. `only={acq: mprage}` keeps images of which the name says so. The subject is the
patient: sessions, runs and echoes of one never lie on both sides of a split. The label is that of
the column `label`, of the session's row where the table has a `session_id`; `n/a` is no label, and
such a case is reported as unlabelled. The other columns (age, sex, ...) are kept for subgroups.

Command: `medvid manifest bids ROOT -o manifest.csv label=group`
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
from pydantic import Field

from medvid.contract import Channel, ConfigError, Record, SourceError, is_own_column
from medvid.io.bids_names import Image, Only, find_images
from medvid.io.ordering import natural_key
from medvid.io.sheet import Row, Sheet, is_missing, read_sheet

Channels = Annotated[list[str], Field(min_length=1)]

_TABLE = "participants.tsv"
_KEYS = ("participant_id", "session_id")
_MISSING = "n/a"


def classes(root: Path) -> tuple[str, ...]:
    """Returns what the column `group` holds, in natural order."""
    sheet = _read_participants(root, "group")
    names = {_read_cell(sheet, row, "group") for row in sheet} - {""}
    return tuple(sorted(names, key=natural_key))


def records(
    root: Path,
    *,
    label: str = "group",
    suffix: str = "T1w",
    session: str | None = None,
    channels: Channels | None = None,
    only: Only | None = None,
) -> Iterator[Record]:
    """Yields the images in the order of participants.tsv, then session by session.

    Args:
        root: holds `participants.tsv` and the folders of the subjects.
        label: the column of participants.tsv that is learned.
        suffix: the kind of image.
        session: only this one, such as `ses-01`; all when None.
        channels: suffixes that together make a case, in place of `suffix`.
        only: key -> value that names must hold, such as `{acq: mprage}`.

    Raises:
        ConfigError: when `channels` names none, or one of them twice.
        SourceError: when table or images are absent, a name contradicts its folder, or a session
            has several images for one channel.
    """
    sheet = _read_participants(root, label)
    wanted = _list_wanted(suffix, channels)
    found = find_images(root, wanted, session, only or {})
    rows = _index_rows(sheet)
    ordered = [
        image
        for subject in dict.fromkeys(subject for subject, _ in rows)
        for image in found.get(subject, ())
        if image.path.exists()
    ]
    cases = _build_cases(ordered, wanted) if channels else _list_cases(ordered)
    empty = True
    for case_id, parts in cases:
        row = _find_row(sheet, rows, parts[0])
        yield _build_record(sheet, row, case_id, parts, label, bool(channels))
        empty = False
    if empty:
        _refuse(
            root,
            f"holds no image {_describe(wanted, session, only)} of a participant in {_TABLE}. It "
            f"should lie there as sub-<label>/anat/sub-<label>_{wanted[0]}.nii.gz.",
            "no_cases",
        )


def missing(
    root: Path,
    *,
    label: str = "group",
    suffix: str = "T1w",
    session: str | None = None,
    channels: Channels | None = None,
    only: Only | None = None,
) -> list[str]:
    """Returns participants without an image, sessions that lack a channel, and absent files.

    The latter are links to contents that were not fetched, as DataLad makes them.
    """
    sheet = _read_participants(root, label)
    wanted = _list_wanted(suffix, channels)
    found = find_images(root, wanted, session, only or {})
    absent = []
    for subject in dict.fromkeys(subject for subject, _ in _index_rows(sheet)):
        images = found.get(subject, [])
        there = [image for image in images if image.path.exists()]
        absent += [image.path.name for image in images if not image.path.exists()]
        absent += [] if images else [subject]
        for visit in dict.fromkeys(image.visit for image in there) if channels else ():
            has = {image.suffix for image in images if image.visit == visit}
            absent += [f"{visit}_{name}" for name in wanted if name not in has]
    return absent


def unlisted(
    root: Path,
    *,
    label: str = "group",
    suffix: str = "T1w",
    session: str | None = None,
    channels: Channels | None = None,
    only: Only | None = None,
) -> list[str]:
    """Returns subjects with images and without a row."""
    listed = {subject for subject, _ in _index_rows(_read_participants(root, label))}
    found = find_images(root, _list_wanted(suffix, channels), session, only or {})
    return [subject for subject in found if subject not in listed]


def imitate(root: Path) -> None:
    """Writes six subjects, one of them without a group and one with two sessions."""
    from medvid.io.write import write_nifti

    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    text = json.dumps({"Name": "made up", "BIDSVersion": "1.10.0", "DatasetType": "raw"})
    (root / "dataset_description.json").write_text(text, encoding="utf-8")
    lines = ["participant_id\tage\tsex\tgroup"]
    for number in range(1, 7):
        group = ("control", "patient", _MISSING)[2 if number == 6 else number % 2]
        lines.append(f"sub-{number:02d}\t{60 + number}\t{'MF'[number % 2]}\t{group}")
        for session in ("01", "02") if number == 1 else ("01",):
            stem = f"sub-{number:02d}_ses-{session}"
            folder = root / f"sub-{number:02d}" / f"ses-{session}" / "anat"
            for suffix in ("T1w", "FLAIR"):
                volume = rng.integers(0, 900, (6, 16, 16)).astype(np.int16)
                path = folder / f"{stem}_{suffix}.nii.gz"
                write_nifti(path, volume, spacing=(5.0, 1.0, 1.0), orientation="LAS")
                path.with_name(f"{stem}_{suffix}.json").write_text("{}\n", encoding="utf-8")
    (root / _TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    other = root / "derivatives" / "smooth" / "sub-01" / "ses-01" / "anat"
    volume = np.zeros((6, 16, 16), dtype=np.int16)
    write_nifti(other / "sub-01_ses-01_desc-smooth_T1w.nii.gz", volume, spacing=(5.0, 1.0, 1.0))


def _list_wanted(suffix: str, channels: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the suffixes of the images that are asked for."""
    wanted = (suffix,) if channels is None else tuple(channels)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ConfigError(
            f"`channels` is [{', '.join(wanted)}]. Name one suffix or more, each once.",
            code="bad_value",
        )
    return wanted


def _read_participants(root: Path, label: str) -> Sheet:
    if not (root / _TABLE).is_file():
        _refuse(
            root / _TABLE, "is not there. Give the folder that holds it and sub-*/.", "no_table"
        )
    free = (*_KEYS, label)
    sheet = read_sheet(root / _TABLE, is_free=lambda column: column not in free)
    sheet.require("participant_id", "It names the subject of every row.")
    sheet.require(label, "It was to be learned: choose a column with label=NAME.")
    return sheet


def _read_cell(sheet: Sheet, row: Row, column: str) -> str:
    """Returns a cell, "" where nothing is known.

    Raises:
        SourceError: for a spelling of "not known" that BIDS does not have.
    """
    text = row.get(column)
    if text == _MISSING:
        return ""
    if is_missing(text):
        _refuse(
            sheet.path,
            f"line {row.line}: `{text}` in the column `{column}` would be a class. Write n/a where "
            "nothing is known, or another word for a class.",
            "no_label",
        )
    return text


def _index_rows(sheet: Sheet) -> dict[tuple[str, str], Row]:
    """Returns (subject, session) -> row, in the table's order; the session may be ""."""
    rows: dict[tuple[str, str], Row] = {}
    for row in sheet:
        place = [row.get(column) for column in _KEYS]
        subject, session = (
            f"{mark}{text.removeprefix(mark)}" if text not in ("", _MISSING) else ""
            for mark, text in zip(("sub-", "ses-"), place, strict=True)
        )
        if not subject:
            _refuse(sheet.path, f"line {row.line}: there is no participant_id.", "empty_cell")
        if (subject, session) in rows:
            _refuse(
                sheet.path,
                f"line {row.line}: {subject} {session}".rstrip() + " has a row already, in line "
                f"{rows[subject, session].line}. Keep one.",
                "double_row",
            )
        rows[subject, session] = row
    return rows


def _find_row(sheet: Sheet, rows: Mapping[tuple[str, str], Row], image: Image) -> Row:
    """Returns the session's row, or else the subject's."""
    row = rows.get((image.subject, image.session)) or rows.get((image.subject, ""))
    if row is None:
        _refuse(sheet.path, f"has no row for {image.visit}, but for other sessions.", "no_row")
    return row


def _list_cases(images: Sequence[Image]) -> Iterator[tuple[str, list[Image]]]:
    """Yields case by case: each image one."""
    taken: dict[str, Path] = {}
    for image in images:
        case_id = image.stem
        if case_id in taken:
            _refuse(image.path, f"lies there as {taken[case_id].name} too. Keep one.", "double")
        taken[case_id] = image.path
        yield case_id, [image]


def _build_cases(
    images: Sequence[Image], wanted: Sequence[str]
) -> Iterator[tuple[str, list[Image]]]:
    """Yields case by case: the sessions that have every channel, each by one image."""
    for visit, group in groupby(images, key=lambda image: image.visit):
        own = list(group)
        parts = [[image for image in own if image.suffix == name] for name in wanted]
        several = next((part for part in parts if len(part) > 1), None)
        if several:
            _refuse(
                several[1].path,
                f"and {several[0].path.name} are both {several[0].suffix} of one session. Say "
                "which is the channel, such as only={acq: mprage} or only={run: 1}.",
                "several_images",
            )
        if all(parts):
            yield visit, [part[0] for part in parts]


def _seems_own(column: str) -> bool:
    """Whether a manifest would give a participant's column a meaning that it has not."""
    return is_own_column(column) or column.casefold().startswith("series_")


def _build_record(
    sheet: Sheet, row: Row, case_id: str, parts: Sequence[Image], label: str, joined: bool
) -> Record:
    first = parts[0]
    extra = {
        f"bids_{column}" if _seems_own(column) else column: row.get(column)
        for column in sheet.columns
        if column not in (*_KEYS, label) and row.get(column) not in ("", _MISSING)
    }
    paths = [str(part.path.absolute()) for part in parts]
    named = zip(parts, paths, strict=True)
    return Record(
        case_id=case_id,
        patient_id=first.subject,
        path=paths[0],
        channels=tuple(Channel(part.suffix, path) for part, path in named) if joined else (),
        label=_read_cell(sheet, row, label) or None,
        extra=extra | ({"session": first.session} if first.session else {}),
    )


def _describe(wanted: Sequence[str], session: str | None, only: Only | None) -> str:
    told = [" with ".join(wanted)] + ([] if session is None else [f"session={session}"])
    return ", ".join([*told, *(f"{key}-{value}" for key, value in (only or {}).items())])


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
