"""What a study says before it begins, and what was changed since.

`study.yaml` holds the question: arms, folds, seeds, margin. Its SHA-256 is noted before the first
training and printed by the report. Who changes the file afterwards has another study.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from medvid.contract import DataError
from medvid.train.runfolder import (
    describe_environment,
    hash_file,
    read_json,
    write_json,
    write_text_atomic,
)

STUDY = "study.yaml"
NOTE = "study.json"

UNLABELLED = "no_label"
"""The code of cases that no study asks about: they are listed, and deviate from nothing."""


def register(
    folder: Path,
    text: str,
    left_out: Mapping[str, str],
    now: datetime | None = None,
) -> None:
    """Writes study.yaml and notes its hash.

    Args:
        folder: of the study.
        text: of study.yaml.
        left_out: arms that were asked and cannot be run on these data, with the reason.
        now: when; None reads the clock.
    """
    write_text_atomic(folder / STUDY, text)
    digest = hash_file(folder / STUDY)
    stamp = (now or datetime.now().astimezone()).isoformat(timespec="seconds")
    note = {"hash": digest, "registered": stamp, "left_out": dict(left_out)}
    write_json(folder / NOTE, note)


def read_registration(folder: Path) -> dict[str, Any]:
    """Returns the note of a study: `hash`, `registered` and `left_out`.

    Raises:
        DataError: when there is no study, or study.yaml is not what was registered.
    """
    if not (folder / STUDY).is_file() or not (folder / NOTE).is_file():
        raise DataError(
            f"{folder} is no study: it holds no {STUDY} and {NOTE}. `medvid context` prints the "
            "folder it makes.",
            code="no_study",
            files=[folder],
        )
    note: dict[str, Any] = read_json(folder / NOTE)
    if note["hash"] != hash_file(folder / STUDY):
        raise DataError(
            f"{folder / STUDY} was changed since the study was registered at {note['registered']}. "
            "Undo the change, or start a new study with the new question.",
            code="changed_study",
            files=[folder / STUDY],
        )
    return note


def list_deviations(
    environment: Mapping[str, Any],
    cells: Iterable[Mapping[str, Any]],
    left_out: Mapping[str, str],
    refused: Iterable[str],
) -> list[str]:
    """Says in sentences where a study is not the one that was registered.

    Args:
        environment: of the study's beginning, see `describe_environment`.
        cells: what every finished cell says of itself; `environment` among it.
        left_out: arms that were asked and not run, with the reason.
        refused: for every case that was left out the code of its reason.
    """
    said = [f"The arm `{name}` was not run: {reason}" for name, reason in left_out.items()]
    unusable = sum(code != UNLABELLED for code in refused)
    if unusable:
        cases = "1 case was" if unusable == 1 else f"{unusable} cases were"
        said.append(f"{cases} left out as unusable; see refused.csv.")
    changed: dict[str, set[str]] = {}
    for cell in cells:
        for name, value in cell["environment"].items():
            if value != pick_versions(environment)[name]:
                changed.setdefault(name, set()).add(str(value))
    said += [
        f"Some cells were trained with {name} {', '.join(sorted(values))} instead of "
        f"{pick_versions(environment)[name]}."
        for name, values in sorted(changed.items())
    ]
    return said


def pick_versions(environment: Mapping[str, Any] | None = None) -> dict[str, str | None]:
    """Returns of an environment (this one when None) what every cell notes."""
    found = describe_environment() if environment is None else environment
    return {
        "medvid": found["medvid"],
        "commit": found["commit"],
        "torch": found["packages"]["torch"],
    }
