"""The tables of a study's page, and the same as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvid.report.render import write_table
from medvid.report.wording import say_interval, say_number, say_p, say_quantity, say_reach

Result = Mapping[str, Any]

SHOWN_FLIPPED = 20
"""Flipped cases on the page; the table on disk has them all."""


def list_windows(result: Result) -> list[dict[str, Any]]:
    """Returns a row a window, W* and the best one marked."""
    answer = result["answer"]
    star = "W* at most" if answer.get("at_most") else "W*"
    rows = []
    for name in result["curve"]:
        arm = result["arms"][name]
        marks = [star] if name == answer.get("arm") else []
        marks += ["best"] if name == answer.get("best") else []
        seeds = [s["auc"] for s in arm.get("auc_by_seed") or [] if s.get("auc") is not None]
        rows.append(
            {
                "title": arm["title"],
                "mm": _say_mm(arm, result),
                **_main(arm, result),
                "folds": _optional(arm.get("auc_within_folds")),
                "seeds": f"{min(seeds):.3f} to {max(seeds):.3f}" if len(seeds) > 1 else "",
                "log_loss": _metric(arm, "log_loss"),
                "brier": _metric(arm, "brier"),
                "mark": ", ".join(marks),
                "chosen": name == answer.get("arm"),
            }
        )
    return rows


def list_differences(result: Result) -> list[dict[str, Any]]:
    """Returns a row a comparison."""
    return [
        {
            "a": result["arms"][one["a"]]["title"],
            "b": result["arms"][one["b"]]["title"],
            "difference": say_number(one["difference"], "+.3f"),
            "interval": say_interval(one, "+.3f"),
            "p": say_p(one.get("p")),
            "adjusted": say_p(one.get("p_adjusted")),
            "verdict": one["verdict"],
        }
        for one in result["comparisons"]
    ]


def list_controls(result: Result) -> list[dict[str, Any]]:
    """Returns a row a control, with what was expected of it."""
    verdicts = {one["arm"]: one for one in result["control_verdicts"]}
    rows = []
    for name in result["controls"]:
        arm, verdict = result["arms"][name], verdicts.get(name, {})
        rows.append(
            {
                "title": arm["title"],
                "says": arm.get("says") or "",
                **_main(arm, result),
                "expected": verdict.get("expected", ""),
                "met": verdict.get("met"),
                "sentence": verdict.get("sentence", ""),
            }
        )
    return rows


def list_networks(result: Result) -> list[dict[str, Any]]:
    """Returns a row a natural network, before them the matched one on the window that they see."""
    matched = result["curve"][-1:] if result["networks"] else []
    return [
        {
            **_describe(result, name),
            "title": arm["title"] if name in result["networks"] else f"matched, {arm['title']}",
        }
        for name in (*matched, *result["networks"])
        for arm in [result["arms"][name]]
    ]


def list_arms(result: Result) -> list[dict[str, Any]]:
    """Returns a row for every arm that was run."""
    return [{"name": name, **_describe(result, name)} for name in result["arms"]]


def list_subgroups(result: Result) -> list[dict[str, Any]]:
    """Returns a row a subgroup and arm."""
    return [
        {
            "column": one["column"],
            "of": one["value"],
            "n": one["n"],
            "arm": result["arms"].get(one["arm"], {"title": one["arm"]})["title"],
            "value": say_number(one["auc"].get("value")),
            "interval": say_interval(one["auc"]),
        }
        for one in result["subgroups"]
    ]


def list_flipped(result: Result) -> list[dict[str, Any]]:
    """Returns the cases that the context changes most, and which way."""
    rows = []
    for one in result["flipped"][:SHOWN_FLIPPED]:
        change = one["wide"] - one["narrow"]
        of_truth = result["positive"] in (None, one["label"])  # None: of each case's own class
        better = (change > 0) == of_truth
        frame = one.get("frame")
        rows.append(
            {
                "case": one["case_id"] + ("" if frame is None or frame < 0 else f", slice {frame}"),
                "label": one["label"],
                "narrow": f"{one['narrow']:.3f}",
                "wide": f"{one['wide']:.3f}",
                "change": f"{change:+.3f}",
                "way": "towards the truth" if better else "away from it",
            }
        )
    return rows


def say_length(frames: int | None, result: Result) -> str:
    """Returns a number of slices, with its length in mm where the step is known."""
    if frames is None:
        return "its own number of slices"
    said = f"{frames} slice{'s' * (frames != 1)}"
    reach = say_reach(frames, result)
    return f"{said} ({reach} mm)" if reach else said


def write_study_tables(run: Path, result: Result) -> None:
    """Writes tables/arms.csv, comparisons.csv, window_distribution.csv, subgroups.csv, flipped.csv.

    Raises:
        DataError: when a table cannot be written.
    """
    folder = run / "tables"
    columns = (
        *("kind", "title", "window", "window_mm", "model", "parameters", "flops"),
        *("seconds_per_epoch", "steps", "cells", "auc_within_folds"),
    )
    measures = ("auc", "log_loss", "brier")
    sides = ("value", "low", "high")
    write_table(
        folder / "arms.csv",
        ("arm", *columns, *(f"{m}_{s}" for m in measures for s in sides), "method"),
        [
            (
                name,
                *(arm.get(column) for column in columns),
                *((arm["metrics"].get(m) or {}).get(s) for m in measures for s in sides),
                (arm["metrics"].get("auc") or {}).get("method"),
            )
            for name, arm in result["arms"].items()
        ],
    )
    keys = (
        "a",
        "b",
        "metric",
        "difference",
        "low",
        "high",
        "p",
        "p_adjusted",
        "verdict",
        "sentence",
    )
    _write(folder / "comparisons.csv", keys, result["comparisons"])
    drawn = result["answer"].get("distribution") or []
    _write(folder / "window_distribution.csv", ("arm", "window", "share"), drawn)
    verdicts = ("arm", "expected", "met", "sentence")
    _write(folder / "controls.csv", verdicts, result["control_verdicts"])
    groups = [{**one["auc"], **one, "auc": one["auc"].get("value")} for one in result["subgroups"]]
    _write(folder / "subgroups.csv", ("column", "value", "n", "arm", "auc", "low", "high"), groups)
    flipped = ("case_id", "frame", "label", "narrow", "wide")
    _write(folder / "flipped.csv", flipped, result["flipped"])


def _write(path: Path, keys: tuple[str, ...], rows: Any) -> None:
    write_table(path, keys, [[row.get(key) for key in keys] for row in rows])


def _describe(result: Result, name: str) -> dict[str, Any]:
    arm = result["arms"][name]
    seconds = arm.get("seconds_per_epoch")
    return {
        "says": arm.get("says") or "",
        "model": arm["model"],
        **_main(arm, result),
        "parameters": say_quantity(arm.get("parameters")),
        "flops": say_quantity(arm.get("flops")),
        "seconds": "" if seconds is None else f"{seconds:.3g}",
        "cells": f"as {arm['same_as']}" if arm.get("same_as") else arm["cells"],
        "steps": arm.get("steps") or "",
    }


def _main(arm: Mapping[str, Any], result: Result) -> dict[str, str]:
    entry = arm["metrics"].get(result["metric"]) or {}
    return {"value": say_number(entry.get("value")), "interval": say_interval(entry)}


def _metric(arm: Mapping[str, Any], name: str) -> str:
    entry = arm["metrics"].get(name)
    return "" if not entry or entry["value"] is None else f"{entry['value']:.3f}"


def _optional(value: float | int | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _say_mm(arm: Mapping[str, Any], result: Result) -> str:
    if arm.get("window_mm") is not None:
        return f"{arm['window_mm']:g}"
    return say_reach(arm["window"], result) if arm.get("window") else ""
