from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

MakeTable = Callable[..., pd.DataFrame]


@pytest.fixture
def make_table() -> MakeTable:
    """Returns a maker of binary tables: patients with several cases that share an effect."""

    def make(
        *,
        seed: int = 0,
        patients: int = 60,
        cases: int = 3,
        separation: float = 1.5,
        shared: float = 1.0,
    ) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(patients), cases)
        truth = patient % 2
        effect = rng.normal(0, shared, patients)[patient]
        z = separation * (truth - 0.5) + effect + rng.normal(size=len(patient))
        p = 1 / (1 + np.exp(-z))
        return pd.DataFrame(
            {
                "case_id": [f"case{i}" for i in range(len(patient))],
                "patient_id": [f"{i:03d}" for i in patient],
                "fold": patient % 5,
                "seed": 0,
                "label": np.where(truth == 1, "nodule", "vessel"),
                "prob_vessel": 1 - p,
                "prob_nodule": p,
            }
        )

    return make
