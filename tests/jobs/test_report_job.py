"""`medvid report`: pages made again, and pictures taken in when they are asked for."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.config import read_config
from medvid.jobs.train import train

Cli = Any  # of conftest.py


def read_index(run: Path) -> list[dict[str, Any]]:
    index: list[dict[str, Any]] = json.loads(
        (run / "cases" / "index.json").read_text(encoding="utf-8")
    )
    return index


def test_a_report_is_made_again_without_the_images(finished: Path, run_cli: Cli) -> None:
    run = finished / "run"
    shutil.rmtree(finished / "scans")
    shutil.rmtree(finished / "store")
    (run / "report.html").unlink()
    answer = run_cli("report", run)
    assert answer.code == 0, answer.err
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "No pictures" in page
    assert "<canvas" not in page
    assert "--gallery 12" in answer.out


def test_a_gallery_shows_cases_as_the_network_that_never_saw_them_did(
    finished: Path, run_cli: Cli
) -> None:
    run = finished / "run"
    answer = run_cli("report", run, "--gallery", "4")
    assert answer.code == 0, answer.err
    assert "pictures of patients" in answer.out
    index = read_index(run)
    assert 0 < len(index) <= 4
    assert {one["group"] for one in index} <= {"false_positive", "false_negative", "confident"}
    table = pd.read_csv(run / "predictions_oof.csv").set_index("case_id")
    for one in index:
        with np.load(run / "cases" / one["file"]) as held:
            assert held["frames"].dtype == np.uint8
            assert held["frames"].shape == (3, 16, 16)
        assert one["prob"] == pytest.approx(table.loc[one["case_id"], "prob_bright"])
        assert one["label"] == table.loc[one["case_id"], "label"]
        assert len(one["scores"]["values"]) == len(one["frames"]) == 3
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count('class="player"') == len(index)
    assert not (run / "cases.part").exists()


def test_a_gallery_without_networks_says_so_and_keeps_the_old_one(
    finished: Path, run_cli: Cli
) -> None:
    run = finished / "run"
    assert run_cli("report", run, "--gallery", "2").code == 0
    before = read_index(run)
    for fold in (0, 1):
        (run / f"fold_{fold}" / "best.ckpt").unlink()
    answer = run_cli("report", run, "--gallery", "3")
    assert answer.code == 3
    assert "A gallery needs the networks of the run" in answer.err
    assert read_index(run) == before


def test_a_gallery_of_three_classes_is_refused_in_a_sentence(finished: Path, run_cli: Cli) -> None:
    path = finished / "run" / "predictions_oof.csv"
    table = pd.read_csv(path)
    table["prob_grey"] = 0.0
    table.to_csv(path, index=False)
    answer = run_cli("report", finished / "run", "--gallery", "3")
    assert answer.code == 3
    assert "this run has 3" in answer.err


@pytest.mark.parametrize("more", [[], ["--gallery", "3"]])
def test_a_folder_that_is_no_run_is_refused_in_a_sentence(
    project: Path, run_cli: Cli, more: list[str]
) -> None:
    answer = run_cli("report", project / "scans", *more)
    assert answer.code == 3
    assert "is neither a run nor a study" in answer.err
    answer = run_cli("report", project / "nowhere", *more)
    assert answer.code == 3
    assert "There is no folder" in answer.err


def test_a_slice_that_was_scored_among_others_is_shown_with_its_own_score(
    project: Path, run_cli: Cli
) -> None:
    rows = ["case_id,patient_id,path,slice,label"]
    for case in range(12):
        label = "bright" if case % 2 else "dark"
        rows += [f"c{case},p{case},scans/case {case}.npy,{k},{label}" for k in range(5)]
    (project / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    overrides = [
        "data.task=slice",
        "data.sampler={name: dense, frames: 3}",
        "data.splits={folds: 2, validation: 0}",
        "train={epochs: 1, select: last}",
    ]
    run = train(read_config("tiny.yaml", overrides), runs=project / "runs").path
    answer = run_cli("report", run, "--gallery", "4")
    assert answer.code == 0, answer.err
    for one in read_index(run):
        assert one["scores"]["title"] == "probability of the slice"
        value = one["scores"]["values"][one["frames"].index(one["frame"])]
        assert value == pytest.approx(one["prob"], abs=1e-4)  # slicewise sees slices alone
