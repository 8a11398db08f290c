"""The curves of one or several binary tables: ROC, precision, calibration, net benefit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvid.evaluate import RocBand, bin_reliability, roc_band
from medvid.evaluate.decision import NetBenefit, measure_net_benefit, trace_precision
from medvid.evaluate.predictions import Outcomes
from medvid.report.figures import plot_reliability, plot_roc_comparison
from medvid.report.figures_run import plot_decision, plot_precision
from medvid.report.render import Figures, write_table
from medvid.report.wording import say_estimate


@dataclass(frozen=True)
class Curve:
    """A binary table that is to be drawn.

    Args:
        name: in the legend.
        outcomes: its predictions.
        metrics: where its `auc` and `average_precision` were measured; {} measures on the curve.
    """

    name: str
    outcomes: Outcomes
    metrics: Mapping[str, Any]


def draw_curves(
    run: Path,
    figures: Figures,
    curves: Sequence[Curve],
    *,
    positive: int,
    bootstrap: Mapping[str, Any],
) -> None:
    """Draws ROC, precision, reliability (of the last one) and net benefit, and writes tables/.

    Args:
        run: the folder; `figures/` and `tables/` in it are written.
        figures: of the page.
        curves: at least one, with both classes in it.
        positive: column of the positive class.
        bootstrap: `resamples`, `seed` and `level`: the same draws as in the metrics, so that
            figure and table print the same interval.
    """
    classes = curves[0].outcomes.classes
    drawing = {key: bootstrap[key] for key in ("resamples", "seed", "level")}
    bands = [roc_band(one.outcomes, positive, **drawing) for one in curves]
    labels = [say_estimate(c.metrics["auc"]) for c in curves if "auc" in c.metrics]
    path = plot_roc_comparison(
        run / "figures" / "roc",
        [(one.name, band) for one, band in zip(curves, bands, strict=True)],
        labels=labels if len(labels) == len(curves) and len(curves) > 1 else None,
    )
    flat = all(np.isnan(band.low).all() for band in bands)
    shown = (
        "without a band: every resample draws the same curve"
        if flat
        else ("with its pointwise interval" if len(curves) == 1 else "with pointwise intervals")
    )
    mean = _tell_seeds(curves)
    by_rate = f"; {mean}, at every false positive rate" if mean else ""
    figures.add("roc", path, f"ROC curve{'s' * (len(curves) > 1)} {shown}{by_rate}")
    found = [trace_precision(one.outcomes, positive) for one in curves]
    said = [
        say_estimate(one.metrics.get("average_precision") or {"value": curve.average()})
        for one, curve in zip(curves, found, strict=True)
    ]
    path = plot_precision(
        run / "figures" / "precision",
        [(one.name, curve, text) for one, curve, text in zip(curves, found, said, strict=True)],
        classes[positive],
    )
    by_recall = f"; {mean}, at every recall" if mean else ""
    figures.add("pr", path, f"Precision against recall; dotted, what guessing gives{by_recall}")
    path = plot_reliability(
        run / "figures" / "reliability",
        *bin_reliability(curves[-1].outcomes, positive),
        classes[positive],
        bootstrap["level"],
    )
    whose = "" if len(curves) == 1 else f" of {curves[-1].name}"
    by_bin = f"; {mean}, bin by bin" if mean else ""
    figures.add(
        "reliability",
        path,
        f"Calibration{whose}; {bootstrap['level']:.0%} Wilson intervals, which take cases as "
        f"independent{by_bin}",
    )
    worth = [measure_net_benefit(one.outcomes, positive, **drawing) for one in curves]
    named = [(one.name, curve) for one, curve in zip(curves, worth, strict=True)]
    path = plot_decision(run / "figures" / "decision", named)
    text = "Net benefit by the probability from which on one acts, with pointwise intervals"
    text += f"; {mean}" if mean else ""
    figures.add("decision", path, text)
    _write_tables(run, curves, bands, worth)


def _tell_seeds(curves: Sequence[Curve]) -> str:
    """Says that curves are means, empty where there is one seed."""
    seeds = max(len(np.unique(one.outcomes.seeds)) for one in curves)
    return f"mean of the curves of {seeds} seeds" if seeds > 1 else ""


def _write_tables(
    run: Path, curves: Sequence[Curve], bands: Sequence[RocBand], worth: Sequence[NetBenefit]
) -> None:
    write_table(
        run / "tables" / "roc.csv",
        ("curve", "false_positive_rate", "true_positive_rate", "low", "high"),
        [
            (one.name, *map(_cell, point))
            for one, band in zip(curves, bands, strict=True)
            for point in zip(band.fpr, band.tpr, band.low, band.high, strict=True)
        ],
    )
    write_table(
        run / "tables" / "net_benefit.csv",
        ("curve", "threshold", "net_benefit", "low", "high", "act_on_all"),
        [
            (one.name, *map(_cell, point))
            for one, curve in zip(curves, worth, strict=True)
            for point in zip(
                curve.thresholds, curve.value, curve.low, curve.high, curve.treat_all, strict=True
            )
        ],
    )


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
