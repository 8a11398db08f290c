"""Studies of data that hospitals have: unlabelled cases, rare classes, scans of unlike slices."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from medvid.config import Config, read_config
from medvid.jobs.context import study_context

TINY = [
    "data.splits={folds: 2, validation: 0}",
    "train={epochs: 1, select: last, optimizer: {name: adamw, lr: 1e-2}}",
    "context={windows: [1, 3], seeds: 1, positions: centre, controls: []}",
]


def read_tiny(*more: str) -> Config:
    return read_config("tiny.yaml", [*TINY, *more])


def run_tiny(*more: str) -> tuple[Path, dict[str, Any]]:
    """Returns the folder of a study, and its result."""
    folder = study_context(read_tiny(*more), runs=Path("studies"), jobs=1)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return folder, result


def change_cases(**columns: Any) -> pd.DataFrame:
    """Writes other values into the first rows of the manifest."""
    cases = pd.read_csv("manifest.csv", dtype=str)
    for name, values in columns.items():
        cases.loc[: len(values) - 1, name] = values
    cases.to_csv("manifest.csv", index=False)
    return cases


def test_a_case_without_a_label_stops_no_study_and_is_told(project: Path) -> None:
    change_cases(label=[""])
    folder, result = run_tiny()
    assert result["n_cases"] == 23
    refused = pd.read_csv(folder / "refused.csv")
    assert refused[["case_id", "code"]].to_numpy().tolist() == [["c0", "no_label"]]
    assert result["deviations"] == []
    assert study_context(resume=folder, jobs=1) == folder


def test_cases_left_out_are_counted_once_each_by_their_reason(project: Path) -> None:
    change_cases(label=["", ""])
    (project / "scans" / "case 5.npy").write_bytes(b"junk")
    folder, result = run_tiny("data.on_bad=quarantine")
    assert result["n_cases"] == 21
    assert sorted(pd.read_csv(folder / "refused.csv")["case_id"]) == ["c0", "c1", "c5"]
    (said,) = result["deviations"]
    assert said.startswith("1 case was left out")
    flow = (folder / "figures" / "flow.svg").read_text(encoding="utf-8")
    assert "Found (n = 24)" in flow
