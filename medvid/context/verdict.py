"""From the pooled predictions of all arms to the answer: what `evaluate` says, arm by arm."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medvid.context.arms import EXPECTED, Arm
from medvid.context.learning import note_learning
from medvid.evaluate import (
    Chance,
    compare_arms,
    evaluate_arms,
    find_smallest_window,
    measure_chance,
    read_outcomes,
)
from medvid.evaluate.measure import name_positive

FLIPPED_SHOWN = 50
"""Cases whose answer the window changed most; a reader looks at some, not at all."""

KINDS = ("window", "control", "network", "learning")


def judge_arms(
    tables: Mapping[str, pd.DataFrame],
    arms: Sequence[Arm],
    context: Mapping[str, Any],
    evaluate: Mapping[str, Any],
    extra: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """Returns the part of result.json that follows from the predictions.

    Args:
        tables: pooled out-of-fold predictions by arm.
        arms: of the study.
        context: the section `context`, resolved.
        evaluate: the section `evaluate`, resolved.
        extra: further columns of the manifest by case.
    """
    settings = {key: evaluate[key] for key in ("positive", "resamples", "level")}
    names = {kind: [arm.name for arm in arms if arm.kind == kind] for kind in KINDS}
    curve = names["window"]
    titles = {arm.name: arm.title for arm in arms}
    measured = evaluate_arms(tables, **settings)
    families = {
        "windows": [(name, curve[0]) for name in curve[1:]],
        "controls": [(name, curve[-1]) for name in names["control"]],
        "networks": [(name, curve[-1]) for name in names["network"]],
    }
    compared = [
        {"family": family, **row}
        for family, pairs in families.items()
        for row in compare_arms(tables, pairs, margin=context["margin"], titles=titles, **settings)
    ]
    answer = find_smallest_window(
        {name: tables[name] for name in curve},
        margin=context["margin"],
        titles=titles,
        **settings,
    )
    by_name = {arm.name: arm for arm in arms}
    chosen = by_name.get(str(answer["arm"]))
    # In a network whose narrowest window is the target alone the two are one arm.
    repeat_is_first = "repeat" in by_name and by_name["repeat"].same_as == curve[0]
    return {
        **_count(tables[curve[0]], evaluate["positive"]),
        "level": evaluate["level"],
        "resamples": evaluate["resamples"],
        "margin": context["margin"],
        "metric": "auc",
        "arms": {arm.name: _describe(arm) | measured[arm.name] for arm in arms},
        "curve": curve,
        "controls": names["control"],
        "networks": names["network"],
        "learning": names["learning"],
        "answer": {
            **answer,
            "window": chosen.window if chosen else None,
            "window_mm": chosen.window_mm if chosen else None,
            "distribution": [
                {
                    **row,
                    "window": by_name[row["arm"]].window,
                    "window_mm": by_name[row["arm"]].window_mm,
                }
                for row in answer["distribution"]
            ],
        },
        "comparisons": compared,
        "control_verdicts": judge_controls(
            compared,
            names["control"],
            repeat_is=titles[curve[0]] if repeat_is_first else None,
            repeat_met=None if repeat_is_first else judge_repeat(tables, curve[0], settings),
            chance=_measure_chance(tables, settings),
        ),
        "learning_note": note_learning(
            tables, arms, curve[-1], margin=context["margin"], settings=settings
        ),
        "subgroups": _list_subgroups(tables, curve, context["subgroups"], extra, settings),
        "flipped": list_flipped(tables[curve[0]], tables[curve[-1]], evaluate["positive"]),
    }


def judge_repeat(
    tables: Mapping[str, pd.DataFrame], narrowest: str, settings: Mapping[str, Any]
) -> bool | None:
    """Says whether copies of the target are no better than the narrowest window; None without."""
    if "repeat" not in tables:
        return None
    (row,) = compare_arms(tables, [("repeat", narrowest)], margin=0.0, **settings)
    return bool(row["verdict"] != "helps")


def judge_controls(
    compared: Sequence[Mapping[str, Any]],
    controls: Sequence[str],
    *,
    repeat_met: bool | None,
    repeat_is: str | None = None,
    chance: Chance | None,
) -> list[dict[str, Any]]:
    """Says of every control what it shows, and whether it is what it must be.

    `permuted_labels` must be at chance in every study; if it is not, training, prediction or
    scoring is in error (no leak across the split shows there, see `medvid.evaluate.chance`). So few
    trainings that they could not tell are no answer. Copies of the target tell no more than the
    narrowest window; where that is the target alone the two are one arm, and there is nothing to be
    met. The other controls answer questions of their own.

    Args:
        compared: the comparisons of the study.
        controls: names of arms.
        repeat_met: of `judge_repeat`.
        repeat_is: title of the window that `repeat` is one arm with; None where it is none.
        chance: of the trainings on dealt labels.
    """
    rows = {row["a"]: row for row in compared if row["family"] == "controls"}
    said = []
    for name in controls:
        met, sentence = None, rows[name]["sentence"]
        if name == "repeat" and repeat_is is not None:
            sentence = (
                f"In this network it is the window of {repeat_is} by construction. {sentence}"
            )
        elif name == "repeat":
            met = repeat_met
        elif name == "permuted_labels" and chance is not None:
            met = chance.holds if chance.tells else None
            sentence = _describe_chance(chance)
        expected = EXPECTED.get(name, "")
        said.append({"arm": name, "expected": expected, "met": met, "sentence": sentence})
    return said


def _measure_chance(
    tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]
) -> Chance | None:
    if "permuted_labels" not in tables:
        return None
    own = {key: settings[key] for key in ("positive", "level")}
    return measure_chance(tables["permuted_labels"], **own)


def _describe_chance(chance: Chance) -> str:
    held = "holds" if chance.holds else "does not hold"
    sentence = (
        f"{chance.trainings} trainings on dealt labels have a mean AUC of {chance.mean:.3f} "
        f"({chance.low:.3f} to {chance.high:.3f}, t over the trainings), which {held} 0.5."
    )
    if not chance.tells:
        sentence += " They are too few to tell: add seeds."
    elif not chance.holds:
        sentence += (
            " The labels told nothing, so something is wrong in training, prediction or scoring: "
            "find it first."
        )
    return sentence


def list_flipped(
    narrow: pd.DataFrame, wide: pd.DataFrame, positive: str | None
) -> list[dict[str, Any]]:
    """Lists the cases whose probability the window changed most, with the mean over seeds.

    It is the probability of the positive class of two, of the case's own class of more. Several
    findings a case change in several ways at once, and no case is listed.

    Args:
        narrow: predictions of the narrowest window.
        wide: of the widest one.
        positive: the positive class of two; the last one when None.
    """
    outcomes = read_outcomes(narrow)
    if outcomes.multilabel:
        return []
    classes = outcomes.classes
    of = name_positive(classes, positive)
    keys = ["case_id", *(["frame"] if "frame" in narrow else [])]
    means = [
        _add_probability(table, of)
        .groupby(keys, as_index=False)
        .agg({"p": "mean", "label": "first"})
        for table in (narrow, wide)
    ]
    joined = means[0].merge(means[1], on=keys, suffixes=("_narrow", "_wide"))
    change = (joined["p_wide"] - joined["p_narrow"]).abs()
    order = np.argsort(-change.to_numpy(), kind="stable")[:FLIPPED_SHOWN]
    return [
        {
            "case_id": str(row["case_id"]),
            "label": str(row["label_wide"]),
            "narrow": float(row["p_narrow"]),
            "wide": float(row["p_wide"]),
            **({"frame": int(row["frame"])} if "frame" in keys else {}),
        }
        for _, row in joined.iloc[order].iterrows()
    ]


def _add_probability(table: pd.DataFrame, of: str | None) -> pd.DataFrame:
    """Returns the labelled rows with `p`, the probability of a class, or of each row's own."""
    known = table[table["label"].fillna("") != ""]
    if of is not None:
        return known.assign(p=known[f"prob_{of}"])
    own = [row[f"prob_{row['label']}"] for row in known.to_dict("records")]
    return known.assign(p=np.array(own, dtype=np.float64))


def _describe(arm: Arm) -> dict[str, Any]:
    return {
        "kind": arm.kind,
        "title": arm.title,
        "says": arm.says,
        "window": arm.window,
        "window_mm": arm.window_mm,
        "control": arm.control,
        "same_as": arm.same_as,
        "share": arm.share,
    }


def _count(table: pd.DataFrame, positive: str | None) -> dict[str, Any]:
    outcomes = read_outcomes(table).known()
    first = outcomes.select(np.unique(outcomes.keys, return_index=True)[1])
    counted = (
        np.nansum(first.labels, axis=0)
        if outcomes.multilabel
        else np.bincount(first.labels.astype(np.int64), minlength=len(outcomes.classes))
    )
    return {
        "classes": list(outcomes.classes),
        "positive": name_positive(outcomes.classes, positive, multilabel=outcomes.multilabel),
        "n_cases": int(table["case_id"].nunique()),
        "n_predictions": len(first),
        "n_patients": len(np.unique(outcomes.patients)),
        "n_per_class": {
            name: int(number) for name, number in zip(outcomes.classes, counted, strict=True)
        },
        "folds": len(np.unique(outcomes.folds)),
        "seeds": [int(seed) for seed in np.unique(outcomes.seeds)],
    }


def _list_subgroups(
    tables: Mapping[str, pd.DataFrame],
    curve: Sequence[str],
    columns: Sequence[str],
    extra: Mapping[str, Mapping[str, str]],
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Measures the narrowest and the widest window on every value of the columns."""
    rows = []
    for column in columns:
        values = sorted({case.get(column, "") for case in extra.values()})
        for value in values:
            wanted = {case for case, own in extra.items() if own.get(column, "") == value}
            parts = {
                arm: tables[arm][tables[arm]["case_id"].isin(wanted)]
                for arm in (curve[0], curve[-1])
            }
            if parts[curve[0]].empty:
                continue
            measured = evaluate_arms(parts, **settings)
            rows += [
                {
                    "column": column,
                    "value": value or "not given",
                    "n": int(parts[arm]["case_id"].nunique()),
                    "arm": arm,
                    "auc": measured[arm]["metrics"]["auc"],
                }
                for arm in parts
            ]
    return rows
