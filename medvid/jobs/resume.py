"""A run goes on with the cases that it began with, or not at all.

The user's manifest may have changed since: a row deleted, labels mended. Half of a run's folds
would then have been trained on one data set and half on another, and nobody could tell from the
result. So a run goes on from its own copy of the manifest, and only while the files are the same.
"""

from collections.abc import Sequence
from pathlib import Path

from medvid.config import Config, read_config
from medvid.contract import DataError, Record
from medvid.data.fingerprint import fingerprint_records
from medvid.data.manifest import change_paths, write_manifest
from medvid.data.splits import Fold
from medvid.jobs.task import TaskData
from medvid.train.runfolder import RunFolder, hash_file, read_json, write_json, write_text_atomic


def note_cases(run: RunFolder, records: Sequence[Record]) -> None:
    """Writes the run's own manifest, and by what its cases are known again."""
    # A source may name its files from the current folder; the run must go on from any other.
    anchored = [change_paths(record, Path.absolute) for record in records]
    write_manifest(run.manifest, anchored)
    digest = hash_file(run.manifest)
    write_text_atomic(run.manifest_digest, f"{digest}  {run.manifest.name}\n")
    prints = fingerprint_records(records)
    write_json(run.fingerprints, {record.case_id: prints[record.case_id] for record in records})


def recall_config(run: RunFolder) -> Config:
    """Returns a run's config, with its data taken from the run's own manifest.

    Raises:
        DataError: when the manifest is not what the run wrote.
    """
    return recall_cases(run, read_config(run.config))


def recall_cases(run: RunFolder, config: Config) -> Config:
    """Returns a config whose data are those of the run's own manifest.

    Raises:
        DataError: when the manifest is not what the run wrote.
    """
    if not run.manifest.is_file():
        raise DataError(
            f"{run.path} cannot go on: its manifest.csv is missing, so nobody knows its cases.",
            code="no_file",
            files=[run.manifest],
        )
    if run.manifest_digest.is_file():  # runs of earlier versions have none
        noted = run.manifest_digest.read_text(encoding="utf-8").split()[0]
        if noted != hash_file(run.manifest):
            raise DataError(
                f"{run.manifest} was changed since the run began, so its folds would be of "
                "different data. Undo the change, or start a new run with the new manifest.",
                code="changed_manifest",
                files=[run.manifest],
            )
    data = config["data"]
    own = {
        "manifest": str(run.manifest.absolute()),
        "source": "table",
        "source_options": None,
        # Lets the check below name every case; none is left out.
        "on_bad": "quarantine",
        # What a series is made of stays as it was.
        "on_bad_images": data.get("on_bad_images") or data.get("on_bad", "stop"),
    }
    return {**config, "data": {**data, **own}}


def check_unchanged(run: RunFolder, data: TaskData, folds: Sequence[Fold]) -> None:
    """Makes sure that a run goes on with all its cases, and with the same files.

    Args:
        run: the run that goes on.
        data: of its config, prepared.
        folds: of its splits.json.

    Raises:
        DataError: for the first case that is missing, unreadable or changed; names it.
    """
    for record, error in data.refused:
        raise _refuse(run, record.case_id, f"cannot be read any more: {error.message}")
    noted = read_json(run.fingerprints)
    held = {record.case_id: record for record in data.records}
    wanted = {case for fold in folds for side in fold.sides().values() for case in side}
    for case in sorted(wanted | set(noted)):
        if case not in held:
            raise _refuse(run, case, "is in the run's splits, but not in its manifest.csv.")
    prints = fingerprint_records(data.records)
    for record in data.records:
        if record.case_id not in noted:
            raise _refuse(run, record.case_id, "was not there when the run began.")
        if noted[record.case_id] != prints[record.case_id]:
            what = f"has changed: {record.path} is not of the same size and date any more."
            raise _refuse(run, record.case_id, what)


def _refuse(run: RunFolder, case: str, what: str) -> DataError:
    return DataError(
        f"{run.path} cannot go on: case {case} {what} The folds would be of different data. Put "
        "back what was there, or start a new run.",
        code="changed_case",
        files=[run.manifest],
    )
