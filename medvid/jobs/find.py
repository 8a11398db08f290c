"""`medvid scan`, `medvid manifest`, `medvid phantom`: from files to tables."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from medvid.build import validate_options
from medvid.contract import ConfigError, DataError
from medvid.data.manifest import change_paths, write_csv, write_manifest
from medvid.data.phantoms import write_phantom
from medvid.io.names import is_writable, make_legible
from medvid.io.scan import ScanRow, scan_tree
from medvid.io.wording import agree
from medvid.jobs.messages import show_progress
from medvid.sources import load_adapter

SHOWN = ("path", "modality", "plane", "size", "mm", "verdict", "code", "fix", "reason")
"""Columns of a scan's table on the terminal; the CSV has all."""

TOKEN = 4
"""Characters of a series' token in the name of a case, where they tell it from the others."""


def scan_folder(
    folder: Path,
    *,
    pixels: bool = False,
    workers: int | None = None,
    console: Console | None = None,
) -> list[ScanRow]:
    """Finds every series and video below a folder.

    Args:
        folder: searched with all its subfolders.
        pixels: also decode everything.
        workers: processes that read; None takes as many as there are cores.
        console: where progress is shown.

    Raises:
        DataError: when there is no such folder.
    """
    if not folder.exists():
        raise DataError(f"{folder} does not exist.", code="missing_file", files=[folder])
    count = (os.cpu_count() or 1) if workers is None else workers
    with show_progress(console, "reading headers") as progress:
        return scan_tree(folder, pixels=pixels, progress=progress, workers=count)


def tabulate_scan(rows: Sequence[ScanRow]) -> list[dict[str, Any]]:
    """Returns the columns that fit a terminal."""
    return [{name: _show_cell(row, name) for name in SHOWN} for row in rows]


def _show_cell(row: ScanRow, name: str) -> str:
    if name == "size":
        return f"{row.frames} x {row.height} x {row.width}" if row.frames else ""
    if name == "mm":
        steps = (row.spacing_t, row.spacing_h, row.spacing_w)
        return " x ".join(f"{step:.3g}" for step in steps) if row.extent_mm else ""
    return str(getattr(row, name))


def list_scan(rows: Sequence[ScanRow]) -> list[dict[str, Any]]:
    """Returns every column of every row."""
    return [asdict(row) for row in rows]


def summarize_scan(rows: Sequence[ScanRow]) -> list[str]:
    """Returns a line on what can be used, and one for each reason why something cannot."""
    found = [row for row in rows if row.verdict != "ignored"]
    usable = sum(row.verdict == "ok" for row in found)
    lines = [f"{usable} of {len(found)} can be used as they are."]
    reasons = Counter((row.verdict, row.code, row.fix) for row in found if row.verdict != "ok")
    for (verdict, code, fix), number in sorted(
        reasons.items(), key=lambda item: (item[0][0], -item[1], item[0][1:])
    ):
        lines.append(f"  {number} {verdict}: {code}" + (f", read with {fix}" if fix else ""))
    return lines


def write_scan(path: Path, rows: Sequence[ScanRow]) -> list[str]:
    """Writes what can be used as a manifest to which only a label column has to be added.

    Everything else goes into `<name>_refused.csv` beside it, where there is any.

    Returns:
        What to tell, one sentence each.
    """
    usable = [row for row in rows if row.verdict == "ok"]
    others = [row for row in rows if row.verdict != "ok"]
    columns = [name for name in asdict(ScanRow("", "")) if name not in ("path", "series")]
    own = ["case_id", "patient_id", "path", "series"]
    kept = [name for name in columns if name not in (*own, "verdict", "code", "fix")]
    cases = name_cases(usable)
    table = []
    for row, case in zip(usable, cases, strict=True):
        cells = {name: _cell(value) for name, value in asdict(row).items()}
        absolute = _find_whole(row.path)
        table.append(
            {**cells, "case_id": case, "patient_id": row.patient_id or case, "path": absolute}
        )
    write_csv(path, [*own, *kept], table)
    told = [f"{path}: {len(usable)} cases."]
    nobodys = sum(not row.patient_id for row in usable)
    if nobodys:
        told.append(
            f"{nobodys} of them do not say whose they are, and each has a patient_id of its own. "
            "Give those of one patient the same patient_id before training."
        )
    beside = path.with_name(f"{path.stem}_refused.csv")
    beside.unlink(missing_ok=True)  # of an earlier scan
    if others:
        refused = [{name: _cell(value) for name, value in asdict(row).items()} for row in others]
        write_csv(beside, ["path", "series", *columns], refused)
        left = sum(row.verdict != "ignored" for row in others)
        them = agree(
            left,
            "entry cannot be used as it is and was left out",
            "entries cannot be used as they are and were left out",
        )
        told.append(f"{left} {them}: {beside}" if left else f"What is no scan: {beside}")
        fixable = sum(row.verdict == "fixable" for row in others)
        if fixable:
            told.append(
                f"{fixable} of them can be read with the options in its column `fix`: move their "
                "rows into the manifest and write the options into the config's section `data`."
            )
    return told


def _find_whole(path: str) -> str:
    """Returns the path from the root of all; that of a link where its target cannot be written."""
    whole = Path(path).resolve().as_posix()
    return whole if is_writable(whole) else Path(os.path.abspath(path)).as_posix()


def name_cases(rows: Sequence[ScanRow]) -> list[str]:
    """Returns a name for every row: the shortest end of its path that no other row has.

    The path is taken from the root on, for a folder scanned as `.` has a name too; links keep
    theirs, and are not followed. A series of several in one folder also has the beginning of its
    token, as long as need be.
    """
    parts = [Path(os.path.abspath(row.path)).parts for row in rows]
    ends = Counter(part[-length:] for part in set(parts) for length in range(1, len(part) + 1))
    names = []
    for part in parts:
        length = next((n for n in range(1, len(part)) if ends[part[-n:]] == 1), len(part))
        names.append("/".join(part[-length:]))
    for length in (TOKEN, max((len(row.series) for row in rows), default=TOKEN)):
        named = [
            f"{name}-{row.series[:length]}" if row.series else name
            for name, row in zip(names, rows, strict=True)
        ]
        if len(set(named)) == len(named):
            break
    return named


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def make_manifest(
    source: str,
    root: Path,
    out: Path,
    options: Sequence[str],
    *,
    console: Console | None = None,
) -> list[str]:
    """Writes the manifest of a known source.

    Args:
        source: its name.
        root: where it lies.
        out: the CSV to write.
        options: of the source, as key=value.
        console: where progress is shown, for sources that read many headers.

    Returns:
        What to tell: how many cases were found, and what the source lists but the disk lacks.

    Raises:
        ConfigError: for an unknown source or option.
        SourceError: when the source does not lie as it should.
    """
    adapter = load_adapter(source)
    given: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"`{option}` is no option; write key=value, such as split=1.")
        given[key] = yaml.safe_load(value)
    filled = ["root", "progress"]
    checked = validate_options(adapter.records, given, f"source `{source}`", filled)
    with show_progress(console, "reading headers") as progress:
        shown = (
            {"progress": progress} if "progress" in signature(adapter.records).parameters else {}
        )
        records = [
            # The manifest may lie elsewhere, so it names files from the root of all.
            change_paths(record, Path.resolve)
            for record in adapter.records(root, **checked, **shown)
        ]
    write_manifest(out, records)
    told = [f"{len(records)} cases of {len({r.patient_id for r in records})} patients: {out}"]
    find_missing = getattr(adapter, "missing", None)
    if find_missing is not None:
        missing = find_missing(root, **checked)
        if missing:
            beside = out.with_name(f"{out.stem}_missing.txt")
            beside.write_text(make_legible("\n".join(missing) + "\n"), encoding="utf-8")
            told.append(f"{len(missing)} listed items are not on disk; their names: {beside}")
    find_unlisted = getattr(adapter, "unlisted", None)
    unlisted = find_unlisted(root, **checked) if find_unlisted is not None else []
    if unlisted:
        named = ", ".join(unlisted[:3])
        told.append(f"{len(unlisted)} items on disk are in no list and were left out: {named}")
    return told


def make_phantom_data(
    task: str,
    out: Path,
    *,
    cases: int,
    file_format: str,
    size: str | None,
    seed: int,
    leak: bool,
    console: Console | None,
) -> Path:
    """Writes made-up scans; see `medvid.data.phantoms.write_phantom`.

    Raises:
        ConfigError: for a task, format or size that cannot be meant.
    """
    with show_progress(console, "writing scans") as progress:
        return write_phantom(
            task,
            out,
            cases=cases,
            size=_parse_size(size),
            format=file_format,
            seed=seed,
            leak=leak,
            progress=progress,
        )


def _parse_size(size: str | None) -> tuple[int, int, int] | None:
    if size is None:
        return None
    parts = size.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"`{size}` is no size; write T,H,W in voxels, such as 28,28,28.")
    step, height, width = (int(part) for part in parts)
    return step, height, width
