"""How numbers, intervals and names are said on every page."""

from collections.abc import Mapping
from typing import Any

NAMES = {
    "auc": "AUC",
    "auc_within_folds": "AUC, mean of the folds",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "f1": "F1",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Expected calibration error",
}

SMALLEST_P = 0.001  # journals print smaller ones as < .001

SAME_STEP = 0.05
"""Scans whose steps differ by less than 5 % of the median are said to have one; the rest of a
protocol's scatter is in the third digit."""

SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
"""SI prefixes of operations and parameters, largest first."""


def say_reach(window: int, result: Mapping[str, Any]) -> str:
    """Returns how far a window reaches in mm, such as `90` or `18 to 90`; empty if unknown.

    Args:
        window: slices.
        result: of the study: `step_mm` of the median scan, and `steps_mm` of the scans whose slices
            lie closest and furthest apart, which results of earlier versions lack.
    """
    step = result.get("step_mm")
    if not step:
        return ""
    low, high = result.get("steps_mm") or (step, step)
    if high - low <= SAME_STEP * step:
        low = high = step
    ends = [f"{(window - 1) * one:.4g}" for one in (low, high)]
    return " to ".join(dict.fromkeys(ends))


def say_number(value: float | int | None, form: str = ".3f") -> str:
    """Returns a value, `undefined` for None."""
    return "undefined" if value is None else format(value, form)


def say_interval(entry: Mapping[str, Any], form: str = ".3f") -> str:
    """Returns the interval of an entry with `low` and `high`, `none` where there is none."""
    if entry.get("low") is None or entry.get("high") is None:
        return "none"
    return f"{say_number(entry['low'], form)} to {say_number(entry['high'], form)}"


def say_estimate(entry: Mapping[str, Any]) -> str:
    """Returns a value with its interval, such as `0.912 (0.871 to 0.946)`."""
    value = say_number(entry.get("value"))
    interval = say_interval(entry)
    return value if interval == "none" else f"{value} ({interval})"


def say_p(p: float | int | None, equal: str = "") -> str:
    """Returns a p value as journals print it; empty for None."""
    if p is None:
        return ""
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{equal}{p:.3f}"


def say_quantity(value: float | int | None) -> str:
    """Returns a count in three figures with an SI prefix, such as `1.23 M`."""
    if value is None:
        return ""
    for scale, prefix in SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g}"


def say_count(number: int, one: str, several: str = "") -> str:
    """Returns a number with its noun, such as `1 case` or `2 cases`."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def list_measures(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of a table of metrics."""
    return [
        {
            "name": NAMES.get(name, name),
            "value": say_number(entry["value"]),
            "interval": say_interval(entry),
            "n": entry["n"],
            "reason": "; ".join(filter(None, (entry.get("note"), entry.get("reason")))),
        }
        for name, entry in metrics.items()
    ]
