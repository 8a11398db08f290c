"""From a model and a loader to the table of predictions.

A plain loop, without a Trainer. Validation during training runs through the same function, so that
the number of an epoch is the number of its predictions.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from medvid.evaluate.fusion import fuse_clips
from medvid.train.forward import Batch, is_dense, score_clips

Average = Literal["probability", "logit", "sci", "sci_max"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
SMALLEST_CHANCE = float(np.finfo(np.float64).tiny)
"""Below it a weighted mean of probabilities has no logarithm."""

Key = tuple[str, int]
"""(case_id, frame); frame is -1 where a prediction belongs to the whole item."""


Clip = tuple[int, ...]
"""The frames of a clip, by which its crops are told from those of other clips."""


@dataclass
class Scores:
    """The logits of one (case, frame), one vector for every clip or crop that showed it."""

    patient_id: str
    label: Any = None  # int, or a vector of 0, 1 and NaN; None when the batch has no labels
    logits: list[NDArray[np.float64]] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)  # of which each is a crop


def predict_loader(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    classes: Sequence[str],
    multilabel: bool,
    device: str = "auto",
    precision: Precision = "32",
    average: Average = "probability",
    dense: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Returns the predictions for every item of a loader.

    One row a case, or a (case, frame). Several clips or crops of it, in one item or in several,
    are averaged: by default their probabilities. The columns `logit_*` are then the logarithm of
    the averaged probability (for several findings its log odds), so that softmax (sigmoid) of the
    logits always gives the column `prob_*`. A single clip keeps the model's own logits.

    Args:
        model: a `VideoModel`; its training mode is left as it was.
        loader: batches as `medvid.data` makes them.
        classes: names, in the order of the logits.
        multilabel: several findings an item (sigmoid) instead of one class (softmax).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: of the model's arithmetic; averaging is always in float64.
        average: what is averaged over clips: `probability`; `logit`, the geometric mean of the
            probabilities; `sci`, probabilities weighted by how concentrated each clip's are
            (FSTCN's fusion of crops, over all clips and crops alike); `sci_max`, the same over
            the crops of each clip and of every class its highest over the clips (FSTCN's whole
            test), brought to the sum 1.
        dense: score every frame; None does so when the labels are per frame.
        progress: called with the number of batches done.

    Returns:
        Columns case_id, patient_id, [frame,] then label, prob_<class>..., logit_<class>...; for
        several findings label_<name>... instead of label. Label columns are there when the
        batches have labels; an unknown label is empty.
    """
    place = choose_device(device)
    model.to(place)
    scores: dict[Key, Scores] = {}
    with evaluating(model), torch.inference_mode(), autocast(place, precision):
        for done, batch in enumerate(loader, start=1):
            collect_scores(scores, model, move_batch(batch, place), multilabel, dense)
            if progress is not None:
                progress(done)
    return tabulate_scores(scores, classes, multilabel=multilabel, average=average)


def collect_scores(
    scores: dict[Key, Scores],
    model: nn.Module,
    batch: Batch,
    multilabel: bool,
    dense: bool | None = None,
) -> None:
    """Adds the logits of one batch to `scores`."""
    label: Tensor | None = batch.get("label")
    label_is_dense = label is not None and is_dense(label, multilabel=multilabel)
    by_frame = label_is_dense if dense is None else dense
    logits = score_clips(model, batch, dense=by_frame).float().cpu().double().numpy()
    labels = None if label is None else label.cpu().numpy()
    frames = batch["frame"].tolist() if "frame" in batch else [-1] * len(logits)
    for item, case_id in enumerate(batch["case_id"]):
        patient_id = batch["patient_id"][item]
        own = None if labels is None or label_is_dense else labels[item]
        if not by_frame:
            found = scores.setdefault((case_id, frames[item]), Scores(patient_id, own))
            found.logits.extend(logits[item])
            found.clips.extend(_name_clips(batch, item, len(logits[item])))
            continue
        for clip, position, frame in _shown_frames(batch, item):
            if label_is_dense and labels is not None:
                own = labels[item, clip, position] if _has_clips(batch) else labels[item, position]
            found = scores.setdefault((case_id, frame), Scores(patient_id, own))
            found.logits.append(logits[item, clip, position])
            found.clips.append(_name_clips(batch, item, len(logits[item]))[clip])


def tabulate_scores(
    scores: dict[Key, Scores],
    classes: Sequence[str],
    *,
    multilabel: bool,
    average: Average = "probability",
) -> pd.DataFrame:
    """Returns the table of predictions, see `predict_loader`."""
    rows = list(scores.values())
    logits = np.array(
        [average_logits(np.stack(row.logits), multilabel, average, row.clips) for row in rows]
    ).reshape(len(rows), len(classes))
    columns: dict[str, Any] = {
        "case_id": [case_id for case_id, _ in scores],
        "patient_id": [row.patient_id for row in rows],
    }
    frames = [frame for _, frame in scores]
    if any(frame >= 0 for frame in frames):
        columns["frame"] = frames
    columns |= _label_columns(rows, classes, multilabel)
    chances = to_probabilities(logits, multilabel)
    columns |= {f"prob_{name}": chances[:, k] for k, name in enumerate(classes)}
    columns |= {f"logit_{name}": logits[:, k] for k, name in enumerate(classes)}
    return pd.DataFrame(columns)


def average_logits(
    logits: Float[np.ndarray, "views classes"],
    multilabel: bool,
    average: Average,
    clips: Sequence[Clip] | None = None,
) -> Float[np.ndarray, " classes"]:
    """Averages the clips and crops of one row.

    One alone keeps its logits. The average of probabilities is computed in the logarithm, where a
    probability that rounds to 0 or 1 still has its place.

    Args:
        logits: of every clip, or crop of one.
        multilabel: several findings an item.
        average: see `predict_loader`.
        clips: which clip each is a crop of, for `sci_max`; None: each is a clip.
    """
    views = len(logits)
    if views == 1:
        return logits[0]
    if average == "logit":
        return logits.mean(axis=0)
    if average == "sci":
        return _fuse_by_concentration(logits, multilabel, [(0,)] * views)
    if average == "sci_max":
        return _fuse_by_concentration(logits, multilabel, clips or [(k,) for k in range(views)])
    if multilabel:
        present = np.logaddexp.reduce(-np.logaddexp(0, -logits), axis=0)
        absent = np.logaddexp.reduce(-np.logaddexp(0, logits), axis=0)
        return present - absent
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return np.logaddexp.reduce(log_p, axis=0) - np.log(views)


def _fuse_by_concentration(
    logits: Float[np.ndarray, "views classes"], multilabel: bool, clips: Sequence[Clip]
) -> Float[np.ndarray, " classes"]:
    chances = to_probabilities(logits, multilabel)
    crops = [np.flatnonzero([one == clip for one in clips]) for clip in dict.fromkeys(clips)]
    if not multilabel:
        fused = fuse_clips([chances[rows] for rows in crops])
        return np.log(np.clip(fused / fused.sum(), SMALLEST_CHANCE, None))
    odds = []
    for present in chances.T:  # every finding is a task of two classes
        pair = np.stack([1 - present, present], axis=1)
        absent, there = np.clip(fuse_clips([pair[rows] for rows in crops]), SMALLEST_CHANCE, None)
        odds.append(np.log(there) - np.log(absent))
    return np.array(odds)


def to_probabilities(
    logits: Float[np.ndarray, "rows classes"], multilabel: bool
) -> Float[np.ndarray, "rows classes"]:
    """Returns softmax over the classes, or sigmoid of every finding."""
    if multilabel:
        return np.exp(-np.logaddexp(0, -logits))
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def choose_device(device: str) -> torch.device:
    """Returns the device that is meant; `auto` takes CUDA, then Apple's GPU, then the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def move_batch(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Returns the batch with its tensors on `device`."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Returns the context in which a model computes in `precision`."""
    if precision == "32":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Any:
    """Puts a model into eval mode, and every part of it back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def _has_clips(batch: Batch) -> bool:
    return bool(batch["clip"].ndim == 6)


def _name_clips(batch: Batch, item: int, views: int) -> list[Clip]:
    """Returns which clip each view of an item shows; without `window` each is one."""
    if "window" not in batch or views == 1:
        return [(view,) for view in range(views)]
    return [tuple(frames) for frames in batch["window"][item].tolist()]


def _shown_frames(batch: Batch, item: int) -> Iterable[tuple[int, int, int]]:
    """Yields (clip, position in the clip, frame of the stack) of all frames but padding."""
    window, mask = batch["window"][item], batch["mask"][item]
    if not _has_clips(batch):
        window, mask = window[None], mask[None]
    for clip, position in mask.nonzero().tolist():
        yield clip, position, int(window[clip, position])


def _label_columns(
    rows: Sequence[Scores], classes: Sequence[str], multilabel: bool
) -> dict[str, Any]:
    if not rows or rows[0].label is None:
        return {}
    if not multilabel:
        names = [classes[row.label] if row.label >= 0 else None for row in rows]
        return {"label": pd.array(names, dtype="string")}
    labels = np.stack([row.label for row in rows])
    # Int64 knows missing values: the CSV says 1, 0 or nothing, and not 1.0.
    return {
        f"label_{name}": pd.Series(labels[:, k]).astype("Int64") for k, name in enumerate(classes)
    }
