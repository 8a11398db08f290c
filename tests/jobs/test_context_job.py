"""A study from a config to its report: paired cells, resumed after a kill, refused in sentences."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import medvid
from medvid.config import read_config
from medvid.jobs.context import plan_context, study_context

# conftest.py is found by pytest, not by name.
Cli = Any
DaskCluster = Any

TINY = [
    "data.splits={folds: 2, validation: 0}",
    "train={epochs: 2, select: last, optimizer: {name: adamw, lr: 1e-2}}",
    "context={windows: [1, 3], seeds: 2, positions: centre, controls: [repeat, permuted_labels]}",
]


def run_tiny(project: Path, *more: str) -> Path:
    return study_context(read_config("tiny.yaml", [*TINY, *more]), runs=project / "studies", jobs=1)


def read_result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    for arm in result["arms"].values():
        del arm["seconds_per_epoch"]  # of this machine in that minute
    return result


def test_a_study_tests_every_case_once_a_seed_in_every_arm(project: Path) -> None:
    folder = run_tiny(project, "context.networks=[model/slicewise]", "context.learning_curve=[0.5]")
    result = read_result(folder)
    assert result["curve"] == ["w1", "w3"]
    assert set(result["arms"]) == {
        "w1",
        "w3",
        "repeat",
        "permuted_labels",
        "net_slicewise",
        "w3_share50",
    }
    for arm in result["arms"]:
        table = pd.read_csv(folder / "predictions" / f"{arm}.csv")
        assert table.groupby("seed")["case_id"].nunique().to_dict() == {0: 24, 1: 24}
    assert result["arms"]["w1"]["parameters"] == result["arms"]["w3"]["parameters"]
    assert result["arms"]["w1"]["steps"] == result["arms"]["w3"]["steps"]
    assert result["arms"]["repeat"]["same_as"] == "w1"
    assert result["hash"] in (folder / "report.html").read_text(encoding="utf-8")


def test_arms_share_folds_seeds_and_first_weights(project: Path) -> None:
    folder = run_tiny(project)
    tables = [pd.read_csv(folder / "predictions" / f"{arm}.csv") for arm in ("w1", "w3")]
    keys = ["case_id", "patient_id", "fold", "seed", "label"]
    pd.testing.assert_frame_equal(tables[0][keys], tables[1][keys])
    # A stack of equal slices looks the same through every window, so equal arms answer equally.
    again = run_tiny(project)
    assert read_result(folder)["arms"] == read_result(again)["arms"]


def test_networks_are_kept_only_where_the_report_looks(project: Path) -> None:
    folder = run_tiny(project)
    kept = {path.parent.relative_to(folder / "cells").as_posix() for path in folder.rglob("*.ckpt")}
    assert kept == {f"{arm}/seed_0_fold_{fold}" for arm in ("w1", "w3") for fold in (0, 1)}


def test_a_plan_writes_no_study(project: Path) -> None:
    plan = plan_context(read_config("tiny.yaml", TINY), jobs=2)
    cells = {row["arm"]: row["cells"] for row in plan.rows}
    assert cells == {"w1": 4, "w3": 4, "repeat": 0, "permuted_labels": 4}
    assert plan.tell()[0].startswith("12 cells in 4 arms")
    assert plan.width is not None
    assert not (project / "studies").exists()


def test_the_command_line_plans_and_runs(project: Path, run_cli: Cli) -> None:
    planned = run_cli("context", "tiny.yaml", *TINY, "--plan")
    assert planned.code == 0
    assert "12 cells in 4 arms" in planned.out
    assert "Next: medvid context tiny.yaml" in planned.out
    ran = run_cli("context", "tiny.yaml", *TINY, "--jobs", 1)
    assert ran.code == 0, ran.err
    assert "Report:" in ran.out
    again = run_cli("context", "--resume", next((project / "runs").iterdir()))
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("context=null", "has no section `context`"),
        ("context.windows=[1, 2]", "2 is not"),
        ("context.controls=[shufle]", "shufle"),
        ("context.subgroups=[sex]", "the column `sex`"),
        ("context.networks=[c4d]", "c4d"),
        ("context.windows_mm=[0, 4]", "one of them only"),
        ("overfit=8", "from scratch"),
    ],
)
def test_studies_that_cannot_be_meant_end_with_code_2(
    project: Path, run_cli: Cli, override: str, said: str
) -> None:
    answer = run_cli("context", "tiny.yaml", *TINY, override)
    assert answer.code == 2
    assert said in answer.err
    assert not (project / "runs").exists()


def test_far_slices_that_there_are_not_are_a_deviation(project: Path) -> None:
    folder = run_tiny(project, "context.controls=[far]", "context.windows=[1, 5]")
    result = read_result(folder)
    assert result["controls"] == []
    assert result["deviations"][0].startswith("The arm `far` was not run: the shortest stack has 5")


def test_train_says_that_a_study_is_a_study(project: Path, run_cli: Cli) -> None:
    answer = run_cli("train", "tiny.yaml", *TINY)
    assert answer.code == 2
    assert "medvid context" in answer.err


def test_a_study_of_changed_cases_does_not_go_on(project: Path, run_cli: Cli) -> None:
    folder = run_tiny(project)
    (project / "scans" / "case 3.npy").unlink()
    answer = run_cli("context", "--resume", folder)
    assert answer.code == 3
    assert "case c3" in answer.err


@pytest.mark.slow
def test_a_study_killed_three_times_ends_with_the_same_files(project: Path) -> None:
    config = [sys.executable, "-m", "medvid", "context"]
    environment = {**os.environ, "PYTHONPATH": str(Path(medvid.__file__).parents[1])}
    whole = run_tiny(project, "train.epochs=6")
    draw = random.Random(3)
    broken: Path | None = None
    for _ in range(3):
        words = (
            ["tiny.yaml", *TINY, "train.epochs=6", "--runs", "broken"]
            if broken is None
            else ["--resume", str(broken)]
        )
        process = subprocess.Popen(
            [*config, *words, "--jobs", "2"],
            cwd=project,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        while broken is None:  # until it is registered
            broken = next((path.parent for path in project.glob("broken/*/study.json")), None)
            time.sleep(0.05)
        # Killed after some more cells have begun, wherever they are.
        begun = len(list(broken.glob("cells/*/*")))
        while process.poll() is None and len(list(broken.glob("cells/*/*"))) <= begun:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (broken / "result.json").exists()
    assert broken is not None
    study_context(resume=broken, jobs=1)
    ours, theirs = read_result(broken), read_result(whole)
    del ours["registered"], theirs["registered"]
    assert ours == theirs
    for path in sorted(whole.glob("predictions/*.csv")):
        assert path.read_bytes() == (broken / "predictions" / path.name).read_bytes()


@pytest.mark.slow
def test_a_study_on_a_cluster_that_loses_a_worker_has_the_same_numbers(
    project: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(medvid.__file__).parents[1]))
    cluster: DaskCluster = request.getfixturevalue("dask_cluster")
    whole = run_tiny(project)
    words = ["tiny.yaml", *TINY, "--runs", "spread", "--cluster", cluster.address]
    process = subprocess.Popen([sys.executable, "-m", "medvid", "context", *words], cwd=project)
    deadline = time.monotonic() + 120
    while len(list(project.glob("spread/*/cells/*/*/cell.json"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cluster.workers[0].kill()
    assert process.wait(120) == 0
    spread = next(project.glob("spread/*/result.json")).parent
    ours, theirs = read_result(spread), read_result(whole)
    del ours["registered"], theirs["registered"]
    assert ours == theirs
    for path in sorted(whole.glob("predictions/*.csv")):
        assert path.read_bytes() == (spread / "predictions" / path.name).read_bytes()
