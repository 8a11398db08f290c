"""`medvid test` and `medvid predict`: a finished run on other data."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from medvid.config import read_config
from medvid.contract import DataError, MedvidError, Record
from medvid.data.labels import LabelSpace, list_labels
from medvid.data.manifest import write_refused
from medvid.evaluate import evaluate_predictions, write_predictions
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.io.scan import ScanRow, scan_tree
from medvid.io.series_list import ENDING
from medvid.jobs.clip_length import leave_out_unfit
from medvid.jobs.ensemble import OperatingPoint, average_tables, find_operating_point
from medvid.jobs.lineage import find_known
from medvid.jobs.messages import say, show_progress
from medvid.jobs.network import data_of, load_network, space_of
from medvid.jobs.outputs import claim_folder
from medvid.jobs.task import TaskData
from medvid.sources import load_adapter
from medvid.train.checkpoint import load_checkpoint
from medvid.train.predict import predict_loader
from medvid.train.runfolder import (
    RunFolder,
    make_new_folder,
    open_run_folder,
    read_json,
    write_json,
)


@dataclass(frozen=True)
class Predicted:
    """What came of a set of scans.

    Args:
        table: a row a case (and frame): the mean of the folds' probabilities, and the decision.
        refused: what could not be read, with the reason.
        notes: what to know of the models, one sentence each.
    """

    table: pd.DataFrame
    refused: tuple[tuple[Record, MedvidError], ...]
    notes: tuple[str, ...] = ()


def apply_locked(
    run_path: Path,
    *,
    manifest: Path | None = None,
    store: str | None = None,
    resamples: int | None = None,
    console: Console | None = None,
) -> Path:
    """Applies the locked models of a run to other labelled data.

    Args:
        run_path: the run folder.
        manifest: a table of labelled cases; None takes the run's own manifest, which measures
            nothing new and is of use only to check a copy of a run.
        store: folder for decoded stacks.
        resamples: of the bootstrap; None takes the run's own.
        console: where progress is shown.

    Returns:
        The new folder inside the run: predictions.csv, metrics.json, refused.csv, manifest.txt.
        A second test of a manifest of the same name gets a folder of its own.

    Raises:
        DataError: for cases or labels that the run cannot be applied to.
    """
    run = open_run_folder(run_path)
    claim_folder(run.path)
    config = read_config(run.config)
    table = manifest or run.manifest
    first = load_checkpoint(_list_models(run)[0])["medvid"]
    records = _read_labelled(table, space_of(first), run)
    known = _explain_known(run, records)
    for note in known:
        say(console, note)
    predicted = predict_records(run, records, store=store, console=console)
    folder = make_new_folder(run.path, f"test_{table.stem}")
    (folder / "manifest.txt").write_text(f"{table.absolute()}\n", encoding="utf-8")
    write_predictions(predicted.table, folder / "predictions.csv")
    write_refused(folder / "refused.csv", predicted.refused)
    point: OperatingPoint | None = predicted.table.attrs.get("operating_point")
    evaluate = config["evaluate"]
    metrics = evaluate_predictions(
        predicted.table,
        positive=evaluate["positive"] if point is None else point.positive,
        thresholds=None if point is None else point.threshold,
        threshold_method=f"fixed at {DEFAULT_THRESHOLD}" if point is None else point.method,
        resamples=evaluate["resamples"] if resamples is None else resamples,
        level=evaluate["level"],
        notes=(*known, *predicted.notes),
    )
    write_json(folder / "metrics.json", metrics)
    return folder


def _explain_known(run: RunFolder, records: Sequence[Record]) -> list[str]:
    """Says how many of the patients the run knows already: on them nothing new is measured."""
    present = [record for record in records if Path(record.path).exists()]
    patients = {record.patient_id for record in present}
    try:
        known = find_known(run, present)
    except DataError as error:
        return [f"Whether the run was trained on these patients is not known: {error.message}"]
    if not known:
        return []
    return [
        f"The run was trained, or chose its epochs, on {len(known)} of these {len(patients)} "
        "patients (the same patient_id or file), so this is no test on new patients. Leave them "
        "out of the table to get one."
    ]


def _read_labelled(table: Path, space: LabelSpace, run: RunFolder) -> tuple[Record, ...]:
    """Reads a table whose labels are of the run's classes; not all of them need be there."""
    records = tuple(load_adapter("table").records(table, check_files=False))
    labelled = tuple(record for record in records if list_labels(record))
    if not labelled:
        raise DataError(
            f"{table} has no label, so there is nothing to measure. Add a column `label`, or "
            f"predict without labels: medvid predict {run.path} PATH",
            code="no_label",
            files=[table],
        )
    for record in labelled:
        for label in list_labels(record):
            try:
                space.encode(label)
            except DataError as error:
                raise DataError(
                    f"{table}, case {record.case_id}: {error.message} The run was trained on "
                    f"{', '.join(space.classes)}.",
                    code=error.code,
                    files=[table],
                ) from None
    return records


def predict(
    run_path: Path,
    paths: Sequence[Path],
    *,
    store: str | None = None,
    console: Console | None = None,
) -> Predicted:
    """Predicts every scan and video found at the given places.

    Args:
        run_path: the run folder.
        paths: files, or folders that are searched; or tables (.csv) of cases, as manifests are,
            with or without labels; or lists of the files of a series (.series). What is named
            twice is predicted once.
        store: folder for decoded stacks; None keeps no copy of them.
        console: where progress is shown.

    Raises:
        DataError: when nothing readable is found at all, or the run needs more than scans.
    """
    run = open_run_folder(run_path)
    options = load_checkpoint(_list_models(run)[0])["medvid"]["data"]
    found, refused = find_cases(paths, options)
    _refuse_bare_scans(run, found)
    if not found:
        reason = refused[0][1].message if refused else "no scan and no video lies there"
        raise DataError(
            f"Nothing can be predicted at {', '.join(map(str, paths))}: {reason}",
            code="nothing_found",
            files=[str(path) for path in paths],
        )
    with ExitStack() as stack:
        if store is None:
            # Windows does not delete a file that is still mapped; it goes with the next cleaning.
            store = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="medvid_", ignore_cleanup_errors=True)
            )
        predicted = predict_records(run, found, store=store, console=console)
    return Predicted(predicted.table, (*refused, *predicted.refused), predicted.notes)


def _refuse_bare_scans(run: RunFolder, found: Sequence[Record]) -> None:
    """Stops when a run needs to be told more than where scans lie, and only that was told."""
    options = read_config(run.config)["data"]
    if options["task"] == "region" and any(record.center is None for record in found):
        raise DataError(
            f"{run.path} is a run on regions: it looks at positions, and a scan alone has none. "
            "Write a table with case_id, patient_id, path, x_mm, y_mm and z_mm, and give it in "
            f"place of the scan: medvid predict {run.path} TABLE.csv",
            code="region_run",
            files=[run.path],
        )
    names = (options.get("channels") or {}).get("names") or []
    if names and any(not record.channels for record in found):
        columns = ", ".join(f"path_{name}" for name in names)
        raise DataError(
            f"{run.path} reads the channels {', '.join(names)} of every case, and a scan alone is "
            f"one of them. Write a table with case_id, patient_id, {columns}, and give it in place "
            f"of the scan: medvid predict {run.path} TABLE.csv",
            code="channels_run",
            files=[run.path],
        )


def find_cases(
    paths: Sequence[Path], options: Mapping[str, Any]
) -> tuple[list[Record], list[tuple[Record, MedvidError]]]:
    """Lists every stack below some paths as a record, and what was refused with its reason.

    A table among the paths gives its own cases; a list of the files of a series is one.

    Args:
        paths: files, folders, tables (.csv) and lists (.series).
        options: of the section `data`: what they make readable is no refusal.
    """
    found: list[Record] = []
    refused: list[tuple[Record, MedvidError]] = []
    seen: set[tuple[Path, str]] = set()
    for path in paths:
        if not path.exists():
            error = DataError(f"{path} does not exist.", code="missing_file", files=[path])
            refused.append((Record(str(path), "", str(path)), error))
            continue
        if path.suffix.lower() == ".csv":
            found.extend(load_adapter("table").records(path, check_files=False))
            continue
        if path.suffix == ENDING:
            if (path.resolve(), "") not in seen:
                seen.add((path.resolve(), ""))
                found.append(Record(str(path), str(path), str(path)))
            continue
        for row in scan_tree(path):
            place = (Path(row.path).resolve(), row.series)
            usable = row.verdict == "ok" or is_fixed(row, options)
            if row.verdict == "ignored" or (usable and place in seen):
                continue
            record = _record_of(row, path)
            if usable:
                seen.add(place)
                found.append(record)
            else:
                error = DataError(row.reason, code=row.code, files=row.files)
                refused.append((record, error))
    return found, refused


def is_fixed(row: ScanRow, options: Mapping[str, Any]) -> bool:
    """Whether the section `data` says what a fixable row needs."""
    said = {
        "on_gap": options.get("on_gap", "refuse") != "refuse",
        "on_bad": options.get("on_bad_images") == "quarantine",
    }
    needed = [fix.partition("=")[0] for fix in row.fix.split()]
    return bool(needed) and all(said.get(name, False) for name in needed)


def _record_of(row: ScanRow, given: Path) -> Record:
    # A row of a single image says in which folder it lies; a user who gave the file looks for it.
    place = str(given) if given.is_file() else row.path
    case = f"{place}#{row.series}" if row.series else place
    return Record(
        case_id=case,
        patient_id=row.patient_id or case,
        path=place,
        series=row.series or None,
    )


def _list_models(run: RunFolder) -> list[Path]:
    """Returns the models of the finished folds; a fold's best.ckpt is there long before its end."""
    models = [run.fold(number) / "best.ckpt" for number in run.list_finished_folds()]
    if not models:
        raise DataError(
            f"{run.path} has no finished fold. Go on with `medvid train --resume {run.path}`.",
            code="no_model",
            files=[run.path],
        )
    return models


def predict_records(
    run: RunFolder,
    records: Sequence[Record],
    *,
    store: str | None,
    console: Console | None,
) -> Predicted:
    """Averages the probabilities of the finished folds' models over the records that can be read.

    Raises:
        DataError: when the run has no finished fold, or no record can be read.
    """
    models = _list_models(run)
    notes = _explain_models(len(models), len(read_json(run.splits)))
    for note in notes:
        say(console, note)
    # A run of an earlier version does not say.
    average = (read_config(run.config).get("evaluate") or {}).get("average", "probability")
    tables, metas = [], []
    refused: tuple[tuple[Record, MedvidError], ...] = ()
    data: TaskData | None = None
    for number, path in enumerate(models):
        network, meta = load_network(path)
        if data is None:
            data = leave_out_unfit(network, _prepare(meta, records, store, console))
            refused = data.refused
        say(console, f"model {number + 1} of {len(models)}: {len(data.records)} cases")
        cases = [record.case_id for record in data.records]
        table = predict_loader(
            network,
            data.loader(cases, training=False, seed=0),
            classes=data.space.classes,
            multilabel=data.space.multilabel,
            average=average,
            dense=data.task == "slice" and hasattr(network, "frame_logits"),
        )
        tables.append(table)
        metas.append(meta)
    point = find_operating_point(metas, read_config(run.config))
    return Predicted(average_tables(tables, metas[0], point), refused, tuple(notes))


def _explain_models(used: int, folds: int) -> list[str]:
    if used == folds:
        return []
    return [
        f"Predicted with the models of {used} of {folds} folds: the run is not finished. "
        "`medvid train --resume` trains the others."
    ]


def _prepare(
    meta: Mapping[str, Any],
    records: Sequence[Record],
    store: str | None,
    console: Console | None,
) -> TaskData:
    data = data_of(meta, records, store)
    with show_progress(console, "preparing scans") as progress:
        return data.prepare(progress)
