"""`medvid report`: pages made again, and pictures taken in when they are asked for."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.config import read_config
from medvid.evaluate import evaluate_predictions, read_predictions
from medvid.jobs.context import study_context
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
        assert one["prob"] == pytest.approx(table.loc[one["case_id"], "prob_bright"], abs=5e-6)
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


def make_grey(project: Path) -> None:
    """Makes every third case of the manifest one of a third class."""
    table = pd.read_csv("manifest.csv")
    table.loc[table.index % 3 == 0, "label"] = "grey"
    table.to_csv("manifest.csv", index=False)


def test_a_gallery_of_three_classes_shows_errors_of_the_likeliest_class(
    project: Path, run_cli: Cli
) -> None:
    make_grey(project)
    overrides = ["data.splits={folds: 2, validation: 0}", "train={epochs: 1, select: last}"]
    run = train(read_config("tiny.yaml", overrides), runs=project / "runs").path
    answer = run_cli("report", run, "--gallery", "6")
    assert answer.code == 0, answer.err
    index = read_index(run)
    assert {one["group"] for one in index} <= {"error", "confident"}
    assert "error" in {one["group"] for one in index}
    table = pd.read_csv(run / "predictions_oof.csv").set_index("case_id")
    page = (run / "report.html").read_text(encoding="utf-8")
    for one in index:
        chances = table.loc[one["case_id"], ["prob_bright", "prob_dark", "prob_grey"]]
        assert one["prob"] == pytest.approx(chances.max(), abs=5e-6)
        assert f"prob_{one['of']}" == chances.astype(float).idxmax()
        assert (one["of"] == one["label"]) == (one["group"] == "confident")
        assert f"true class {one['label']}, probability of {one['of']} {one['prob']:.3f}" in page


def test_a_study_of_three_classes_lists_its_errors_and_flipped_cases(
    project: Path, run_cli: Cli
) -> None:
    make_grey(project)
    overrides = [
        "data.splits={folds: 2, validation: 0}",
        "train={epochs: 1, select: last}",
        "context={windows: [1, 3], seeds: 2, positions: centre, controls: []}",
    ]
    study = study_context(read_config("tiny.yaml", overrides), runs=project / "runs", jobs=1)
    result = json.loads((study / "result.json").read_text(encoding="utf-8"))
    wide = pd.read_csv(study / "predictions" / "w3.csv")
    classes = ["bright", "dark", "grey"]
    mean = wide.groupby("case_id")[[f"prob_{name}" for name in classes]].mean()
    labels = wide.groupby("case_id")["label"].first()
    for one in result["flipped"]:
        own = mean.loc[one["case_id"], f"prob_{labels[one['case_id']]}"]
        assert one["wide"] == pytest.approx(own)
    arm = result["decisions"]["arm"]
    assert sum(map(sum, result["decisions"]["confusion"]["counts"])) == 24
    table = pd.read_csv(study / "predictions" / f"{arm}.csv")
    called = table.groupby("case_id")[[f"prob_{name}" for name in classes]].mean().idxmax(axis=1)
    wrong = set(labels.index[called != "prob_" + labels])
    errors = pd.read_csv(study / "tables" / "errors.csv")
    assert set(errors["case"]) == wrong
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "Probability of the called class" in page
    assert "Probability of the true class in the smallest and in the widest" in page
    assert "--gallery 12" in page

    answer = run_cli("report", study, "--gallery", "6")
    assert answer.code == 0, answer.err
    index = read_index(study)
    assert {one["group"] for one in index} == {"flipped", "error"}
    for one in index:
        assert (one["of"] == one["label"]) == (one["group"] == "flipped")
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.count('class="player"') == len(index)
    assert "None" not in page.split("Failures and flipped cases")[1].split("<canvas")[0]


def test_pages_of_several_findings_offer_no_pictures(finished: Path, run_cli: Cli) -> None:
    run = finished / "run"
    table = pd.read_csv(run / "predictions_oof.csv")
    for name in ("bright", "dark"):
        table[f"label_{name}"] = (table["label"] == name).astype(int)
    table = table.drop(columns="label")
    table.to_csv(run / "predictions_oof.csv", index=False)
    answer = run_cli("report", run, "--gallery", "3")
    assert answer.code == 3
    assert "have 2 findings" in answer.err
    metrics = evaluate_predictions(read_predictions(run / "predictions_oof.csv"), resamples=50)
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    answer = run_cli("report", run)
    assert answer.code == 0
    assert "--gallery" not in answer.out
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "a case has several findings here" in page
    assert "--gallery" not in page
    assert "No case was called wrong" not in page


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
