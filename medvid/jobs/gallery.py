"""The pictures of a report's slice player: some cases as the network saw them, and where it looked.

They are made on request only: they hold pixels of patients.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console

from medvid.config import read_config
from medvid.context.cells import Cell
from medvid.contract import DataError, VideoModel
from medvid.evaluate import read_outcomes, read_predictions
from medvid.evaluate.measure import find_positive
from medvid.jobs.cell import list_study_arms, read_study
from medvid.jobs.messages import show_progress
from medvid.jobs.network import data_of, load_network
from medvid.jobs.resume import recall_config
from medvid.jobs.task import read_records, resolve_data
from medvid.report.html import check_finished
from medvid.train.explain import make_heat_map, score_slices
from medvid.train.runfolder import RunFolder, read_json, write_json

CONFIDENT_SHARE = 4
"""Of so many cases one is right and confident, to compare the errors with."""

SHOWN_TAILS = (0.5, 99.5)
"""Per cent of the clip's values that become black and white."""


@dataclass(frozen=True)
class Pick:
    """A case to be shown.

    Args:
        case_id: of the manifest.
        frame: the labelled frame, None where the whole case is labelled.
        label: the true class.
        prob: of the positive class.
        group: `false_positive`, `false_negative`, `confident` or `flipped`.
        checkpoint: the network that never saw the case.
    """

    case_id: str
    frame: int | None
    label: str
    prob: float
    group: str
    checkpoint: Path


def make_gallery(folder: Path, number: int, console: Console | None = None) -> int:
    """Writes `cases/`: frames, scores slice by slice and heat maps of some cases.

    Args:
        folder: a finished run of two classes, or a study.
        number: cases at most.
        console: where progress is shown.

    Returns:
        How many cases were made.

    Raises:
        DataError: when the scans or the networks are not there any more, or nothing is finished.
    """
    check_finished(folder)
    study = (folder / "study.json").is_file()
    picks = pick_flipped(folder, number) if study else pick_from_run(folder, number)
    config = read_study(folder) if study else recall_config(RunFolder(folder))
    records = {record.case_id: record for record in read_records(resolve_data(config))[0]}
    store = config["data"]["store"]
    beside = folder / "cases.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    index = []
    with show_progress(console, "looking at cases") as progress:
        for place, pick in enumerate(picks):
            if not pick.checkpoint.is_file():
                raise DataError(
                    f"{pick.checkpoint} is not there any more, so nobody can say where the network "
                    "looked. A gallery needs the networks of the run.",
                    code="no_checkpoint",
                    files=[pick.checkpoint],
                )
            arrays, entry = _look_at(pick, records[pick.case_id], store)
            name = f"case_{place:03d}.npz"
            np.savez_compressed(beside / name, **arrays)
            index.append({**entry, "file": name})
            progress(place + 1, len(picks))
    write_json(beside / "index.json", index)
    shutil.rmtree(folder / "cases", ignore_errors=True)
    beside.rename(folder / "cases")
    return len(index)


def pick_from_run(folder: Path, number: int) -> list[Pick]:
    """Picks the most confident errors of a run, and some confident right answers.

    Raises:
        DataError: for a run of more than two classes, or one that is not finished.
    """
    run = RunFolder(folder)
    table = read_predictions(run.predictions_oof)
    positive = _find_column(table, read_config(run.config)["evaluate"]["positive"])
    limits = read_json(run.metrics)["operating_point"]["threshold"]
    prob = table[f"prob_{positive}"].to_numpy()
    folds = table["fold"].to_numpy()
    limit = np.array(
        [limits[str(fold)] if isinstance(limits, dict) else float(limits) for fold in folds]
    )
    truth = (table["label"] == positive).fillna(False).to_numpy(dtype=bool)
    known = table["label"].notna().to_numpy()
    called = prob >= limit
    away = np.abs(prob - limit)
    make = partial(_make_pick, table, prob)
    wrong = _order(known & (called != truth), away)
    right = _order(known & (called == truth), away)
    room = max(1, number // CONFIDENT_SHARE)
    errors = wrong[: number - min(room, len(right))]
    return [
        make(row, "false_negative" if truth[row] else "false_positive", run.fold(int(folds[row])))
        for row in errors
    ] + [
        make(row, "confident", run.fold(int(folds[row])))
        for row in right[: max(0, min(room, number - len(errors)))]
    ]


def pick_flipped(folder: Path, number: int) -> list[Pick]:
    """Picks the cases whose answer the window changed most, for the widest window's network.

    Raises:
        DataError: for a study that is not finished.
    """
    config, result = read_study(folder), read_json(folder / "result.json")
    widest = [arm.name for arm in list_study_arms(config) if arm.kind == "window"][-1]
    table = read_predictions(folder / "predictions" / f"{widest}.csv")
    first = table[table["seed"] == config["seed"]]
    fold_of = dict(zip(first["case_id"], first["fold"], strict=True))
    return [
        Pick(
            case_id=one["case_id"],
            frame=one.get("frame"),
            label=one["label"],
            prob=one["wide"],
            group="flipped",
            checkpoint=Cell(widest, config["seed"], int(fold_of[one["case_id"]])).folder(folder)
            / "best.ckpt",
        )
        for one in result["flipped"][:number]
    ]


def _find_column(table: pd.DataFrame, positive: str | None) -> str:
    outcomes = read_outcomes(table)
    if outcomes.multilabel or len(outcomes.classes) != 2:
        raise DataError(
            "A gallery shows errors of a task of two classes, and this run has "
            f"{len(outcomes.classes)}. Leave `--gallery` out.",
            code="not_binary",
        )
    return outcomes.classes[find_positive(outcomes.classes, positive)]


def _order(rows: NDArray[np.bool_], away: NDArray[np.float64]) -> list[int]:
    found = np.flatnonzero(rows)
    return [int(row) for row in found[np.argsort(-away[found], kind="stable")]]


def _make_pick(
    table: pd.DataFrame, prob: NDArray[np.float64], row: int, group: str, fold: Path
) -> Pick:
    held = table.iloc[row]
    frame = int(held["frame"]) if "frame" in table and held["frame"] >= 0 else None
    return Pick(
        case_id=str(held["case_id"]),
        frame=frame,
        label=str(held["label"]),
        prob=float(prob[row]),
        group=group,
        checkpoint=fold / "best.ckpt",
    )


def _look_at(pick: Pick, record: Any, store: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arrays of a case, and its entry in index.json."""
    network, meta = load_network(pick.checkpoint)
    data = data_of(meta, [record], store)
    dataset = data.dataset([record.case_id], training=False, seed=0)
    places = (k for k, item in enumerate(dataset.items) if item.frame == pick.frame)
    place = next(places, None)  # None: every slice of a clip is scored in one pass
    clip, mask, window = _choose_clip(dataset[place or 0], pick.frame)
    dense = data.task == "slice" and place is None
    classes: Sequence[str] = meta["classes"]
    column = classes.index(meta["positive"]) if meta.get("positive") else len(classes) - 1
    arrays: dict[str, Any] = {"frames": _to_grey(clip[0])}
    title, scores, heat = "", None, None
    if tuple(cast("VideoModel", network).modalities) == ("clip",):  # others are not explained
        title, scores = score_slices(network, clip, mask, column, dense=dense)
        heat = None if dense else make_heat_map(network, clip, mask, column)
    if heat is not None:
        arrays["heat"] = (255 * heat).round().to(torch.uint8).numpy()
    return arrays, {
        "case_id": pick.case_id,
        **({} if pick.frame is None else {"frame": pick.frame}),
        "label": pick.label,
        "prob": pick.prob,
        "group": pick.group,
        "frames": window.tolist(),
        **({} if scores is None else {"scores": {"title": title, "values": scores}}),
    }


def _choose_clip(
    sample: dict[str, Any], frame: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns clip, mask and window of a sample; of several clips the one around the frame.

    Where no frame is asked for it is the middle clip.
    """
    clip, mask, window = sample["clip"], sample["mask"], sample["window"]
    if clip.ndim == 4:
        return clip, mask, window
    chosen = len(clip) // 2
    if frame is not None:
        # The farther a slice lies from the edge of its clip, the more of its neighbours are seen.
        t = window.shape[1]
        depth = torch.tensor([min(k, t - 1 - k) for k in range(t)])
        shown = (window == frame) & mask
        chosen = int(torch.where(shown, depth, -1).amax(dim=1).argmax())
    return clip[chosen], mask[chosen], window[chosen]


def _to_grey(frames: torch.Tensor) -> NDArray[np.uint8]:
    values = frames.numpy()
    low, high = np.percentile(values, SHOWN_TAILS)
    shown = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1)
    return np.asarray(np.rint(255 * shown), dtype=np.uint8)
