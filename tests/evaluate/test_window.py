import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from medvid.contract import ConfigError
from medvid.evaluate import find_smallest_window
from tests.evaluate.test_study import make_arm

DRAWS = 400
TITLES = {"w1": "1 slice", "w3": "3 slices", "w5": "5 slices"}


def make_curve(separations: Sequence[float], *, patients: int = 200) -> dict[str, pd.DataFrame]:
    """Returns windows of rising size, that differ little beside their separation."""
    return {
        name: make_arm(s, arm=arm, patients=patients, own=0.1)
        for arm, (name, s) in enumerate(zip(TITLES, separations, strict=False))
    }


def states(found: dict[str, object]) -> list[str]:
    return [row["state"] for row in found["windows"]]  # type: ignore[attr-defined]


def test_the_smallest_of_equal_windows_is_enough() -> None:
    found = find_smallest_window(make_curve([3, 3, 3]), margin=0.02, resamples=DRAWS, titles=TITLES)
    assert (found["arm"], found["decided"]) == ("w1", True)
    assert states(found) == ["enough"] * 3
    assert found["sentence"].startswith("The smallest window that is enough is 1 slice: AUC")
    assert sum(row["share"] for row in found["distribution"]) == pytest.approx(1)
    assert found["distribution"][0]["share"] > 0.9
    json.dumps(found, allow_nan=False)


def test_a_window_that_needs_its_neighbours_is_found_and_the_smaller_are_called_worse() -> None:
    found = find_smallest_window(
        make_curve([0.5, 2, 2]), margin=0.02, resamples=DRAWS, titles=TITLES
    )
    assert found["arm"] == "w3"
    assert states(found) == ["worse", "enough", "enough"]
    assert "Worse: 1 slice." in found["sentence"]


def test_a_curve_that_rises_to_the_end_says_that_a_wider_window_may_be_better() -> None:
    found = find_smallest_window(make_curve([0.5, 1, 3]), margin=0.02, resamples=DRAWS)
    assert found["arm"] == found["best"] == "w5"
    assert "widest that was tried" in found["sentence"]


def test_networks_that_learned_nothing_give_no_answer() -> None:
    found = find_smallest_window(make_curve([0, 0, 0]), margin=0.02, resamples=DRAWS)
    assert (found["arm"], found["decided"]) == (None, False)
    assert "learned nothing" in found["sentence"]
    assert "holds 0.5" in found["sentence"]


def make_findings(patients: dict[str, list[int]], n: int = 60) -> dict[str, pd.DataFrame]:
    """Returns windows that tell well which patients, given by number, have which finding."""
    tables = {}
    for arm, window in enumerate(TITLES):
        rng = np.random.default_rng(arm)
        table = pd.DataFrame({"case_id": np.arange(n).astype(str)})
        table["patient_id"] = table["case_id"]
        for name, members in patients.items():
            truth = np.isin(np.arange(n), members)
            table[f"label_{name}"] = truth.astype(float)
            table[f"prob_{name}"] = 1 / (1 + np.exp(-3.0 * truth - rng.normal(size=n)))
        tables[window] = table
    return tables


def test_without_an_interval_nothing_is_said_of_what_was_learned() -> None:
    tables = make_findings({"common": list(range(20)), "rare": [25]})
    found = find_smallest_window(tables, margin=0.02, resamples=DRAWS, titles=TITLES)
    assert (found["arm"], found["decided"]) == (None, False)
    assert "nan" not in found["sentence"]
    assert "learned" not in found["sentence"]
    assert "no interval, since cases with `rare` come from 1 of 60 patients" in found["sentence"]
    assert found["sentence"].endswith("Leave `rare` out, or add patients.")


def test_a_class_that_is_seen_in_slices_of_one_patient_gives_no_interval() -> None:
    tables = make_curve([2, 3, 3])
    for table in tables.values():
        # A patient with a nodule in another slice is drawn among those who have one.
        table.loc[table["label"] == "vessel", "patient_id"] = "p001"
    found = find_smallest_window(tables, margin=0.02, resamples=DRAWS)
    assert "cases without `nodule` come from 1 of 100 patients" in found["sentence"]
    assert found["sentence"].endswith("hold none. Add patients.")


def test_a_finding_of_two_patients_is_in_every_resample() -> None:
    tables = make_findings({"common": list(range(20)), "rare": [25, 3]})
    found = find_smallest_window(tables, margin=0.02, resamples=DRAWS, titles=TITLES)
    assert "no interval" not in found["sentence"]
    assert all(row["low"] is not None for row in found["windows"])


def test_networks_that_are_wrong_everywhere_do_not_hold_chance() -> None:
    tables = make_curve([-40, -40, -40])
    found = find_smallest_window(tables, margin=0.02, resamples=DRAWS, titles=TITLES)
    assert "is 0.000 (0.000 to 0.0" in found["sentence"]
    assert "lies below 0.5" in found["sentence"]


def test_few_patients_decide_nothing() -> None:
    tables = {name: make_arm(2.0, arm=k, patients=30, own=0.8) for k, name in enumerate(TITLES)}
    found = find_smallest_window(tables, margin=0.005, resamples=DRAWS, titles=TITLES)
    assert found["arm"] is None
    assert found["sentence"].startswith("Inconclusive at n = 30 patients")
    assert states(found).count("enough") == 1


def test_the_smallest_window_without_an_error_is_enough_with_the_error_it_cannot_exclude() -> None:
    found = find_smallest_window(
        make_curve([40, 40, 40], patients=40), margin=0.02, resamples=DRAWS, titles=TITLES
    )
    assert found["arm"] == "w1"
    assert found["distribution"][0]["share"] == 1
    assert f"cannot exclude an AUC down to {0.025 ** (1 / 20):.3f}" in found["sentence"]


def test_a_window_worse_than_a_perfect_one_is_not_enough() -> None:
    found = find_smallest_window(make_curve([1, 40, 40], patients=60), margin=0.02, resamples=DRAWS)
    assert found["arm"] == "w3"
    assert states(found)[0] == "worse"


def test_nothing_is_better_than_no_error() -> None:
    found = find_smallest_window(make_curve([1, 1, 40], patients=60), margin=0.02, resamples=DRAWS)
    assert found["arm"] == "w5"
    assert "may be better" not in found["sentence"]


def test_one_window_is_the_best_of_one() -> None:
    found = find_smallest_window(make_curve([3]), margin=0.02, resamples=DRAWS)
    assert (found["arm"], found["best"]) == ("w1", "w1")


def test_a_single_class_decides_nothing() -> None:
    tables = {name: table.assign(label="nodule") for name, table in make_curve([1, 2]).items()}
    found = find_smallest_window(tables, margin=0.02, resamples=DRAWS)
    assert found["arm"] is None
    assert "a class is absent" in found["sentence"]


def test_a_margin_below_0_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"margin: -0\.02.*such as 0\.02"):
        find_smallest_window(make_curve([1, 2]), margin=-0.02)


def test_open_windows_make_the_answer_a_bound() -> None:
    tables = make_curve([0.5, 2.6, 3], patients=60)
    found = find_smallest_window(tables, margin=0.005, resamples=DRAWS, titles=TITLES)
    assert states(found) == ["worse", "open", "enough"]
    assert (found["arm"], found["at_most"]) == ("w5", True)
    assert found["sentence"].startswith("The window that is needed is at most 5 slices: AUC")
    assert "Not shown to be enough, nor to be worse: 3 slices." in found["sentence"]


def test_no_error_on_a_handful_of_patients_decides_nothing() -> None:
    tables = make_curve([40, 40, 40], patients=4)
    found = find_smallest_window(tables, margin=0.02, resamples=DRAWS, titles=TITLES)
    assert found["arm"] is None
    assert "learned nothing that shows at n = 4 patients" in found["sentence"]


@pytest.mark.slow
@pytest.mark.parametrize("windows", [3, 6])
def test_of_windows_that_are_alike_a_wider_one_is_seldom_called_needed(windows: int) -> None:
    # The best is picked after the fact, and any other may be the one that looks worse. 400
    # studies: 3 standard errors of 5 % are 3.3 %.
    worse = needed = 0
    for study in range(400):
        tables = draw_alike(np.random.default_rng(study), windows)
        found = find_smallest_window(tables, margin=0.02, resamples=300, seed=study)
        worse += "worse" in states(found)
        needed += found["arm"] not in (None, "w0") and not found["at_most"]
    assert worse / 400 <= 0.083
    assert needed <= worse


def draw_alike(rng: np.random.Generator, windows: int, n: int = 150) -> dict[str, pd.DataFrame]:
    """Returns arms of equal AUC, .86, whose scores are correlated by .8 within the classes."""
    truth = np.arange(n) % 2
    shared = rng.normal(size=n)
    tables = {}
    for arm in range(windows):
        score = 1.53 * truth + np.sqrt([0.8, 0.2]) @ [shared, rng.normal(size=n)]
        p = 1 / (1 + np.exp(-score))
        names = np.arange(n).astype(str)
        labels = np.where(truth, "b", "a")
        own = {"case_id": names, "patient_id": names, "label": labels}
        tables[f"w{arm}"] = pd.DataFrame({**own, "prob_a": 1 - p, "prob_b": p})
    return tables


@pytest.mark.slow
def test_a_window_at_the_margin_is_called_enough_in_few_studies() -> None:
    # The truth of w1 lies the whole margin below w5: to call it enough is wrong, and the lower
    # limit lets it pass in 2.5 % of the studies. 600 studies: 3 standard errors are 1.9 %.
    from scipy.special import ndtri

    margin, wrong, n = 0.05, 0, 120
    for study in range(600):
        rng = np.random.default_rng(study)
        truth = np.arange(n) % 2
        shared = rng.normal(size=n)
        tables = {}
        for name, auc in (("w1", 0.85), ("w5", 0.90)):
            score = np.sqrt(2) * ndtri(auc) * truth + np.sqrt([0.8, 0.2]) @ [
                shared,
                rng.normal(size=n),
            ]
            p = 1 / (1 + np.exp(-score))
            tables[name] = pd.DataFrame(
                {
                    "case_id": np.arange(n).astype(str),
                    "patient_id": np.arange(n).astype(str),
                    "label": np.where(truth, "b", "a"),
                    "prob_a": 1 - p,
                    "prob_b": p,
                }
            )
        found = find_smallest_window(tables, margin=margin, resamples=400, seed=study)
        wrong += found["arm"] == "w1"
    assert wrong / 600 <= 0.044
