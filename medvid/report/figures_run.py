"""Figures that a run and an arm of a study share: precision, decisions, and the flow of cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from medvid.evaluate.decision import NetBenefit, PrecisionRecall
from medvid.report.figures import (
    COLOURS,
    COLUMN,
    DASHES,
    STYLE,
    save_figure,
    start_figure,
)

GREY = "#767676"  # of lines to compare with; 4.5 : 1 on white

WIDE = 7.2  # inches: two columns of a journal, 183 mm


def plot_precision(
    stem: Path, curves: Sequence[tuple[str, PrecisionRecall, str]], positive: str
) -> Path:
    """Draws precision against recall.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        curves: name, curve, and what the legend says of the average precision.
        positive: the positive class.

    Returns:
        The SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(COLUMN, COLUMN + 0.1)
        prevalence = curves[0][1].prevalence
        axes.axhline(prevalence, color=GREY, linewidth=0.8, dashes=(1, 2))
        axes.text(1.0, prevalence, "prevalence", color=GREY, fontsize=7, ha="right", va="top")
        for number, (name, curve, said) in enumerate(curves):
            axes.step(
                curve.recall,
                curve.precision,
                DASHES[number % len(DASHES)],
                where="post",
                color=COLOURS[number % len(COLOURS)],
                label=f"{name}: {said}",
            )
        axes.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.02),
            box_aspect=1,
            xlabel=f"Recall (sensitivity for {positive})",
            ylabel="Precision (positive predictive value)",
        )
        axes.legend(loc="best", frameon=False, title="Average precision", title_fontsize=7)
        return save_figure(figure, stem)


def plot_decision(stem: Path, curves: Sequence[tuple[str, NetBenefit]]) -> Path:
    """Draws net benefit against the probability from which on one acts.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        curves: name and curve; the first one's cases give the line of acting on all.

    Returns:
        The SVG.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(COLUMN, COLUMN + 0.1)
        first = curves[0][1]
        axes.axhline(0, color="black", linewidth=0.8, label="act on none")
        axes.plot(first.thresholds, first.treat_all, color=GREY, dashes=(1, 2), label="act on all")
        for number, (name, curve) in enumerate(curves):
            colour = COLOURS[number % len(COLOURS)]
            axes.fill_between(
                curve.thresholds, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
            )
            line = DASHES[number % len(DASHES)]
            axes.plot(curve.thresholds, curve.value, line, color=colour, label=name)
        top = max(float(first.treat_all.max()), *(float(c.high.max()) for _, c in curves))
        axes.set(
            xlim=(0, 1),
            ylim=(-0.2 * top, 1.08 * top),  # what costs more than that is of no use to anyone
            box_aspect=1,
            xlabel="Probability from which on one acts",
            ylabel="Net benefit per case",
        )
        axes.legend(loc="best", frameon=False)
        return save_figure(figure, stem)


@dataclass(frozen=True)
class Flow:
    """What became of the cases.

    Args:
        found: cases that the source listed.
        refused: (reason code, cases), most first.
        used: cases that were left.
        detail: lines on them: patients, classes.
        parts: name and lines of every partition.
    """

    found: int
    refused: tuple[tuple[str, int], ...]
    used: int
    detail: tuple[str, ...]
    parts: tuple[tuple[str, tuple[str, ...]], ...]


LINE = 0.17  # inches a line of text takes at 8 points
PAD = 0.16


def plot_flow(stem: Path, flow: Flow) -> Path:
    """Draws the flow diagram: found, left out by reason, used, by partition.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        flow: the numbers.

    Returns:
        The SVG.
    """
    out = [f"Left out (n = {sum(n for _, n in flow.refused)})"]
    out += [f"{code}: {number}" for code, number in flow.refused]
    used = [f"Used (n = {flow.used})", *flow.detail]
    tall = [LINE * len(lines) + PAD for lines in (["Found"], out, used)]
    deepest = max((len(lines) + 1 for _, lines in flow.parts), default=0)
    parts = LINE * deepest + PAD if deepest else 0.0
    gap = 0.28
    height = tall[0] + gap + (tall[1] + gap if flow.refused else 0) + tall[2]
    height += gap + parts if deepest else 0
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(WIDE, height + 0.1)
        axes.set(xlim=(0, WIDE), ylim=(-height - 0.05, 0.05))
        axes.axis("off")
        middle = WIDE * 0.34
        y = -tall[0] / 2
        _draw_box(axes, middle, y, 2.5, tall[0], [f"Found (n = {flow.found})"])
        below = -tall[0]
        if flow.refused:
            y = below - gap - tall[1] / 2
            _draw_box(axes, WIDE * 0.79, y, 2.7, tall[1], out)
            axes.annotate("", (WIDE * 0.79 - 1.35, y), (middle, y), arrowprops=ARROW)
            start, below = below, y - tall[1] / 2
        else:
            start = below
        y = below - gap - tall[2] / 2
        axes.annotate("", (middle, y + tall[2] / 2), (middle, start), arrowprops=ARROW)
        _draw_box(axes, middle, y, 3.6, tall[2], used)
        if deepest:
            _draw_parts(axes, flow, y - tall[2] / 2, gap, parts, middle)
        return save_figure(figure, stem)


ARROW = {"arrowstyle": "-|>", "color": "black", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}


def _draw_parts(
    axes: Axes, flow: Flow, top: float, gap: float, height: float, middle: float
) -> None:
    number = len(flow.parts)
    width = min(1.9, (WIDE - 0.1) / number - 0.1)
    left = max(middle - number * (width + 0.1) / 2, 0.0)
    left = min(left, WIDE - number * (width + 0.1))
    rail = top - gap / 2
    centres = [left + (k + 0.5) * (width + 0.1) for k in range(number)]
    axes.plot([middle, middle], [top, rail], color="black", linewidth=0.8)
    ends = [min([middle, *centres]), max([middle, *centres])]
    axes.plot(ends, [rail, rail], color="black", linewidth=0.8)
    for centre, (name, lines) in zip(centres, flow.parts, strict=True):
        y = top - gap - height / 2
        axes.annotate("", (centre, top - gap), (centre, rail), arrowprops=ARROW)
        _draw_box(axes, centre, y, width, height, [name, *lines])


def _draw_box(
    axes: Axes, x: float, y: float, width: float, height: float, lines: Sequence[str]
) -> None:
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(
        Rectangle(corner, width, height, facecolor="#f3f6f9", edgecolor="black", linewidth=0.8)
    )
    places = y + LINE * (np.arange(len(lines))[::-1] - (len(lines) - 1) / 2)
    for number, (place, line) in enumerate(zip(places, lines, strict=True)):
        weight = "bold" if number == 0 else "normal"
        axes.text(x, place, line, ha="center", va="center", fontsize=7.5, fontweight=weight)
