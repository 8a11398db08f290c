"""W*: the smallest window not inferior to the best or a wider one, at a margin declared beforehand.

Windows are compared on the same resampled patients and seeds. The best is the one of the highest
AUC. A window is

* **enough** where the lower limit of its difference to the best, and to every wider window, lies
  above -margin (one-sided at (1 - level) / 2, as regulators ask; no adjustment, since all of the
  limits must hold, and since the windows are nested and the answer is one of them);
* **worse** where the upper limit of its difference to the best lies below 0, in an interval that is
  widened for as many pairs of windows as there are (Bonferroni): of windows that are all alike one
  is best by luck, and any of the others may be the one that looks worse;
* **open** where it is neither.

A small window may be the best by luck, and that shows no more than that it is not worse than a
wider one by much: it is held against the wider ones like any other. Only the widest window, where
it is the best, has nothing to be held against.

W* is the smallest window that is enough. Where smaller ones are open the answer calls it a bound.
Nothing is decided where no window but the best or the widest is enough and no smaller one is shown
to be worse: the best is flattered by having been picked, and every curve could be bounded by its
widest window. Nothing is decided either where the best AUC cannot be told from 0.5: networks that
learned nothing are all alike, and need no context. (Its interval is widened for as many windows as
it was the best of.) Where a class is so rare that there is no interval, nothing is known of what
the networks learned, and that is said instead.

Of two windows that order every case right the smaller one is enough: nothing can be better than it
on these patients. The answer says what error they cannot exclude.

The distribution beside W* is of the estimate: in every resample, the smallest window whose AUC lies
no more than the margin below that resample's best.

References:
    ICH E9, Statistical Principles for Clinical Trials, 1998, sections 3.3.2 and 5.2.3; Piaggio et
    al., Reporting of Noninferiority and Equivalence Randomized Trials, JAMA 308(24), 2012.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from medvid.evaluate.arms import Study, draw_study
from medvid.evaluate.differences import check_margin, is_perfect, limit_difference
from medvid.evaluate.folds import list_truths
from medvid.evaluate.intervals import exact_interval
from medvid.evaluate.operating_point import DEFAULT_THRESHOLD
from medvid.evaluate.spread import logit_interval, spread_mean
from medvid.evaluate.summary import plain
from medvid.evaluate.terms import count_trials, list_terms

CHANCE = 0.5

TIED = 1e-12
"""AUCs closer than this are the same: rounding of sums of float64."""


def find_smallest_window(
    tables: Mapping[str, pd.DataFrame],
    *,
    margin: float,
    positive: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    titles: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Returns the answer of a study: the smallest window that is enough.

    Args:
        tables: predictions by window arm, **in rising window**.
        margin: the AUC difference that does not matter, declared beforehand.
        positive: the positive class of two; the last one when None.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.
        titles: names of arms in the sentence, such as "5 slices"; the arm's name where none.

    Returns:
        Plain values: `sentence`, `decided`, `arm` (None where nothing is decided), `at_most`
        (whether smaller windows are open, so that `arm` is a bound), `best`, `margin`, `windows`
        [{arm, auc, difference, low, high, state, against, against_low}] with the difference to the
        best, the states of the module, and which window, the best or a wider one, has the lowest
        lower limit (None for the widest where it is the best), and `distribution` [{arm, share}].

    Raises:
        ConfigError: without an arm, or for a negative margin.
        DataError: when the arms are not of the same cases, patients, labels and classes.
    """
    check_margin(margin)
    study = draw_study(tables, positive=positive, resamples=resamples, seed=seed, metrics=("auc",))
    names = {name: name for name in tables} | dict(titles or {})
    aucs = {name: float(arm.parts["auc"].values.mean()) for name, arm in study.arms.items()}
    if not np.isfinite(list(aucs.values())).all():
        said = "Nothing is decided: a class is absent, so no window has an AUC."
        return _answer(said, None, None, margin, [], [])
    top = max(aucs.values())
    best = next(name for name, auc in aucs.items() if auc >= top - TIED)
    windows = [_hold_against(study, name, best, margin, level) for name in study.arms]
    share = _count_smallest(study, margin)
    chance = _explain_chance(study, best, level, names)
    if chance:
        return _answer(chance, None, best, margin, windows, share)
    arm = next((row["arm"] for row in windows if row["state"] == "enough"), None)
    smaller = windows[: list(study.arms).index(arm)] if arm else windows
    at_most = any(row["state"] == "open" for row in smaller)
    unbounded = arm in (best, windows[-1]["arm"]) and at_most
    if arm is None or (unbounded and all(row["state"] == "open" for row in smaller)):
        said = _say_inconclusive(study, windows, arm, best, margin, names)
        return _answer(said, None, best, margin, windows, share)
    said = _say(study, windows, arm, best, margin, level, names)
    return _answer(said, arm, best, margin, windows, share, at_most=at_most)


def _answer(
    sentence: str,
    arm: str | None,
    best: str | None,
    margin: float,
    windows: list[dict[str, Any]],
    distribution: list[dict[str, Any]],
    *,
    at_most: bool = False,
) -> dict[str, Any]:
    return {
        "sentence": sentence,
        "decided": arm is not None,
        "arm": arm,
        "at_most": at_most,
        "best": best,
        "margin": margin,
        "windows": windows,
        "distribution": distribution,
    }


def _hold_against(
    study: Study, name: str, best: str, margin: float, level: float
) -> dict[str, Any]:
    """Returns a window's difference to the best, and what it shows."""
    arm, curve = study.arms[name], list(study.arms)
    wider = curve[curve.index(name) + 1 :]
    limits = {
        other: limit_difference(study, arm, study.arms[other], "auc", level)
        for other in dict.fromkeys([best, *wider])
    }
    found = limits[best]
    lows = {other: own.low for other, own in limits.items() if other != name}
    against = min(lows, key=lambda other: _or_lowest(lows[other]), default=None)
    if all(
        low > -margin or (is_perfect(arm) and is_perfect(study.arms[other]))
        for other, low in lows.items()
    ):
        state = "enough"
    else:
        spread = found.spread
        # So far out there are too few draws for a quantile.
        beyond = (1 - level) / 2 / math.comb(len(curve), 2)
        reach = float(stdtrit(spread.freedom, 1 - beyond)) * spread.error
        state = "worse" if max(found.high, spread.value + reach) < 0 else "open"
    return {
        "arm": name,
        "auc": plain(float(arm.parts["auc"].values.mean())),
        "difference": plain(found.spread.value),
        "low": plain(found.low),
        "high": plain(found.high),
        "state": state,
        "against": against,
        "against_low": None if against is None else plain(lows[against]),
    }


def _or_lowest(low: float) -> float:
    """Returns a limit that sorts; where there is none, nothing is excluded."""
    return -math.inf if math.isnan(low) else low


def _count_smallest(study: Study, margin: float) -> list[dict[str, Any]]:
    """Returns in what share of the resamples each window is the smallest near the best."""
    parts = [arm.parts["auc"] for arm in study.arms.values()]
    drawn = np.stack([(part.resampled * part.shares).sum(axis=1) for part in parts], axis=1)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    near = drawn >= drawn.max(axis=1, keepdims=True) - margin - TIED
    smallest = np.bincount(near.argmax(axis=1), minlength=len(parts)) / max(1, len(drawn))
    return [
        {"arm": name, "share": float(share)}
        for name, share in zip(study.arms, smallest, strict=True)
    ]


def _explain_chance(study: Study, best: str, level: float, names: Mapping[str, str]) -> str:
    """Says why the best AUC cannot be told from 0.5; nothing where it can."""
    arm = study.arms[best]
    adjusted = 1 - (1 - level) / len(study.arms)
    alone = spread_mean([arm.parts["auc"]])
    if is_perfect(arm):
        low, high = _bound_perfect(study, adjusted), 1.0
    elif alone.value <= 0:  # as perfect the wrong way round
        low, high = 0.0, 1 - _bound_perfect(study, adjusted)
    else:
        low, high = logit_interval(alone, adjusted)
    if low > CHANCE:
        return ""
    if math.isnan(low):
        return f"Nothing is decided: {_explain_no_interval(study)}"
    where = "holds" if high >= CHANCE else "lies below"
    return (
        f"Nothing is decided: the networks learned nothing that shows at n = {study.n_patients} "
        f"patients. The best AUC, of {names[best]}, is {alone.value:.3f} ({low:.3f} to "
        f"{high:.3f}), which {where} {CHANCE}."
    )


def _explain_no_interval(study: Study) -> str:
    """Names the class or finding that is missing from most resamples, and what to do about it."""
    outcomes, draws = study.outcomes, study.draws
    place = draws.place(outcomes.patients)
    found = []
    for column, present, absent in list_truths(outcomes, study.positive):
        name = outcomes.classes[column]
        for word, rows in (("with", present), ("without", absent)):
            own = np.unique(place[rows])
            missing = float((draws.counts[:, own].sum(axis=1) == 0).mean())
            found.append((missing, f"{word} `{name}` come from {len(own)}", name))
    missing, said, name = max(found)
    remedy = f"Leave `{name}` out, or add" if len(found) > 2 else "Add"
    return (
        f"there is no interval, since cases {said} of {study.n_patients} patients, and "
        f"{missing:.0%} of the resamples hold none. {remedy} patients."
    )


def _bound_perfect(study: Study, level: float) -> float:
    """Returns the AUC that no error on these patients cannot exclude."""
    terms = list_terms(study.outcomes, study.positive, DEFAULT_THRESHOLD)["auc"]
    return exact_interval(1, count_trials(study.outcomes, terms), level)[0]


def _say_inconclusive(
    study: Study,
    windows: list[dict[str, Any]],
    arm: str | None,
    best: str,
    margin: float,
    names: Mapping[str, str],
) -> str:
    """Says what was seen where no window, or none but the best or the widest, is enough."""
    place = list(study.arms).index(best)
    said = (
        f"Inconclusive at n = {study.n_patients} patients: {names[best]} did best (AUC "
        f"{windows[place]['auc']:.3f}), but no"
    )
    worse = [names[row["arm"]] for row in windows[:place] if row["state"] == "worse"]
    if arm == best:
        wider = "" if best == windows[-1]["arm"] else " and of every wider one"
        said += f" smaller window is shown to be worse, nor to be within {margin:g} of it{wider}."
    else:
        said += (
            f" wider window is shown to be better, nor is {names[best]} shown to be within "
            f"{margin:g} of {names[windows[place]['against']]}."
        )
    return f"{said} Worse: {', '.join(worse)}." if worse else said


def _say(
    study: Study,
    windows: list[dict[str, Any]],
    arm: str,
    best: str,
    margin: float,
    level: float,
    names: Mapping[str, str],
) -> str:
    by_name = {row["arm"]: row for row in windows}
    smaller = windows[: list(study.arms).index(arm)]
    open_ = [names[row["arm"]] for row in smaller if row["state"] == "open"]
    worse = [names[row["arm"]] for row in smaller if row["state"] == "worse"]
    row = by_name[arm]
    further = ""
    if row["against"] not in (None, best) and not is_perfect(study.arms[arm]):
        further = f"to {names[row['against']]} {row['against_low']:+.3f}"
    said = f"{names[arm]}: AUC {row['auc']:.3f}, "
    if arm == best:
        said += f"the best of {len(windows)} windows"
        said += f" (lower {level:.0%} limit of the difference {further})" if further else ""
    else:
        said += (
            f"no more than {margin:g} below the best, "
            f"{by_name[best]['auc']:.3f} of {names[best]} (difference {row['difference']:+.3f}, "
            f"lower {level:.0%} limit {row['low']:+.3f}{f', {further}' if further else ''})"
        )
    opening = (
        "The window that is needed is at most" if open_ else "The smallest window that is enough is"
    )
    said = f"{opening} {said}, at n = {study.n_patients} patients."
    if worse:
        said += f" Worse: {', '.join(worse)}."
    if open_:
        said += f" Not shown to be enough, nor to be worse: {', '.join(open_)}."
    perfect = is_perfect(study.arms[arm])
    if arm == best and arm == windows[-1]["arm"] and len(windows) > 1 and not perfect:
        said += " It is the widest that was tried; a wider one may be better still."
    if perfect:
        low = _bound_perfect(study, level)
        said += (
            f" It makes no error on these patients, who cannot exclude an AUC down to {low:.3f}."
        )
    return said
