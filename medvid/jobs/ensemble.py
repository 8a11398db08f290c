"""The folds of a run as one model: mean probabilities, and one operating point."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from medvid.config import Config
from medvid.evaluate.measure import find_positive
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.ties import settle_probabilities


class OperatingPoint(NamedTuple):
    """The threshold that turns the mean probability of `positive` into a decision."""

    positive: str
    threshold: float
    method: str


def find_operating_point(
    metas: Sequence[Mapping[str, Any]], config: Config
) -> OperatingPoint | None:
    """Returns the mean of the folds' thresholds; None where there is nothing to decide by one.

    Args:
        metas: what the folds' checkpoints say of themselves.
        config: of their run.
    """
    classes = metas[0]["classes"]
    if metas[0]["multilabel"] or len(classes) != 2:
        return None
    evaluate = config["evaluate"]
    # Checkpoints of earlier versions do not say it themselves.
    positive = metas[0].get("positive") or classes[find_positive(classes, evaluate["positive"])]
    whys = [str(meta["threshold_fallback"]) for meta in metas if meta.get("threshold_fallback")]
    chosen = [
        float(meta["threshold"])
        for meta in metas
        if meta.get("threshold") is not None and not meta.get("threshold_fallback")
    ]
    if chosen:
        rule = evaluate["operating_point"]
        method = f"{rule}, mean of {len(chosen)} of the run's folds"
        return OperatingPoint(positive, sum(chosen) / len(chosen), method)
    why = whys[0] if whys else f"{DEFAULT_THRESHOLD}, since the run has chosen no operating point"
    return OperatingPoint(positive, DEFAULT_THRESHOLD, f"by default {why}")


def average_tables(
    tables: Sequence[pd.DataFrame], meta: Mapping[str, Any], point: OperatingPoint | None
) -> pd.DataFrame:
    """Returns the mean of the folds' probabilities, and the decision.

    It is decided on the mean as metrics see it, see `medvid.evaluate.ties`, so that `called` is
    what the confusion matrix of the same table counts.

    Args:
        tables: one a fold, of the same rows.
        meta: what one of the checkpoints says of itself.
        point: None decides by the largest probability; several findings are not decided on.
    """
    columns = [str(column) for column in tables[0].columns]
    averaged = tables[0].drop(columns=[name for name in columns if name.startswith("logit_")])
    names = [name for name in columns if name.startswith("prob_")]
    averaged[names] = sum(table[names].to_numpy() for table in tables) / len(tables)
    classes = meta["classes"]
    if meta["multilabel"]:
        return averaged
    settled = settle_probabilities(averaged[names].to_numpy(dtype="float64"))
    if point is None:
        averaged["called"] = [classes[k] for k in settled.argmax(axis=1)]
        return averaged
    (other,) = (name for name in classes if name != point.positive)
    above = settled[:, names.index(f"prob_{point.positive}")] >= point.threshold
    averaged["called"] = [point.positive if call else other for call in above]
    averaged["threshold"] = point.threshold
    averaged["threshold_method"] = point.method
    averaged.attrs["operating_point"] = point
    return averaged
