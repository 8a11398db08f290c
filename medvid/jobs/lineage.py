"""Whom a network has seen before it is trained: no held-out patient may be among them.

Weights remember. A network started from another run was, in effect, trained on that run's patients
too, so fold k may only be started from a fold that never touched the patients whom fold k tests on.
With the same manifest, splits and seed that is fold k of the other run. The rule:

* no patient of the new test part may have been trained on, nor helped to choose the epoch;
* no patient of the new validation part may have been trained on: the best epoch and the operating
  point would be chosen on scans that are known by heart. To have chosen an epoch on them before is
  what a validation part is for.

A run that was itself started from a run carries the patients of all before it.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvid.contract import ConfigError, DataError, Record
from medvid.data.fingerprint import fingerprint_records
from medvid.data.splits import Fold, read_folds
from medvid.train.runfolder import RunFolder, hash_file, open_run_folder, read_json

RECORD = "init.json"
"""In a fold's folder: where its weights came from, and what became of every tensor."""

FILE = "file:"
"""Before the fingerprint of a scan among the names of patients."""


@dataclass(frozen=True)
class Seen:
    """Whom a network knows: patients, and the scans that belong to one patient only.

    Args:
        trained: on whom it was trained, in this run or one before.
        chosen: on whom its epoch was chosen.
    """

    trained: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Origin:
    """The weights that a fold is started from.

    Args:
        path: the checkpoint or state dict.
        run: name of the run's folder; empty for a file that belongs to none.
        fold: of that run; None for such a file.
        digest: SHA-256 of the file.
        seen: whom the weights know; nothing is known of such a file.
    """

    path: Path
    run: str
    fold: int | None
    digest: str
    seen: Seen

    def describe(self) -> dict[str, Any]:
        """Returns what a checkpoint says of its start: no folders, no patients."""
        return {"run": self.run, "file": self.path.name, "fold": self.fold, "sha256": self.digest}

    def name(self) -> str:
        """Returns the words for a line of progress."""
        return f"fold {self.fold} of {self.run}" if self.run else self.path.name


People = Mapping[str, frozenset[str]]
"""case_id -> the names by which its patient is known, see `name_people`."""


def find_origin(source: Path, number: int, fold: Fold, people: People) -> Origin:
    """Finds the weights that fold `number` may be started from.

    Args:
        source: a run folder, a fold's folder in one, a checkpoint in one, or any state dict.
        number: of the new fold; the fold of that number is looked at first.
        fold: the new fold. One that tests on what it trains on, as `overfit` does, holds nobody
            out.
        people: of the new run.

    Raises:
        ConfigError: when nothing lies at `source`.
        DataError: when no fold is finished, or all know patients whom the new fold holds out.
    """
    if not source.exists():
        raise ConfigError(
            f"`init.from: {source}` does not exist. Give a run folder, a fold's folder in it, or a "
            "file with a state dict.",
            code="no_init",
        )
    run, asked = _split_source(source)
    if run is None:
        return Origin(source, "", None, digest_file(source), Seen())
    folds = read_folds(read_json(run.splits))
    finished = run.list_finished_folds()
    candidates = [k for k in finished if asked in (None, k)]
    if not candidates:
        what = run.path if asked is None else run.fold(asked)
        raise DataError(
            f"{what} is not finished, so nothing can be started from it. Go on with `medvid train "
            f"--resume {run.path}`.",
            code="init_unfinished",
            files=[run.path],
        )
    candidates.sort(key=lambda k: k != number)
    theirs = _read_people(run)
    test = _gather(people, fold.test) - _gather(people, fold.train)
    val = _gather(people, fold.val)
    conflicts = list[tuple[int, int, int]]()
    for candidate in candidates:
        seen = _find_seen(run, candidate, folds[candidate], theirs)
        in_test = _count_patients(test & (seen.trained | seen.chosen))
        in_val = _count_patients(val & seen.trained)
        if not in_test and not in_val:
            path = source if source.is_file() else run.fold(candidate) / "best.ckpt"
            return Origin(path, run.path.name, candidate, digest_file(path), seen)
        conflicts.append((candidate, in_test, in_val))
    raise _refuse_leak(run, number, conflicts, finished)


def digest_file(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        return hash_file(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. `init.from` needs a run folder or a file "
            "with weights.",
            code="no_init",
            files=[path],
        ) from None


def _split_source(source: Path) -> tuple[RunFolder | None, int | None]:
    """Returns the run that `source` is or lies in, and the fold when it names one."""
    for place in (source, source.parent):
        name = re.fullmatch(r"fold_(\d+)", place.resolve().name)
        above = place.resolve().parent
        if name and (above / "config.yaml").is_file() and (above / "splits.json").is_file():
            return RunFolder(above), int(name[1])
    return (open_run_folder(source), None) if source.is_dir() else (None, None)


def name_people(records: Sequence[Record]) -> dict[str, frozenset[str]]:
    """Returns by what names the patient of every case is known: patient_id and file.

    The file counts because two manifests may name one patient differently. A file that holds
    several patients, as one big array may, says nothing about any of them.
    """
    prints = fingerprint_records(records)
    return _name_cases(
        {record.case_id: record.patient_id for record in records},
        {record.case_id: (prints[record.case_id], record.series or "") for record in records},
    )


def _read_people(run: RunFolder) -> dict[str, frozenset[str]]:
    """Returns the same for the cases of a run that was made before."""
    prints: Mapping[str, str] = read_json(run.fingerprints)
    try:
        with run.manifest.open(encoding="utf-8", newline="") as file:
            rows = {row["case_id"]: row for row in csv.DictReader(file)}
    except FileNotFoundError:
        raise DataError(
            f"{run.manifest} is missing, so nobody can tell whom the run was trained on.",
            code="no_file",
            files=[run.manifest],
        ) from None
    return _name_cases(
        {case: row["patient_id"] for case, row in rows.items()},
        {case: (prints[case], row.get("series") or "") for case, row in rows.items()},
    )


def _name_cases(
    patients: Mapping[str, str], files: Mapping[str, tuple[str, str]]
) -> dict[str, frozenset[str]]:
    owners = defaultdict[tuple[str, str], set[str]](set)
    for case, patient in patients.items():
        owners[files[case]].add(patient)
    return {
        case: frozenset(
            {patient, FILE + "|".join(files[case])} if len(owners[files[case]]) == 1 else {patient}
        )
        for case, patient in patients.items()
    }


def _gather(people: People, cases: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(people[case] for case in cases))


def find_known(run: RunFolder, records: Sequence[Record]) -> frozenset[str]:
    """Returns the patients of some records whom the finished folds of a run know.

    To know is to have trained, or chosen an epoch, on the patient or on one of the patient's files.

    Args:
        run: any run folder.
        records: whose files are there.

    Returns:
        patient_ids of the records.

    Raises:
        DataError: when the run does not say whom it was trained on.
    """
    theirs, folds = _read_people(run), read_folds(read_json(run.splits))
    known = set[str]()
    for number in run.list_finished_folds():
        seen = _find_seen(run, number, folds[number], theirs)
        known |= seen.trained | seen.chosen
    people = name_people(records)
    return frozenset(record.patient_id for record in records if people[record.case_id] & known)


def _find_seen(run: RunFolder, number: int, fold: Fold, people: People) -> Seen:
    trained, chosen = _gather(people, fold.train), _gather(people, fold.val)
    before = run.fold(number) / RECORD
    if before.is_file():  # the run was itself started from another
        record = read_json(before)
        trained |= frozenset(record["trained"])
        chosen |= frozenset(record["chosen"])
    return Seen(trained, chosen)


def _count_patients(names: Collection[str]) -> int:
    """Returns how many patients some names stand for, at least one where there is any name."""
    patients = sum(not name.startswith(FILE) for name in names)
    return patients or len(names)


def _count(patients: int) -> str:
    return f"{patients} patient{'s' if patients > 1 else ''}"


def _refuse_leak(
    run: RunFolder,
    number: int,
    conflicts: Sequence[tuple[int, int, int]],
    finished: Sequence[int],
) -> DataError:
    fold, in_test, in_val = conflicts[0]
    if in_test:
        harm = f"{_count(in_test)} whom fold {number} tests on, so the test would not be one"
    else:
        harm = (
            f"{_count(in_val)} on whom fold {number} is to choose its epoch and operating point, "
            "known by heart by then"
        )
    others = "" if len(conflicts) == 1 else f", and none of its other {len(conflicts) - 1} is clean"
    return DataError(
        f"Fold {number} cannot be started from {run.path.name}: its fold {fold} has seen {harm}"
        f"{others} (finished folds: {', '.join(map(str, finished))}). Train both runs with the "
        "same manifest, `data.splits` and `seed`; fold k then starts from fold k.",
        code="init_leakage",
        files=[run.path],
    )
