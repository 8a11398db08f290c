"""Trainings on dealt labels: their spread is of the trainings, not of the patients."""

import numpy as np
import pandas as pd
import pytest

from medvid.contract import Record
from medvid.data.labels import permute_labels
from medvid.evaluate import measure_chance

FOLDS, SEEDS = 3, 3


def make_dealt(rng: np.random.Generator, shift: float = 0.0) -> pd.DataFrame:
    """Returns predictions where each training orders all patients' cases by a rule of its own."""
    rows = []
    for seed in range(SEEDS):
        for fold in range(FOLDS):
            truth = np.arange(40) % 2
            rule = rng.normal() + shift  # the same for all patients of the fold
            p = 1 / (1 + np.exp(-rule * (truth - 0.5) - rng.normal(size=40)))
            names = [f"f{fold}c{i}" for i in range(40)]
            own = {"case_id": names, "patient_id": names, "fold": fold, "seed": seed}
            labels = np.where(truth, "b", "a")
            rows.append(pd.DataFrame({**own, "label": labels, "prob_a": 1 - p, "prob_b": p}))
    return pd.concat(rows, ignore_index=True)


def test_chance_is_held_in_95_per_cent_of_the_studies() -> None:
    rng = np.random.default_rng(5)
    found = [measure_chance(make_dealt(rng)) for _ in range(400)]
    held = np.mean([one is not None and one.holds for one in found])
    assert 0.92 <= held <= 0.98  # 3 standard errors of 400 studies


def test_what_is_learnt_in_every_training_is_no_chance() -> None:
    chance = measure_chance(make_dealt(np.random.default_rng(1), shift=4.0))
    assert chance is not None
    assert chance.trainings == FOLDS * SEEDS
    assert not chance.holds


@pytest.mark.parametrize(("folds", "said"), [(1, False), (2, True)])
def test_a_single_training_tells_nothing(folds: int, said: bool) -> None:
    table = make_dealt(np.random.default_rng(1))
    one = table[(table["seed"] == 0) & (table["fold"] < folds)]
    assert (measure_chance(one) is not None) is said


def test_a_network_that_remembers_copies_of_the_tested_scans_is_at_chance_all_the_same() -> None:
    cases, copies = 40, np.arange(40)  # each tested scan is a copy of a scan that was trained on
    label = np.where(copies % 2, "b", "a")
    records = [Record(f"t{k}", f"t{k}", f"t{k}", label=str(label[k])) for k in copies]
    dealt = []
    for training in range(9):
        learnt = [one.label for one in permute_labels(records, seed=training)]
        p = np.where(np.array(learnt) == "b", 0.9, 0.1)
        names = [f"c{k}" for k in range(cases)]
        own = {"case_id": names, "patient_id": names, "fold": 0, "seed": training}
        dealt.append(pd.DataFrame({**own, "label": label, "prob_a": 1 - p, "prob_b": p}))
    chance = measure_chance(pd.concat(dealt))
    assert chance is not None
    assert chance.holds
    assert chance.tells
