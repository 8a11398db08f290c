"""What is to be compared must be of the same cases: checked, or cut to what all have in common."""

from collections.abc import Mapping

import numpy as np

from medvid.contract import DataError
from medvid.evaluate.predictions import Outcomes

NAMES_SHOWN = 3  # cases named in a message


def match_outcomes(
    named: Mapping[str, Outcomes], *, remedy: str, common_only: bool = False
) -> tuple[dict[str, Outcomes], int]:
    """Returns the outcomes cut to their common cases, and how many cases were left out.

    Args:
        named: by a name for messages, such as `run A`; rows with a known label.
        remedy: the sentence of what to do about cases that not all have.
        common_only: leave out cases that not every seed of every run has, instead of refusing.

    Raises:
        DataError: when classes, cases, labels or patients differ, or no row has a label.
    """
    for name, outcomes in named.items():
        if not len(outcomes):
            raise DataError(
                f"No prediction of {name} has a known label, so there is nothing to measure.",
                code="no_label",
            )
    first = next(iter(named))
    for name in named:
        _stop_on_other_classes(named[first], named[name], first, name)
    wholes = {
        (name, int(seed)): set(outcomes.keys[outcomes.seeds == seed].tolist())
        for name, outcomes in named.items()
        for seed in np.unique(outcomes.seeds)
    }
    common = set.intersection(*wholes.values())
    only = sorted(set.union(*wholes.values()) - common)
    if not common:
        raise DataError(f"{_join(named)} have no case in common.", code="different_cases")
    if only and not common_only:
        lacking = next(part for part, keys in wholes.items() if only[0] not in keys)
        raise DataError(
            f"{_join(named)} were tested on different cases: {len(common)} in common, {len(only)} "
            f"in some only ({', '.join(only[:NAMES_SHOWN])}"
            f"{', ...' if len(only) > NAMES_SHOWN else ''}); {lacking[0]}, seed {lacking[1]}, "
            f"lacks {only[0]}. {remedy}",
            code="different_cases",
        )
    wanted = np.array(sorted(common))
    kept = {name: own.select(np.isin(own.keys, wanted)) for name, own in named.items()}
    for name, outcomes in kept.items():
        _stop_on_other_labels(kept[first], outcomes, name)
    return kept, len(only)


def _join(named: Mapping[str, Outcomes]) -> str:
    return " and ".join(named) if len(named) <= NAMES_SHOWN else f"The {len(named)} arms"


def _stop_on_other_classes(first: Outcomes, other: Outcomes, name: str, other_name: str) -> None:
    if first.classes != other.classes or first.multilabel != other.multilabel:
        raise DataError(
            f"{name} and {other_name} have different classes: {', '.join(first.classes)} against "
            f"{', '.join(other.classes)}.",
            code="different_classes",
        )


def _stop_on_other_labels(first: Outcomes, other: Outcomes, name: str) -> None:
    for what, of_first, of_other in (
        ("label", first.labels, other.labels),
        ("patient", first.patients, other.patients),
    ):
        known = dict(zip(first.keys.tolist(), of_first.tolist(), strict=True))
        for key, value in zip(other.keys.tolist(), of_other.tolist(), strict=True):
            if str(known[key]) != str(value):
                raise DataError(
                    f"Case {key} has another {what} in {name}, so the two cannot be paired. Train "
                    "both from the same manifest.",
                    code="different_labels",
                )
