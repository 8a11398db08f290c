"""`medvid test` and `medvid predict`: a finished run on other data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from medvid.config import read_config
from medvid.contract import DataError, MedvidError, Record
from medvid.data.manifest import write_refused
from medvid.evaluate import evaluate_predictions, write_predictions
from medvid.io.scan import ScanRow, scan_tree
from medvid.jobs.messages import say, show_progress
from medvid.jobs.network import data_of, load_network
from medvid.jobs.task import TaskData, open_data
from medvid.train.predict import predict_loader
from medvid.train.runfolder import RunFolder, open_run_folder, write_json


@dataclass(frozen=True)
class Predicted:
    """What came of a set of scans.

    Args:
        table: a row a case (and frame): the mean of the folds' probabilities, and the decision.
        refused: what could not be read, with the reason.
    """

    table: pd.DataFrame
    refused: tuple[tuple[Record, MedvidError], ...]


def apply_locked(
    run_path: Path,
    *,
    manifest: Path | None = None,
    store: str | None = None,
    resamples: int = 2000,
    console: Console | None = None,
) -> Path:
    """Applies the locked models of a run to other labelled data.

    Args:
        run_path: the run folder.
        manifest: a table of labelled cases; None takes the run's own manifest, which measures
            nothing new and is of use only to check a copy of a run.
        store: folder for decoded stacks.
        resamples: of the bootstrap.
        console: where progress is shown.

    Returns:
        The new folder inside the run: predictions.csv, metrics.json, refused.csv.

    Raises:
        DataError: for cases or labels that the run cannot be applied to.
    """
    run = open_run_folder(run_path)
    config = read_config(run.config)
    table = manifest or run.manifest
    data_section = dict(config["data"]) | {
        "manifest": str(table),
        "source": "table",
        "source_options": None,
        "on_bad": "quarantine",
        "classes": None,
    }
    records = open_data({**config, "data": data_section}).records
    predicted = predict_records(run, records, store=store, console=console)
    folder = run.path / f"test_{table.stem}"
    folder.mkdir(exist_ok=True)
    write_predictions(predicted.table, folder / "predictions.csv")
    write_refused(folder / "refused.csv", predicted.refused)
    thresholds = predicted.table.attrs.get("threshold")
    metrics = evaluate_predictions(
        predicted.table,
        positive=config["evaluate"]["positive"],
        thresholds=thresholds,
        threshold_method="the run's own, mean of its folds",
        resamples=resamples,
    )
    write_json(folder / "metrics.json", metrics)
    return folder


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
        paths: files, or folders that are searched.
        store: folder for decoded stacks.
        console: where progress is shown.

    Raises:
        DataError: when nothing readable is found at all.
    """
    run = open_run_folder(run_path)
    found, refused = find_cases(paths)
    if not found:
        reason = refused[0][1].message if refused else "no scan and no video lies there"
        raise DataError(
            f"Nothing can be predicted at {', '.join(map(str, paths))}: {reason}",
            code="nothing_found",
            files=[str(path) for path in paths],
        )
    predicted = predict_records(run, found, store=store, console=console)
    return Predicted(predicted.table, (*refused, *predicted.refused))


def find_cases(
    paths: Sequence[Path],
) -> tuple[list[Record], list[tuple[Record, MedvidError]]]:
    """Lists every stack below some paths as a record, and what was refused with its reason."""
    found: list[Record] = []
    refused: list[tuple[Record, MedvidError]] = []
    for path in paths:
        if not path.exists():
            error = DataError(f"{path} does not exist.", code="missing_file", files=[path])
            refused.append((Record(str(path), "", str(path)), error))
            continue
        for row in scan_tree(path):
            if row.verdict == "ignored":
                continue
            record = _record_of(row)
            if row.verdict == "ok":
                found.append(record)
            else:
                error = DataError(row.reason, code=row.code, files=row.files)
                refused.append((record, error))
    return found, refused


def _record_of(row: ScanRow) -> Record:
    case = f"{row.path}#{row.series}" if row.series else str(row.path)
    return Record(
        case_id=case,
        patient_id=row.patient_id or case,
        path=str(row.path),
        series=row.series or None,
    )


def predict_records(
    run: RunFolder,
    records: Sequence[Record],
    *,
    store: str | None,
    console: Console | None,
) -> Predicted:
    """Averages the probabilities of all folds' models over the records that can be read.

    Raises:
        DataError: when the run has no finished fold, or no record can be read.
    """
    checkpoints = sorted(run.path.glob("fold_*/best.ckpt"))
    if not checkpoints:
        raise DataError(
            f"{run.path} has no finished fold. Go on with `medvid train --resume {run.path}`.",
            code="no_model",
            files=[run.path],
        )
    tables, thresholds = [], []
    refused: tuple[tuple[Record, MedvidError], ...] = ()
    data: TaskData | None = None
    for number, path in enumerate(checkpoints):
        network, meta = load_network(path)
        if data is None:
            data = _prepare(meta, records, store, console)
            refused = data.refused
        say(console, f"model {number + 1} of {len(checkpoints)}: {len(data.records)} cases")
        cases = [record.case_id for record in data.records]
        table = predict_loader(
            network,
            data.loader(cases, training=False, seed=0),
            classes=data.space.classes,
            multilabel=data.space.multilabel,
            dense=data.task == "slice" and hasattr(network, "frame_logits"),
        )
        tables.append(table)
        thresholds.append(meta.get("threshold"))
    return Predicted(_average(tables, meta, thresholds), refused)


def _prepare(
    meta: Mapping[str, Any],
    records: Sequence[Record],
    store: str | None,
    console: Console | None,
) -> TaskData:
    data = data_of(meta, records, store)
    with show_progress(console, "preparing scans") as progress:
        return data.prepare(progress)


def _average(
    tables: Sequence[pd.DataFrame], meta: Mapping[str, Any], thresholds: Sequence[float | None]
) -> pd.DataFrame:
    """Returns the mean of the folds' probabilities, and the call at their mean threshold."""
    columns = [str(column) for column in tables[0].columns]
    averaged = tables[0].drop(columns=[name for name in columns if name.startswith("logit_")])
    names = [name for name in columns if name.startswith("prob_")]
    averaged[names] = sum(table[names].to_numpy() for table in tables) / len(tables)
    classes = meta["classes"]
    known = [threshold for threshold in thresholds if threshold is not None]
    if meta["multilabel"]:
        return averaged
    if len(classes) == 2:
        threshold = sum(known) / len(known) if known else 0.5
        above = averaged[names[1]] >= threshold
        averaged["called"] = [classes[int(call)] for call in above]
        averaged["threshold"] = threshold
        averaged.attrs["threshold"] = threshold
        return averaged
    averaged["called"] = [classes[k] for k in averaged[names].to_numpy().argmax(axis=1)]
    return averaged
