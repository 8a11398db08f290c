"""A box of the checklist is ticked where the page holds what it says, and nowhere else."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from medvid.report.characteristics import TableOne
from medvid.report.checklist import TOPICS, fill_run_checklist, fill_study_checklist
from medvid.report.gallery import Gallery

CURVES = ("roc", "pr", "reliability", "decision")


@pytest.fixture
def result(made_study: Path) -> dict[str, Any]:
    """What result.json of a study says."""
    read: dict[str, Any] = json.loads((made_study / "result.json").read_text(encoding="utf-8"))
    return read


@pytest.fixture
def record() -> dict[str, Any]:
    """A record that knows as little as one can."""
    return {
        "environment": [], "settings": "", "partition": "One fixed split", "refused": [],
        "refused_total": "0 cases", "table_one": TableOne(), "counted": "2 cases",
        "classes": "no 1, yes 1",
    }  # fmt: skip


def fill(
    record: dict[str, Any], result: dict[str, Any], drawn: Collection[str], *, failures: bool
) -> dict[str, tuple[bool, str]]:
    items = fill_study_checklist(record, result, Gallery(), drawn=drawn, failures=failures)
    return {key: (item["done"], item["known"]) for key, item in zip(TOPICS, items, strict=True)}


def test_a_study_without_curves_leaves_their_boxes_open(
    record: dict[str, Any], result: dict[str, Any]
) -> None:
    items = fill(record, result, {"context"}, failures=True)
    assert items["metrics"] == (True, "AUC, log loss, Brier score")
    assert items["utility"] == (False, "")
    assert items["flow"] == (False, "")


def test_a_decision_curve_is_ticked_whether_or_not_there_are_errors(
    record: dict[str, Any], result: dict[str, Any]
) -> None:
    items = fill(record, result, {"context", "flow", *CURVES}, failures=False)
    assert items["metrics"] == (True, "AUC, log loss, Brier score, calibration curve")
    assert items["utility"] == (True, "Decision curve")
    assert items["failures"] == (False, "")
    assert items["flow"] == (True, "Flow diagram")


def test_a_study_whose_auc_is_undefined_shows_no_performance(
    record: dict[str, Any], result: dict[str, Any]
) -> None:
    for name in result["curve"]:
        metrics = result["arms"][name]["metrics"]
        metrics["auc"] |= {"value": None, "low": None, "high": None}
        metrics["log_loss"] |= {"low": None, "high": None}
        metrics["brier"] |= {"low": None, "high": None}
    items = fill(record, result, {"context"}, failures=False)
    assert items["performance"] == (False, "")
    assert items["metrics"] == (True, "Log loss, Brier score")
    assert items["uncertainty"] == (False, "")


def test_one_seed_and_no_control_are_no_analysis_of_robustness(
    record: dict[str, Any], result: dict[str, Any]
) -> None:
    assert fill(record, result, (), failures=False)["robustness"] == (True, "6 controls, 3 seeds")
    one = result | {"controls": ["repeat"], "seeds": [0]}
    assert fill(record, one, (), failures=False)["robustness"] == (True, "1 control")
    none = result | {"controls": [], "seeds": [0], "folds": 1}
    items = fill(record, none, (), failures=False)
    assert items["robustness"] == (False, "")
    assert items["internal"] == (True, "Predictions of the part that was held out")


def test_a_run_without_its_predictions_ticks_no_curve(record: dict[str, Any]) -> None:
    entry = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 20, "method": "bootstrap"}
    metrics = {
        "task": "binary", "metrics": {"auc": entry, "npv": entry | {"value": None, "low": None}},
        "n_per_class": {"no": 10, "yes": 10}, "bootstrap": {"method": "bootstrap", "resamples": 9},
    }  # fmt: skip
    filled = []
    for drawn in ((), CURVES):
        items = fill_run_checklist(record, metrics, Gallery(), drawn=drawn, failures=False)
        filled.append(dict(zip(TOPICS, (item["known"] for item in items), strict=True)))
    assert filled[0]["metrics"] == "1 measure"
    assert filled[1]["metrics"] == "1 measure, calibration curve"
    assert (filled[0]["utility"], filled[1]["utility"]) == ("", "Decision curve")
