"""The width of an interval is foretold where the formula holds, and nowhere else."""

from collections.abc import Mapping
from typing import Any

import pytest

from medvid.contract import Record
from medvid.data.labels import find_label_space
from medvid.data.splits import Fold
from medvid.jobs.plan import expect_width

CONFIG: dict[str, Any] = {
    "evaluate": {"positive": "sick", "level": 0.95},
    "context": {"margin": 0.02},
}

ONE_EACH = {f"p{k}": ["sick" if k % 2 else "well"] for k in range(20)}


def foretell(labels: Mapping[str, list[str]], *, slices: bool = False) -> dict[str, Any]:
    """Returns the width that patients with these labels allow, each a case or each a slice."""
    records = [
        Record(patient, patient, patient, slice_labels=dict(enumerate(own)))
        for patient, own in labels.items()
        if slices
    ] or [
        Record(f"{patient} {k}", patient, patient, label=label)
        for patient, own in labels.items()
        for k, label in enumerate(own)
    ]
    folds = [Fold(0, 0, (), (), tuple(record.case_id for record in records))]
    return expect_width(records, folds, find_label_space(records), CONFIG)


@pytest.mark.parametrize("slices", [False, True])
def test_patients_of_one_row_each_have_a_width(slices: bool) -> None:
    width = foretell(ONE_EACH, slices=slices)
    assert (width["n_patients"], width["prevalence"]) == (20, 0.5)
    assert "as if" not in width["sentence"]


def test_patients_of_several_cases_of_one_class_count_once_and_it_is_said() -> None:
    width = foretell(ONE_EACH | {"p1": ["sick", "sick"]})
    assert (width["n_patients"], width["prevalence"]) == (20, 0.5)
    assert width["sentence"].endswith(
        "Patients with several cases were counted as if they had one."
    )


@pytest.mark.parametrize(
    ("labels", "slices", "said"),
    [
        ({"p1": ["sick", "well"], "p2": ["well", "sick"]}, False, "2 of 20 tested patients have"),
        ({"p1": ["sick", "well"]}, True, "patients have several slices each"),
        ({"p1": ["sick", "sick"]}, True, "patients have several slices each"),
        ({f"p{k}": ["well"] for k in range(3, 20)}, False, "20 tested patients 1 show `sick` and"),
    ],
)
def test_nothing_is_foretold_where_the_formula_does_not_hold(
    labels: dict[str, list[str]], slices: bool, said: str
) -> None:
    width = foretell(ONE_EACH | labels, slices=slices)
    assert list(width) == ["sentence"]
    assert "is not foretold: " in width["sentence"]
    assert said in width["sentence"]
