"""The width of an interval is foretold from the patients, and from all their rows."""

from collections.abc import Mapping
from typing import Any

import pytest

from medvid.contract import Record
from medvid.data.labels import find_label_space
from medvid.data.splits import Fold
from medvid.evaluate import plan_comparison
from medvid.evaluate.width import expected_width
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
    assert "20 patients at a prevalence of 0.50 allow" in width["sentence"]
    assert width["narrowest"] == width["interval_width"]


@pytest.mark.parametrize("slices", [False, True])
@pytest.mark.parametrize("own", [["sick", "sick"], ["sick", "well"]])
def test_several_rows_of_a_patient_are_worth_one_or_as_many_patients(
    own: list[str], slices: bool
) -> None:
    width = foretell(ONE_EACH | {"p1": own}, slices=slices)
    alike = plan_comparison(20, width["prevalence"], margin=0.02)["interval_width"]
    assert (width["n_patients"], width["n_rows"]) == (20, 21)
    assert width["interval_width"] == alike
    assert width["narrowest"] == expected_width(21, width["prevalence"])
    assert f"{width['narrowest']:.3f} to {alike:.3f} wide" in width["sentence"]


def test_twenty_patients_of_which_one_is_sick_foretell_nothing() -> None:
    width = foretell({f"p{k}": ["well" if k else "sick"] for k in range(20)})
    assert list(width) == ["sentence"]
    assert "20 tested patients are 1 with `sick` and 19 without" in width["sentence"]
