"""`report.html` of a slice-context study, from its files alone."""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvid.contract import DataError
from medvid.evaluate import average_seeds, read_outcomes, read_predictions
from medvid.evaluate.measure import find_positive
from medvid.evaluate.predictions import Outcomes
from medvid.report.checklist import fill_study_checklist
from medvid.report.counts import count_study
from medvid.report.curves import Curve, draw_curves
from medvid.report.decisions import describe_decision, write_confusion
from medvid.report.figures_study import (
    plot_context,
    plot_differences,
    plot_distribution,
    plot_learning,
)
from medvid.report.gallery import read_gallery
from medvid.report.mistakes import list_mistakes, read_limits, write_mistakes
from medvid.report.record import make_record
from medvid.report.render import Figures, render, write_page
from medvid.report.study_tables import (
    list_arms,
    list_controls,
    list_differences,
    list_flipped,
    list_networks,
    list_subgroups,
    list_windows,
    say_length,
    write_study_tables,
)
from medvid.report.wording import NAMES, say_count, say_p

Result = Mapping[str, Any]

CURVE_RESAMPLES = 1000
"""Of the bands around curves; the numbers themselves come from the result."""


def write_study_page(run: Path, result: Result) -> Path:
    """Writes `report.html`, figures/ and tables/ of a study.

    Args:
        run: its folder.
        result: what result.json says.

    Raises:
        DataError: when something cannot be written, or study.yaml is not what was registered.
    """
    _check_registered(run, result)
    figures = Figures()
    _draw_study(run, result, figures)
    _draw_predictions(run, result, figures)
    # A result of an earlier version has no decisions: then errors are told at 0.5.
    decisions = result.get("decisions") or {}
    mistaken, mistakes = _list_errors(run, result, decisions)
    record = make_record(run, count_study(result), figures, "study.yaml")
    told, findings = _tell_flipped(result), has_findings(run, result)
    gallery = read_gallery(run, result["positive"] or "", told, findings=findings)
    record["checklist"] = fill_study_checklist(
        record, result, gallery, drawn=figures.items, failures=bool(mistakes)
    )
    write_study_tables(run, result)
    curve, arms = result["curve"], result["arms"]
    page = render(
        "study",
        title=result["name"],
        answer=result["answer"]["sentence"],
        design=_describe_design(result),
        contents=_list_contents(result, figures),
        figures=figures.items,
        level=f"{result['level']:.0%}",
        metric=NAMES.get(result["metric"], result["metric"]),
        rule=_describe_rule(result),
        same_evidence=_is_same_evidence(result),
        patients=say_count(result["n_patients"], "patient"),
        windows=list_windows(result),
        differences=list_differences(result),
        delong=_describe_delong(result),
        controls=list_controls(result),
        networks=list_networks(result),
        arms=list_arms(result),
        learning_note=_describe_learning(result),
        planned=(result.get("planned") or {}).get("sentence", ""),
        subgroups=list_subgroups(result),
        mistakes=mistakes,
        mistaken_arm=mistaken,
        classes=result["classes"],
        confusion=write_confusion(run, result["classes"], decisions.get("confusion")),
        decided_arm=arms[decisions["arm"]]["title"] if decisions else "",
        decided=_describe_calls(result, decisions),
        decision_notes=decisions.get("notes", []),
        positive=result["positive"],
        flipped=list_flipped(result),
        narrow=arms[curve[0]]["title"] if curve else "",
        wide=arms[curve[-1]]["title"] if curve else "",
        gallery=gallery,
        record=record,
        registered=f"The settings were registered {result['registered']}, before the first "
        f"training. SHA-256 of study.yaml: {result['hash']}",
        deviations=result["deviations"],
    )
    return write_page(run / "report.html", page)


def _check_registered(run: Path, result: Result) -> None:
    """Stops where settings would be printed beside the hash of others."""
    path = run / "study.yaml"
    if not path.is_file():  # a page of the result alone shows no settings
        return
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != result["hash"]:
        raise DataError(
            f"{path} was changed since the study was registered at {result['registered']}: its "
            f"SHA-256 is {found}, and the result is of {result['hash']}. The page would show "
            "settings that nothing was trained with. Undo the change, or start a new study with "
            "the new question.",
            code="changed_study",
            files=[path],
        )


def _draw_study(run: Path, result: Result, figures: Figures) -> None:
    folder = run / "figures"
    level = f"{result['level']:.0%}"
    name = NAMES.get(result["metric"], result["metric"])
    path = plot_context(folder / "context", result)
    caption = f"{name} by the window that one decision sees, with {level} intervals"
    if result["controls"]:
        caption += "; right, the controls, retrained like the windows"
    figures.add("context", path, caption, wide=True)
    if result["comparisons"]:
        path = plot_differences(folder / "differences", result)
        figures.add(
            "differences",
            path,
            f"Paired differences with {level} intervals and verdicts",
            wide=True,
        )
    if result["answer"].get("distribution"):
        path = plot_distribution(folder / "distribution", result)
        figures.add("distribution", path, "Which window the bootstrap takes for W*")
    if result["learning"]:
        path = plot_learning(folder / "learning", result)
        figures.add("learning", path, f"Learning curve, {level} intervals")


def _draw_predictions(run: Path, result: Result, figures: Figures) -> None:
    """Draws the curves of the main windows."""
    curves = []
    for name in _choose_arms(result):
        outcomes = _read_arm(run, result, name)
        if outcomes is not None and _is_curve(outcomes):
            arm = result["arms"][name]
            curves.append(Curve(arm["title"], outcomes, arm["metrics"]))
    if not curves:
        return
    positive = find_positive(curves[0].outcomes.classes, result["positive"])
    drawing = {"resamples": CURVE_RESAMPLES, "seed": 0, "level": result["level"]}
    draw_curves(run, figures, curves, positive=positive, bootstrap=drawing)


def _list_errors(
    run: Path, result: Result, decisions: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """Returns the title of an arm and its errors, of the mean of its seeds' probabilities."""
    name = decisions.get("arm") or (_choose_arms(result) or [""])[-1]
    outcomes = _read_arm(run, result, name) if name else None
    if outcomes is None:
        return "", []
    two = len(outcomes.classes) == 2
    positive = find_positive(outcomes.classes, result["positive"]) if two else None
    errors = list_mistakes(average_seeds(outcomes), positive, read_limits(decisions))
    title: str = result["arms"][name]["title"]
    return title, write_mistakes(run, errors)


def _describe_calls(result: Result, decisions: Mapping[str, Any]) -> str:
    if not decisions:
        return ""
    seeds = len(result["seeds"])
    mean = f" Probabilities are means over {seeds} seeds." if seeds > 1 else ""
    return describe_decision(decisions["operating_point"]) + mean


def _choose_arms(result: Result) -> list[str]:
    """Returns the smallest and the widest window and, last, W*; without it the best one."""
    curve = result["curve"]
    chosen = result["answer"].get("arm") or result["answer"].get("best")
    wanted = [*curve[:1], *curve[-1:]]
    others = [name for name in dict.fromkeys(wanted) if name != chosen]
    return [*others, chosen] if chosen in result["arms"] else others


def _read_arm(run: Path, result: Result, name: str) -> Outcomes | None:
    """Returns the labelled predictions of an arm; None without any, and for several findings."""
    for one in (name, result["arms"][name].get("same_as")):
        path = run / "predictions" / f"{one}.csv"
        if one and path.is_file():
            outcomes = read_outcomes(read_predictions(path), str(path)).known()
            return outcomes if len(outcomes) and not outcomes.multilabel else None
    return None


def _is_curve(outcomes: Outcomes) -> bool:
    """Tells whether there are two classes, and cases of both."""
    return len(outcomes.classes) == 2 and len(set(outcomes.labels.tolist())) == 2


def has_findings(run: Path, result: Result) -> bool:
    """Tells whether a case has several findings, from the columns of the predictions."""
    files = [run / "predictions" / f"{name}.csv" for name in result["curve"]]
    for path in files:
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                return "label" not in next(csv.reader(file), ["label"])
    return False


def _describe_design(result: Result) -> str:
    counts = count_study(result)
    seen = f"{say_count(counts.cases, 'case')} of {say_count(counts.patients, 'patient')}"
    if counts.slices is not None:
        seen += f", {say_count(counts.slices, 'labelled slice')}"
    if result["positive"]:
        seen += f", positive: {result['positive']} (evaluate.positive)"
    length = say_length(result["length"], result)
    return (
        f"{seen}; {say_count(result['folds'], 'fold')} and "
        f"{say_count(len(result['seeds']), 'seed')} of {say_count(len(result['arms']), 'arm')}. "
        f"The network is {result['network']} in every window, with {length} at its input; slices "
        f"beyond the window are copies of the middle one. {_describe_evidence(result)}"
    )


def _describe_evidence(result: Result) -> str:
    """Says which slices of a case decide, and whether these are more in wider windows."""
    if result["task"] != "scan":
        target = "slice" if result["task"] == "slice" else "place"
        return f"Each {target} is decided from the window around it."
    if _is_same_evidence(result):
        return (
            "A scan is decided from the windows around all of its slices, so that every arm sees "
            "every slice."
        )
    return (
        "A scan is decided from the window around its middle slice alone, so that a wider window "
        "also brings slices that a smaller one never sees."
    )


def _is_same_evidence(result: Result) -> bool:
    """Tells whether all windows see the same slices of a case, and differ in what they see at once.

    A slice or a place is decided from its window alone, as a scan from its middle: there a wider
    window also brings slices that a smaller one never sees.
    """
    return bool(result["task"] == "scan" and result["positions"] == "every")


def _describe_rule(result: Result) -> str:
    answer = result["answer"]
    margin = answer.get("margin", result["margin"])
    best = result["arms"][answer["best"]]["title"] if answer.get("best") else "none"
    return (
        f"W* is the smallest window not inferior to the best ({best}), nor to any wider one, by a "
        f"margin of {margin:g}."
    )


def _describe_learning(result: Result) -> str:
    """Says what the learning curve shows, and whether its arms were trained for equal steps."""
    arms, widest = result["arms"], result["curve"][-1:]
    steps = {
        arms[name]["title"]: arms[name]["steps"]
        for name in (*widest, *result["learning"])
        if arms[name].get("steps")
    }
    note: str = result.get("learning_note") or ""
    if not result["learning"] or not steps:
        return note
    if len(set(steps.values())) == 1:
        return f"{note} All were trained for the same {next(iter(steps.values()))} steps.".strip()
    told = ", ".join(f"{number} of {title}" for title, number in steps.items())
    return (
        f"{note} They were trained for different numbers of steps ({told}), so that part of the "
        "change may be that of longer training."
    ).strip()


def _describe_delong(result: Result) -> str:
    arms = result["arms"]
    tests: Sequence[tuple[str, Mapping[str, Any]]] = [
        (f"{arms[c['a']]['title']} against {arms[c['b']]['title']}", c["delong"])
        for c in result["comparisons"]
        if c.get("delong")
    ]
    if not tests:
        return ""
    said = "; ".join(
        f"{name} {test['difference']:+.3f}, p {say_p(test['p'], '= ')}" for name, test in tests
    )
    return f"Cross-check, {tests[0][1]['method']}: {said}."


def _tell_flipped(result: Result) -> dict[tuple[str, int], str]:
    """Returns what stands beside a flipped case: its probability in both windows."""
    arms, curve = result["arms"], result["curve"]
    return {
        (one["case_id"], -1 if one.get("frame") is None else int(one["frame"])): (
            f"probability of {result['positive'] or one['label']} {one['narrow']:.3f} in "
            f"{arms[curve[0]]['title']}, {one['wide']:.3f} in {arms[curve[-1]]['title']}"
        )
        for one in result["flipped"]
    }


def _list_contents(result: Result, figures: Figures) -> list[tuple[str, str]]:
    listed = {
        "curve": "Curve",
        "differences": "Differences",
        "controls": "Controls" if result["controls"] else "",
        "stability": "Stability",
        "networks": "Networks" if result["networks"] else "",
        "arms": "Arms",
        "curves": "ROC" if "roc" in figures.items else "",
        "subgroups": "Subgroups" if result["subgroups"] else "",
        "decisions": "Decisions" if (result.get("decisions") or {}).get("confusion") else "",
        "failures": "Failures",
        "cases": "Cases",
        "registration": "Registration",
        "checklist": "Checklist",
    }
    return [(key, name) for key, name in listed.items() if name]
