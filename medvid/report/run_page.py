"""`report.html` of a training run, from its files alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvid.evaluate import average_seeds, read_outcomes, read_predictions
from medvid.evaluate.measure import find_positive
from medvid.report.checklist import fill_run_checklist
from medvid.report.counts import Counts, count_run
from medvid.report.curves import Curve, draw_curves
from medvid.report.decisions import describe_decision, write_confusion
from medvid.report.evidence import read_rows
from medvid.report.figures import plot_training_curves
from medvid.report.gallery import read_gallery
from medvid.report.mistakes import list_mistakes, read_limits, write_mistakes
from medvid.report.record import make_record
from medvid.report.render import Figures, render, write_page, write_table
from medvid.report.wording import list_measures


def write_run_page(run: Path, metrics: Mapping[str, Any]) -> Path:
    """Writes `report.html`, figures/ and tables/ of a run.

    Args:
        run: its folder.
        metrics: what metrics.json says.

    Raises:
        DataError: when something cannot be written.
    """
    level = f"{metrics['bootstrap']['level']:.0%}"
    figures = Figures()
    mistakes = _draw_predictions(run, metrics, figures)
    _draw_training(run, figures)
    counts = count_run(run, metrics)
    record = make_record(run, counts, figures, "config.yaml")
    findings = metrics["task"] == "multilabel"
    gallery = read_gallery(run, metrics.get("positive") or "", findings=findings)
    record["checklist"] = fill_run_checklist(
        record, metrics, gallery, drawn=figures.items, failures=bool(mistakes)
    )
    _write_metrics(run, metrics)
    page = render(
        "run",
        title=run.name,
        answer=_answer(metrics, counts, level),
        contents=_list_contents(metrics, figures),
        rows=list_measures(metrics["metrics"]),
        per_class=[(n, list_measures(part)) for n, part in metrics["per_class"].items()],
        level=level,
        method=_describe_method(metrics),
        notes=metrics.get("notes", []),  # a run of an earlier version has none
        figures=figures.items,
        classes=metrics["classes"],
        positive=metrics.get("positive"),
        confusion=write_confusion(run, metrics["classes"], metrics["confusion"]),
        decided=describe_decision(metrics.get("operating_point")),
        mistakes=mistakes,
        unlisted=_explain_no_mistakes(run, findings),
        gallery=gallery,
        record=record,
    )
    return write_page(run / "report.html", page)


def _draw_predictions(
    run: Path, metrics: Mapping[str, Any], figures: Figures
) -> list[dict[str, Any]]:
    """Draws what needs the predictions; returns the errors to be shown."""
    path = run / "predictions_oof.csv"
    if metrics["task"] == "multilabel" or not path.is_file():
        return []
    outcomes = read_outcomes(read_predictions(path), str(path))
    positive: int | None = None
    if metrics["task"] == "binary":
        positive = find_positive(outcomes.classes, metrics["positive"])
        if metrics["metrics"]["auc"]["value"] is not None:
            name = metrics["positive"]
            curve = Curve(name, outcomes, metrics["metrics"])
            draw_curves(run, figures, [curve], positive=positive, bootstrap=metrics["bootstrap"])
    return write_mistakes(
        run, list_mistakes(average_seeds(outcomes), positive, read_limits(metrics))
    )


def _explain_no_mistakes(run: Path, findings: bool) -> str:
    """Says why no error is listed; of several findings the note below says it."""
    if findings:
        return ""
    if not (run / "predictions_oof.csv").is_file():
        return "Errors are not listed: the folder holds no predictions_oof.csv."
    return "No case was called wrong."


def _draw_training(run: Path, figures: Figures) -> None:
    history = {
        file.parent.name.replace("_", " "): read_rows(file)
        for file in sorted(run.glob("fold_*/history.csv"), key=_fold_number)
    }
    if history:
        path = plot_training_curves(run / "figures" / "training", history)
        figures.add("training", path, "Training, fold by fold", wide=True)


def _fold_number(path: Path) -> tuple[int, str]:
    text = path.parent.name.removeprefix("fold_")
    return (int(text) if text.isdigit() else 0, text)


def _write_metrics(run: Path, metrics: Mapping[str, Any]) -> None:
    parts = {"": metrics["metrics"], **metrics["per_class"]}
    write_table(
        run / "tables" / "metrics.csv",
        ("class", "metric", "value", "low", "high", "n", "method"),
        [
            (of, name, *(entry.get(key) for key in ("value", "low", "high", "n", "method")))
            for of, part in parts.items()
            for name, entry in part.items()
        ],
    )


def _list_contents(metrics: Mapping[str, Any], figures: Figures) -> list[tuple[str, str]]:
    listed = {
        "performance": "Performance",
        "decisions": "Decisions" if metrics["confusion"] else "",
        "failures": "Failures",
        "cases": "Cases",
        "training": "Training" if "training" in figures.items else "",
        "checklist": "Checklist",
    }
    return [(key, name) for key, name in listed.items() if name]


def _answer(metrics: Mapping[str, Any], counts: Counts, level: str) -> str:
    auc = metrics["metrics"]["auc"]
    seen = counts.say_seen()
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


def _describe_method(metrics: Mapping[str, Any]) -> str:
    drawn = metrics["bootstrap"]
    seeds = len(metrics["seeds"])
    several = f" Every value is the mean over {seeds} seeds." if seeds > 1 else ""
    return (
        f"Intervals: {drawn['method']}, {drawn['resamples']} resamples, seed {drawn['seed']}."
        f"{several}"
    )
