"""Figures of a slice-context study: the curve, the controls, the differences, the answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter
from matplotlib.transforms import offset_copy

from medvid.report.figures import COLOURS, COLUMN, STYLE, save_figure, start_figure
from medvid.report.figures_run import GREY, WIDE
from medvid.report.wording import NAMES, say_reach

Result = Mapping[str, Any]

CHANCE = 0.5  # the AUC of a guess

SEEDS_ASIDE = 6.0
"""Points between a mean and its seeds: the star of the best window reaches 5."""


def plot_context(stem: Path, result: Result) -> Path:
    """Draws the metric against the window, and the controls beside it on the same axis.

    The band is the interval of every window; hollow dots are single seeds. Marked are the best
    window, the margin below it, and W*.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        result: of the study.

    Returns:
        The SVG.
    """
    controls = [name for name in result["controls"] if _value(result, name) is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDE if controls else COLUMN + 1, 3.3), layout="constrained")
        FigureCanvasAgg(figure)
        if controls:
            left, right = figure.subplots(
                1, 2, sharey=True, width_ratios=(1.5, max(0.5, 0.19 * len(controls)))
            )
            _draw_controls(right, result, controls)
        else:
            left = figure.subplots()
        _draw_curve(left, result)
        _limit(left, result, [*result["curve"], *controls])
        return save_figure(figure, stem)


def _draw_curve(axes: Axes, result: Result) -> None:
    names = [name for name in result["curve"] if _value(result, name) is not None]
    places, label = _place_windows(result, names)
    axes.set(ylabel=f"{_name(result)} ({result['level']:.0%} interval)", xlabel=label)
    if not names:  # a class is absent: no window has a value
        axes.set_xticks([])
        return
    values = np.array([_value(result, name) for name in names], dtype=float)
    low = np.array([_limit_of(result, name, "low") for name in names])
    high = np.array([_limit_of(result, name, "high") for name in names])
    if len(names) > 1:
        axes.fill_between(places, low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
        axes.plot(places, values, "-", color=COLOURS[0])
    axes.plot(places, values, "o", color=COLOURS[0], markersize=4.5, zorder=4)
    for place, name in zip(places, names, strict=True):
        _draw_seeds(axes, place, result["arms"][name], result["metric"])
    _mark_answer(axes, result, dict(zip(names, places, strict=True)))
    if result["metric"] == "auc":
        axes.axhline(CHANCE, color=GREY, linewidth=0.8, dashes=(1, 2))
        axes.text(places[-1], CHANCE, "guess", color=GREY, fontsize=7, ha="right", va="top")


def _place_windows(result: Result, names: Sequence[str]) -> tuple[list[float], str]:
    """Returns where the windows lie, and what the axis is called; sets no tick."""
    arms = [result["arms"][name] for name in names]
    frames = [arm.get("window") for arm in arms]
    if all(frames):
        return [float(np.log2(n)) for n in frames], "Window that one decision sees, slices"
    lengths = [arm.get("window_mm") for arm in arms]
    if all(length is not None for length in lengths):
        return [float(length) for length in lengths], "Window that one decision sees, mm"
    return [float(k) for k in range(len(arms))], "Window that one decision sees"


def _mark_answer(axes: Axes, result: Result, places: Mapping[str, float]) -> None:
    """Marks the best window, the margin below it and W*, and labels the windows."""
    answer, arms = result["answer"], result["arms"]
    ticks = list(places.values())
    labels = [_label_window(arms[name]) for name in places]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(ticks, labels)
    step = result.get("step_mm")
    if step and all(arms[name].get("window") for name in places):
        above = axes.secondary_xaxis("top")
        above.set_xticks(ticks, [f"{(arms[n]['window'] - 1) * step:.3g}" for n in places])
        several = " to " in say_reach(3, result)
        above.set_xlabel(
            f"mm from the first slice to the last{', in the median scan' if several else ''}"
        )
        above.spines["top"].set_visible(True)
    best = answer.get("best")
    if best in places and _value(result, best) is not None:
        top = float(_value(result, best) or 0)
        axes.plot(places[best], top, "*", color=COLOURS[1], markersize=10, zorder=5, label="best")
        down = 1 if result["metric"] == "auc" else -1
        margin = float(answer.get("margin") or result["margin"])
        axes.axhspan(
            top - down * margin,
            top,
            color=COLOURS[1],
            alpha=0.14,
            linewidth=0,
            label=f"margin {margin:g} below the best",
        )
    if answer.get("arm") in places:
        sign = "≤" if answer.get("at_most") else "="
        axes.axvline(
            places[answer["arm"]],
            color=COLOURS[2],
            linestyle="--",
            linewidth=1.2,
            label=f"W* {sign} {_say_window(arms[answer['arm']], result)}",
        )
    if len(result["seeds"]) > 1:
        axes.plot([], [], "o", mfc="white", mec=GREY, markersize=3.5, label="one seed")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.2),  # below the axis: nothing of the curve may be covered
        ncols=2,
        frameon=False,
    )


def _draw_controls(axes: Axes, result: Result, names: Sequence[str]) -> None:
    base = CHANCE if result["metric"] == "auc" else 0.0
    for place, name in enumerate(names):
        value = float(_value(result, name) or 0)
        axes.bar(place, value - base, 0.62, bottom=base, color=COLOURS[4], alpha=0.55)
        low, high = _limit_of(result, name, "low"), _limit_of(result, name, "high")
        if np.isfinite(low) and np.isfinite(high):
            axes.vlines(place, low, high, color="black", linewidth=1.0)
        axes.plot(place, value, "o", color="black", markersize=3)
        _draw_seeds(axes, place, result["arms"][name], result["metric"])
    if result["metric"] == "auc":
        axes.axhline(CHANCE, color=GREY, linewidth=0.8, dashes=(1, 2))
    widest = result["curve"][-1] if result["curve"] else None
    if widest is not None and _value(result, widest) is not None:
        axes.axhline(_value(result, widest) or 0, color=COLOURS[0], linewidth=0.9, linestyle="-.")
        axes.text(
            -0.5,
            _value(result, widest) or 0,
            " widest window",
            color=COLOURS[0],
            fontsize=7,
            va="bottom",
        )
    titles = [result["arms"][name]["title"] for name in names]
    axes.set_xticks(range(len(names)), titles, rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(labelleft=True)
    axes.set(xlim=(-0.6, len(names) - 0.4), xlabel="Controls")


def _draw_seeds(axes: Axes, place: float | int, arm: Mapping[str, Any], metric: str) -> None:
    """Draws every seed a little to the right of a place, where its mean hides none."""
    values = [seed.get(metric) for seed in arm.get("auc_by_seed") or ()]
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return  # the only seed is the value itself
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    beside = offset_copy(axes.transData, figure, x=SEEDS_ASIDE, units="points")
    axes.plot(
        [place] * len(known),
        known,
        "o",
        mfc="white",
        mec=GREY,
        mew=0.8,
        markersize=3.2,
        zorder=6,
        transform=beside,
    )


def _limit(axes: Axes, result: Result, names: Sequence[str]) -> None:
    seen = [_limit_of(result, name, side) for name in names for side in ("low", "high")]
    seen += [float(_value(result, name) or np.nan) for name in names]
    if result["metric"] == "auc":
        seen.append(CHANCE)
    low, high = np.nanmin(seen), np.nanmax(seen)
    room = 0.04 * (high - low) or 0.05
    top = min(high + room, 1.005) if result["metric"] == "auc" else high + room
    axes.set_ylim(low - room, top)


def plot_differences(stem: Path, result: Result) -> Path:
    """Draws every paired difference with its interval, the zero line and the margin.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        result: of the study.

    Returns:
        The SVG.
    """
    rows = [c for c in result["comparisons"] if c.get("difference") is not None]
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(WIDE, 0.75 + 0.27 * max(1, len(rows)))
        margin = result["margin"]
        axes.axvspan(-margin, margin, color=GREY, alpha=0.15, linewidth=0)
        axes.axvline(0, color="black", linewidth=0.8)
        for place, row in enumerate(rows):
            colour = COLOURS[0] if row["a"] in result["curve"] else COLOURS[1]
            if row["low"] is not None and row["high"] is not None:
                axes.hlines(place, row["low"], row["high"], color=colour, linewidth=1.4)
            axes.plot(row["difference"], place, "o", color=colour, markersize=4)
            axes.text(
                1.01, place, row["verdict"], transform=axes.get_yaxis_transform(), va="center"
            )
        arms = result["arms"]
        labels = [f"{arms[r['a']]['title']} against {arms[r['b']]['title']}" for r in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(
            ylim=(len(rows) - 0.4, -0.6),
            xlabel=f"Difference in {_name(result)} ({result['level']:.0%} interval; grey: margin)",
        )
        return save_figure(figure, stem)


def plot_distribution(stem: Path, result: Result) -> Path:
    """Draws how often the bootstrap took each window for W*.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        result: of the study.

    Returns:
        The SVG.
    """
    drawn = result["answer"]["distribution"]
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(COLUMN, 2.5)
        for place, item in enumerate(drawn):
            chosen = item["arm"] == result["answer"].get("arm")
            axes.bar(place, item["share"], 0.7, color=COLOURS[2] if chosen else COLOURS[4])
            axes.text(place, item["share"], f"{item['share']:.0%}", ha="center", va="bottom")
        labels = [_label_window(result["arms"].get(i["arm"], i)) for i in drawn]
        axes.set_xticks(range(len(drawn)), labels)
        axes.set(
            ylim=(0, min(1.12, max((i["share"] for i in drawn), default=1) * 1.2)),
            xlabel="Smallest window within the margin (W*)",
            ylabel="Share of resamples",
        )
        return save_figure(figure, stem)


def plot_learning(stem: Path, result: Result) -> Path:
    """Draws the metric against the share of patients trained on, a line a window.

    Args:
        stem: `<stem>.png` and `<stem>.svg` are written.
        result: of the study.

    Returns:
        The SVG.
    """
    lines: dict[str, list[tuple[float, str]]] = {}
    for name in result["learning"]:
        base = name.rsplit("_share", 1)[0]
        lines.setdefault(base, []).append((float(result["arms"][name]["share"]), name))
    with matplotlib.rc_context(STYLE):
        figure, axes = start_figure(COLUMN, 2.5)
        shares = {1.0} | {share for points in lines.values() for share, _ in points}
        for number, (base, points) in enumerate(lines.items()):
            whole = [(1.0, base)] if base in result["arms"] else []
            drawn = [(s, n) for s, n in sorted([*points, *whole]) if _value(result, n) is not None]
            places = [100 * share + 0.8 * number for share, _ in drawn]
            values = [float(_value(result, n) or 0) for _, n in drawn]
            limits = [[_limit_of(result, n, side) for _, n in drawn] for side in ("low", "high")]
            errors = [np.maximum(np.subtract(values, limits[0]), 0)]
            errors += [np.maximum(np.subtract(limits[1], values), 0)]
            axes.errorbar(
                places,
                values,
                yerr=np.nan_to_num(errors),
                marker="o",
                markersize=4,
                capsize=2,
                elinewidth=0.8,
                color=COLOURS[number % len(COLOURS)],
                label=result["arms"].get(base, {"title": base})["title"],
            )
        axes.set_xticks([100 * share for share in sorted(shares)])
        axes.set(xlabel="Patients trained on, %", ylabel=_name(result))
        axes.legend(loc="best", frameon=False)
        return save_figure(figure, stem)


def _name(result: Result) -> str:
    metric: str = result["metric"]
    return NAMES.get(metric, metric)


def _value(result: Result, name: str) -> float | None:
    entry = result["arms"][name]["metrics"].get(result["metric"]) or {}
    value = entry.get("value")
    return None if value is None else float(value)


def _limit_of(result: Result, name: str, side: str) -> float:
    entry = result["arms"][name]["metrics"].get(result["metric"]) or {}
    return float("nan") if entry.get(side) is None else float(entry[side])


def _label_window(arm: Mapping[str, Any]) -> str:
    if arm.get("window") is not None:
        return str(arm["window"])
    if arm.get("window_mm") is not None:
        return f"{arm['window_mm']:g} mm"
    return str(arm.get("title") or arm.get("arm") or "")


def _say_window(arm: Mapping[str, Any], result: Result) -> str:
    if arm.get("window") is None:
        return f"{arm['window_mm']:g} mm" if arm.get("window_mm") is not None else str(arm["title"])
    number = arm["window"]
    said = f"{number} slice{'s' * (number != 1)}"
    reach = say_reach(number, result)
    return f"{said} ({reach} mm)" if reach else said
