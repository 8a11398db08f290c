"""Self-contained pages of one run (`report.html`) and of two runs compared (`comparison.html`).

They are written from the files of the run folder alone, so that a report can be made again on any
machine, without the images and without torch. Patients are counted, never named.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from medvid.contract import DataError
from medvid.evaluate import bin_reliability, read_outcomes, read_predictions, roc_band
from medvid.evaluate.measure import find_positive
from medvid.report.evidence import (
    count_refused,
    describe_partition,
    list_environment,
    read_json,
    read_rows,
    read_text,
)
from medvid.report.figures import plot_reliability, plot_roc_comparison, plot_training_curves
from medvid.report.page import STYLE, TEMPLATES

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


def write_report(run_folder: str | Path) -> Path:
    """Writes `report.html`, and `figures/` beside it, from a run's files.

    Args:
        run_folder: with metrics.json; predictions_oof.csv, refused.csv, splits.json, config.yaml,
            environment.json and fold_*/history.csv are used where they are.

    Raises:
        DataError: when there is no metrics.json, or the page cannot be written.
    """
    run = Path(run_folder)
    metrics = read_json(run / "metrics.json")
    if metrics is None:
        raise DataError(
            f"{run} has no metrics.json: its folds are not all trained yet. Go on with "
            f"`medvid train --resume {run}`.",
            code="unfinished_run",
            files=[run],
        )
    level = f"{metrics['bootstrap']['level']:.0%}"
    page = _render(
        "run",
        title=run.name,
        answer=_answer(metrics, level),
        rows=_list_measures(metrics["metrics"]),
        per_class=[(n, _list_measures(part)) for n, part in metrics["per_class"].items()],
        level=level,
        method=_describe_method(metrics),
        notes=metrics.get("notes", []),  # a run of an earlier version has none
        figures=_draw_figures(run, metrics),
        classes=metrics["classes"],
        confusion=(metrics["confusion"] or {}).get("counts"),
        decided=_describe_decision(metrics),
        counted=_count_cases(metrics),
        partition=describe_partition(run),
        settings=read_text(run / "config.yaml"),
        environment=list_environment(run),
        **count_refused(run / "refused.csv"),
    )
    return _write(run / "report.html", page)


def write_comparison(folder: Path, comparison: Mapping[str, Any], figure: Path | None) -> Path:
    """Writes `comparison.html`: the verdict, the ROC curves, every paired difference.

    Args:
        folder: where the page goes.
        comparison: what `compare_predictions` returned, with `run_a` and `run_b`, the runs' names.
        figure: the ROC curves as SVG, None where there are none.

    Raises:
        DataError: when the page cannot be written.
    """
    metrics = comparison["metrics"]
    methods = {entry["method"] for entry in metrics.values()}
    counted = f"{comparison['n_cases']} cases of {comparison['n_patients']} patients."
    if comparison["n_left_out"]:
        counted += f" {comparison['n_left_out']} cases that only one run has are left out."
    page = _render(
        "comparison",
        title=f"{comparison['run_a']} against {comparison['run_b']}",
        answer=comparison["verdict"],
        run_a=comparison["run_a"],
        run_b=comparison["run_b"],
        counted=counted,
        level=f"{comparison['level']:.0%}",
        figures=_inline([(figure, "ROC curves with pointwise intervals")] if figure else []),
        rows=[_list_difference(name, entry) for name, entry in metrics.items()],
        method=f"Method: {'; '.join(sorted(methods))}. p values are not adjusted for their number.",
        delong=_describe_delong(comparison["delong"]),
    )
    return _write(folder / "comparison.html", page)


def _render(name: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    # the style is ours, not a user's: the only text that is not escaped
    text: str = environment.get_template(name).render(
        style=Markup(STYLE), version=_own_version(), **values
    )
    return text


def _answer(metrics: Mapping[str, Any], level: str) -> str:
    auc = metrics["metrics"]["auc"]
    seen = f"{metrics['n_cases']} cases of {metrics['n_patients']} patients"
    if auc["value"] is None:
        return f"The AUC is undefined on {seen}: {auc['reason']}."
    interval = (
        f"no interval: {auc['reason'].removeprefix('no interval: ')}"
        if auc["low"] is None
        else f"{level} interval {auc['low']:.3f} to {auc['high']:.3f}"
    )
    what = "AUC" if metrics["task"] == "binary" else "Mean AUC over the classes"
    of = f" for {metrics['positive']}" if metrics["task"] == "binary" else ""
    return f"{what}{of} {auc['value']:.3f} ({interval}) on {seen}."


def _list_measures(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": NAMES.get(name, name),
            "value": _number(entry["value"]),
            "interval": _interval(entry),
            "n": entry["n"],
            "reason": "; ".join(filter(None, (entry.get("note"), entry.get("reason")))),
        }
        for name, entry in metrics.items()
    ]


def _list_difference(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": NAMES.get(name, name),
        "a": _number(entry["a"]),
        "b": _number(entry["b"]),
        "difference": _number(entry["difference"], "+.3f"),
        "interval": _interval(entry, "+.3f"),
        "p": "" if entry["p"] is None else _say_p(entry["p"]),
    }


def _describe_method(metrics: Mapping[str, Any]) -> str:
    drawn = metrics["bootstrap"]
    seeds = len(metrics["seeds"])
    several = f" Every value is the mean over {seeds} seeds." if seeds > 1 else ""
    return (
        f"Intervals: {drawn['method']}, {drawn['resamples']} resamples, seed {drawn['seed']}."
        f"{several}"
    )


def _describe_decision(metrics: Mapping[str, Any]) -> str:
    point = metrics.get("operating_point")
    if point is None:
        return "Called is the likeliest class."
    limits = point["threshold"]
    values = list(limits.values()) if isinstance(limits, Mapping) else [limits]
    low, high = min(values), max(values)
    said = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}, by fold"
    return f"Positive from a probability of {said}; {point['method']}."


def _count_cases(metrics: Mapping[str, Any]) -> str:
    classes = ", ".join(f"{name} {number}" for name, number in metrics["n_per_class"].items())
    return f"{metrics['n_cases']} cases of {metrics['n_patients']} patients: {classes}."


def _draw_figures(run: Path, metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    drawn: list[tuple[Path, str]] = []
    folder = run / "figures"
    predictions = run / "predictions_oof.csv"
    if metrics["task"] == "binary" and metrics["metrics"]["auc"]["value"] is not None:
        outcomes = read_outcomes(read_predictions(predictions), str(predictions))
        positive = find_positive(outcomes.classes, metrics["positive"])
        drawing = metrics["bootstrap"]
        # the same draws as in metrics.json, so that figure and table print the same interval
        band = roc_band(
            outcomes,
            positive,
            resamples=drawing["resamples"],
            seed=drawing["seed"],
            level=drawing["level"],
        )
        path = plot_roc_comparison(folder / "roc", [(metrics["positive"], band)])
        shown = "with its pointwise interval"
        if np.isnan(band.low).all():
            shown = "without a band: every resample draws the same curve"
        drawn.append((path, f"ROC curve {shown}"))
        path = plot_reliability(
            folder / "reliability", *bin_reliability(outcomes, positive), metrics["positive"]
        )
        drawn.append((path, "Reliability; 95% Wilson intervals, which take cases as independent"))
    history = {
        file.parent.name.replace("_", " "): read_rows(file)
        for file in sorted(run.glob("fold_*/history.csv"), key=_fold_number)
    }
    if history:
        path = plot_training_curves(folder / "training", history)
        drawn.append((path, "Training, fold by fold"))
    return _inline(drawn)


def _fold_number(path: Path) -> tuple[int, str]:
    text = path.parent.name.removeprefix("fold_")
    return (int(text) if text.isdigit() else 0, text)


def _inline(figures: Sequence[tuple[Path, str]]) -> list[dict[str, str]]:
    return [
        {
            "source": "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
            "caption": caption,
        }
        for path, caption in figures
    ]


def _describe_delong(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return ""
    return (
        f"Cross-check, {test['method']}: difference of the AUCs {test['difference']:+.3f}, "
        f"standard error {test['standard_error']:.3f}, p {_say_p(test['p'], equal='= ')}."
    )


def _say_p(p: float, equal: str = "") -> str:
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{equal}{p:.3f}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "undefined" if value is None else format(value, form)


def _interval(entry: Mapping[str, Any], form: str = ".3f") -> str:
    if entry["low"] is None:
        return "none"
    return f"{_number(entry['low'], form)} to {_number(entry['high'], form)}"


def _write(path: Path, page: str) -> Path:
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(page, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    except OSError as error:
        raise DataError(
            f"{path} could not be written: {error.strerror or error}.",
            code="not_written",
            files=[path],
        ) from None
    return path


def _own_version() -> str:
    try:
        return version("medvid")
    except PackageNotFoundError:  # a bare checkout
        return "from a checkout"
