"""Figures for a paper: readable in grey and by the colour-blind, as PNG (300 dpi) and SVG."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medvid.contract import DataError
from medvid.evaluate import RocBand

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's colours without black (the chance line) and yellow (invisible on paper)."""

DASHES = ("-", "--", "-.", ":")
"""Curves differ by line as well as colour, so that they stay apart in grey."""

DPI = 300  # what journals ask of line art with halftones
COLUMN = 3.5  # inches: a journal's column, 89 mm

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "svg.fonttype": "path",  # glyphs travel with the file
    "svg.hashsalt": "medvid",  # the same figure is the same file
}


def plot_roc_comparison(
    stem: Path,
    curves: Sequence[tuple[str, RocBand]],
    title: str = "",
    labels: Sequence[str] | None = None,
) -> Path:
    """Draws the ROC curves of one or several runs with their pointwise intervals.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        curves: name and curve of every run.
        title: such as the paired difference.
        labels: what the legend says of every AUC, where it was measured elsewhere (a mean over
            seeds, say); None takes the AUC of the curve.

    Returns:
        The SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(COLUMN, COLUMN + 0.1)
        axes.plot([0, 1], [0, 1], color="#767676", linewidth=0.8, dashes=(1, 2))
        for number, (name, curve) in enumerate(curves):
            colour = COLOURS[number % len(COLOURS)]
            axes.fill_between(
                curve.fpr, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
            )
            axes.plot(
                np.append(0, curve.fpr),
                np.append(0, curve.tpr),
                DASHES[number % len(DASHES)],
                color=colour,
                label=f"{name}: {_say_auc(curve) if labels is None else labels[number]}",
            )
        axes.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            xlabel="1 - specificity",
            ylabel="Sensitivity",
            title=title,
            box_aspect=1,
        )
        level = f"{curves[0][1].level:.0%} interval" if curves else ""
        axes.legend(loc="lower right", frameon=False, title=f"AUC ({level})", title_fontsize=7)
        return save_figure(figure, stem)


def plot_training_curves(
    stem: Path, history: Mapping[str, Sequence[Mapping[str, Any]]], metric: str = "auc"
) -> Path:
    """Draws loss, and the validation metric where there is one, over the epochs of every fold.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        history: name of the fold -> rows of its history.csv, with `epoch`, `train_loss` and
            perhaps `val_loss` and `val_<metric>`; an empty cell is not drawn.
        metric: which one to draw.

    Returns:
        The SVG.
    """
    panels: list[tuple[str, tuple[tuple[str, str], ...]]] = [
        ("Loss", (("train_loss", "-"), ("val_loss", "--")))
    ]
    if any(_cell(row, f"val_{metric}") is not None for rows in history.values() for row in rows):
        panels.append((f"Validation {metric.replace('_', ' ')}", ((f"val_{metric}", "--"),)))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN * len(panels), 2.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (label, columns) in zip(grid, panels, strict=True):
            for number, rows in enumerate(history.values()):
                for column, line in columns:
                    _draw_history(axes, rows, column, line, COLOURS[number % len(COLOURS)])
            axes.set(xlabel="Epoch", ylabel=label)
        for number, name in enumerate(history):
            grid[0].plot([], [], color=COLOURS[number % len(COLOURS)], label=name)
        grid[0].plot([], [], "-", color="black", label="training")
        grid[0].plot([], [], "--", color="black", label="validation")
        grid[0].legend(frameon=False, ncols=2)
        return save_figure(figure, stem)


def plot_reliability(
    stem: Path,
    predicted: NDArray[np.float64],
    observed: NDArray[np.float64],
    counts: NDArray[np.int64],
    positive: str,
    level: float = 0.95,
) -> Path:
    """Draws the share of positives against the predicted probability, with Wilson intervals.

    The intervals take predictions as independent; they are a guide to the eye.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        predicted: (bins,) mean probability.
        observed: (bins,) share of positives.
        counts: (bins,) predictions.
        positive: the positive class.
        level: of the intervals.

    Returns:
        The SVG.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    spread = z * np.sqrt(observed * (1 - observed) / counts + z**2 / (4 * counts**2))
    centre, scale = observed + z**2 / (2 * counts), 1 + z**2 / counts
    low, high = (centre - spread) / scale, (centre + spread) / scale
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(COLUMN, COLUMN)
        axes.plot([0, 1], [0, 1], color="#767676", linewidth=0.8, dashes=(1, 2))
        axes.errorbar(
            predicted,
            observed,
            # rounding may put a limit beyond the point by an ulp, which matplotlib refuses
            yerr=np.maximum([observed - low, high - observed], 0),
            fmt="o-",
            markersize=4,
            capsize=2,
            elinewidth=0.8,
            color=COLOURS[0],
        )
        axes.set(
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            box_aspect=1,
            xlabel=f"Predicted probability of {positive}",
            ylabel=f"Observed share of {positive}",
            title=f"{len(counts)} bins of about {int(np.median(counts))} predictions",
        )
        return save_figure(figure, stem)


def start_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Takes inches; returns a figure that no global state of matplotlib knows."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save_figure(figure: Figure, stem: Path) -> Path:
    """Writes `<stem>.png` and `<stem>.svg`, whole or not at all, and returns the SVG.

    Raises:
        DataError: when they cannot be written.
    """
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once; both files then show the same
        for kind in ("png", "svg"):
            # not with_suffix: a run named `w0.5` would lose its `.5`
            path = stem.with_name(f"{stem.name}.{kind}")
            beside = path.with_name(path.name + ".part")
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(beside, format=kind, dpi=DPI, metadata=metadata)
            os.replace(beside, path)
    except OSError as error:
        raise DataError(
            f"The figure {stem} could not be written: {error.strerror or error}.",
            code="not_written",
            files=[stem],
        ) from None
    return stem.with_name(f"{stem.name}.svg")


def _draw_history(
    axes: Axes, rows: Sequence[Mapping[str, Any]], column: str, line: str, colour: str
) -> None:
    points = [(_cell(row, "epoch"), _cell(row, column)) for row in rows]
    drawn = [(x, y) for x, y in points if x is not None and y is not None]
    if drawn:
        axes.plot(*zip(*drawn, strict=True), line, color=colour, linewidth=1)


def _cell(row: Mapping[str, Any], column: str) -> float | None:
    text = row.get(column)
    value = float("nan") if text is None or text == "" else float(text)
    return value if np.isfinite(value) else None


def _say_auc(curve: RocBand) -> str:
    interval = (
        f" ({curve.auc_low:.3f} to {curve.auc_high:.3f})" if np.isfinite(curve.auc_low) else ""
    )
    return f"{curve.auc:.3f}{interval}, n = {curve.n}"
