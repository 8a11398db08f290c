"""The made-up tasks get the answers that are known, and a planted leak changes them."""

import json
from pathlib import Path
from typing import Any

import pytest

from medvid.config import read_config
from medvid.data.phantoms import write_phantom
from medvid.jobs.context import study_context
from medvid.jobs.demo import KNOWN, run_demo

LONG = 1800  # seconds; the demo takes five minutes on two cores that have nothing else to do


def read_result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.slow
@pytest.mark.timeout(LONG)
def test_the_demo_finds_the_answers_that_are_known(tmp_path: Path) -> None:
    studies = run_demo(tmp_path / "demo", jobs=2)
    results = {task: read_result(folder) for task, folder in studies.items()}
    assert {known.task: known.holds(results[known.task]) for known in KNOWN} == {
        "haemorrhage": True,
        "nodule": True,
    }
    assert results["haemorrhage"]["answer"]["window"] == 1
    nodule = results["nodule"]
    assert nodule["answer"]["window"] > 1
    repeat = nodule["arms"]["repeat"]["metrics"]["auc"]
    assert repeat["low"] <= 0.5 <= repeat["high"]
    for folder in studies.values():
        assert (folder / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(LONG)
def test_a_leak_in_the_middle_slice_changes_the_answer_to_one_slice(tmp_path: Path) -> None:
    manifest = write_phantom("nodule", tmp_path / "leak", cases=240, format="npy", leak=True)
    config = read_config(
        "run/study_nodule",
        [
            f"data.manifest={manifest}",
            f"data.store={tmp_path / 'store'}",
            "data.splits.folds=2",
            "train.epochs=24",  # a marker of nine voxels is learnt late
            "context={windows: [1, 17], controls: [], seeds: 1}",
        ],
    )
    result = read_result(study_context(config, runs=tmp_path / "studies", jobs=2))
    assert result["answer"]["window"] == 1, result["answer"]["sentence"]
    assert not KNOWN[1].holds(result | {"arms": {"repeat": result["arms"]["w1"]}})
