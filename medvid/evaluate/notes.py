"""Sentences that belong beside the numbers: in metrics.json, on the terminal and in the report."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from medvid.evaluate.intervals import EXACT
from medvid.evaluate.measure import OF_ANY, list_present
from medvid.evaluate.predictions import Outcomes

MACRO = ("auc", "average_precision", "balanced_accuracy")
"""Means over the classes, where there are more than two."""


def name_averaged(metrics: MutableMapping[str, dict[str, Any]], outcomes: Outcomes) -> None:
    """Says in the method of an average over classes or findings which of them it leaves out."""
    present = [outcomes.classes[k] for k in list_present(outcomes)]
    if len(present) == len(outcomes.classes) or is_binary(outcomes) or not present:
        return
    named = ", ".join(present)
    averaged = set(metrics) - OF_ANY if outcomes.multilabel else MACRO
    for name in averaged:
        metrics[name]["method"] += f"; mean over {named} only"


def list_notes(result: Mapping[str, Any], outcomes: Outcomes) -> list[str]:
    """Returns the sentences that a reader of the numbers needs."""
    return [
        *_note_absent(outcomes),
        *_note_exact(result["metrics"]),
        *_note_folds(result["within_folds"], result["metrics"]),
    ]


def _note_absent(outcomes: Outcomes) -> list[str]:
    present = [outcomes.classes[k] for k in list_present(outcomes)]
    absent = [name for name in outcomes.classes if name not in present]
    if not absent or is_binary(outcomes):
        return []
    named, left = ", ".join(absent), ", ".join(present) or "none"
    if outcomes.multilabel:
        return [
            f"Not both present and absent among these cases: {named}. Averages over findings that "
            f"need both, such as the AUC, are over the others: {left}."
        ]
    return [
        f"No case of these classes: {named}. AUC, average precision and balanced accuracy are "
        f"means over the classes present: {left}."
    ]


def _note_exact(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    exact = [name for name, entry in metrics.items() if entry["method"].startswith(EXACT)]
    if not exact:
        return []
    return [
        f"The bootstrap says nothing of {', '.join(exact)}, which came out alike in every "
        "resample: their intervals are exact ones (Clopper-Pearson) on independent patients or "
        "pairs of patients."
    ]


def _note_folds(
    folds: Mapping[str, Any] | None, metrics: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    if folds is None or folds["mean"] is None:
        return []
    pooled = metrics["auc"]["value"]
    beside = "" if pooled is None else f"; all folds pooled {pooled:.3f}"
    left = len(folds["folds"]) - folds["n_folds"]
    without = f" {left} more lack{'s' * (left == 1)} a class." if left else ""
    return [
        f"AUC within the folds: mean {folds['mean']:.3f}, SD {folds['sd']:.3f} over "
        f"{folds['n_folds']} folds{beside}.{without}"
    ]


def is_binary(outcomes: Outcomes) -> bool:
    """Says whether nothing is averaged over classes."""
    return not outcomes.multilabel and len(outcomes.classes) == 2
