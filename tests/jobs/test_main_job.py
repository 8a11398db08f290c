"""From a folder of scans to a cross-validated result, as a user would do it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid import cli
from medvid.evaluate import evaluate_predictions, read_predictions

Cli = Callable[..., Any]


def only_run(project: Path) -> Path:
    (run,) = (project / "runs").iterdir()
    return run


def test_train_leaves_a_whole_run_folder(project: Path, run_cli: Cli) -> None:
    answer = run_cli("train", "tiny.yaml")
    assert answer.code == 0, answer.err
    assert "auc" in answer.out
    assert "AUC within the folds: mean" in answer.out
    assert "Next: medvid predict" in answer.out
    run = only_run(project)
    wanted = (
        "command.txt config.yaml environment.json manifest.csv splits.json refused.csv "
        "predictions_oof.csv metrics.json report.html fold_0/best.ckpt fold_0/last.ckpt "
        "fold_0/history.csv fold_0/predictions_val.csv fold_2/predictions_test.csv"
    )
    assert all((run / name).is_file() for name in wanted.split())
    table = read_predictions(run / "predictions_oof.csv")
    assert sorted(table["case_id"]) == sorted(f"c{k}" for k in range(24))
    assert set(table["fold"]) == {0, 1, 2}
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    thresholds = {int(k): v for k, v in metrics["operating_point"]["threshold"].items()}
    again = evaluate_predictions(table, thresholds=thresholds, resamples=50)
    assert again["metrics"]["auc"] == metrics["metrics"]["auc"]
    assert metrics["metrics"]["auc"]["value"] > 0.9
    assert not list(run.rglob("*.part"))


def test_a_threshold_that_nothing_could_be_chosen_on_is_said(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if the validation part of a fold held one class
    def fall_back(*_: object) -> str:
        return "0.5, since all 4 cases to choose on (youden) are negative"

    monkeypatch.setattr("medvid.jobs.decisions.explain_fallback", fall_back)
    answer = run_cli("train", "tiny.yaml", "train.epochs=1")
    assert answer.code == 0, answer.err
    said = "The operating point of fold 1 is 0.5, since all 4 cases to choose on"
    metrics = json.loads((only_run(project) / "metrics.json").read_text(encoding="utf-8"))
    assert any(note.startswith(said) for note in metrics["notes"])
    assert metrics["operating_point"]["threshold"]["1"] == 0.5
    assert said in answer.out


def test_a_run_goes_on_fold_by_fold_and_ends_the_same(project: Path, run_cli: Cli) -> None:
    assert run_cli("train", "tiny.yaml", "name=whole").code == 0
    assert run_cli("train", "tiny.yaml", "name=parts", "--fold", "1").code == 0
    whole, parts = (next((project / "runs").glob(f"{name}-*")) for name in ("whole", "parts"))
    assert not (parts / "predictions_oof.csv").exists()
    assert run_cli("train", "--resume", parts).code == 0
    first, second = (read_predictions(run / "predictions_oof.csv") for run in (whole, parts))
    pd.testing.assert_frame_equal(first, second)


def test_check_tells_what_training_would_meet(project: Path, run_cli: Cli) -> None:
    answer = run_cli("check", "tiny.yaml")
    assert answer.code == 0, answer.err
    for said in ("24 of 18 patients", "bright 12, dark 12", "minutes", "parameters", "GB free"):
        assert said in answer.out
    assert "Next: medvid train tiny.yaml" in answer.out


def test_eight_cases_are_learnt_by_heart(project: Path, run_cli: Cli) -> None:
    answer = run_cli("train", "tiny.yaml", "overfit=8")
    assert answer.code == 0, answer.err
    metrics = json.loads((only_run(project) / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_cases"] == 8
    assert metrics["metrics"]["accuracy"]["value"] == 1


def test_predict_lists_what_it_cannot_read_and_does_the_rest(project: Path, run_cli: Cli) -> None:
    assert run_cli("train", "tiny.yaml").code == 0
    (project / "scans/broken.npy").write_bytes(b"\x93NUMPY nothing")
    answer = run_cli("predict", only_run(project), "scans", "nowhere", "-o", "out.csv")
    assert answer.code == 3
    assert "broken.npy" in answer.err
    assert "nowhere does not exist" in answer.err
    table = pd.read_csv(project / "out.csv")
    assert len(table) == 24
    names = table["case_id"].str.extract(r"case (\d+)")[0].astype(int)
    assert (table["called"] == np.where(names % 2, "bright", "dark")).mean() > 0.9


def test_test_applies_locked_models_to_other_data(project: Path, run_cli: Cli) -> None:
    assert run_cli("train", "tiny.yaml").code == 0
    rows = (project / "manifest.csv").read_text(encoding="utf-8").splitlines()
    (project / "other.csv").write_text("\n".join(rows[:13]) + "\n", encoding="utf-8")
    answer = run_cli("test", only_run(project), "--manifest", "other.csv")
    assert answer.code == 0, answer.err
    folder = only_run(project) / "test_other"
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["n_cases"] == 12


def test_compare_pairs_two_runs(project: Path, run_cli: Cli) -> None:
    for name in ("one", "two"):
        assert run_cli("train", "tiny.yaml", f"name={name}", "train.epochs=1").code == 0
    one, two = (next((project / "runs").glob(f"{name}-*")) for name in ("one", "two"))
    answer = run_cli("compare", one, two, "-o", "compared")
    assert answer.code == 0, answer.err
    assert "are equivalent within 0.02" in answer.out  # the same run twice
    for name in ("comparison.json", "comparison.html", "roc.png", "roc.svg"):
        assert (project / "compared" / name).is_file()


def test_bad_cases_are_left_out_listed_and_counted_when_asked(project: Path, run_cli: Cli) -> None:
    volume = np.zeros((5, 16, 16), np.float32)
    volume[0, 0, 0] = np.nan
    np.save(project / "scans/case 3.npy", volume)
    (project / "scans/case 4.npy").unlink()
    stopped = run_cli("train", "tiny.yaml")
    assert stopped.code == 3
    assert "case 4.npy" in stopped.err
    done = run_cli("train", "tiny.yaml", "data.on_bad=quarantine")
    assert done.code == 0, done.err
    refused = pd.read_csv(only_run(project) / "refused.csv")
    assert dict(zip(refused["case_id"], refused["code"], strict=True)) == {
        "c3": "nan_voxels",
        "c4": "missing_file",
    }


def test_findings_and_slices_are_trained_by_the_same_verb(project: Path, run_cli: Cli) -> None:
    lines = ["case_id,patient_id,path,slice,label"]
    for case in range(24):
        for frame in range(5):
            label = "bright" if case % 2 else "dark"
            lines.append(f"c{case},p{case},scans/case {case}.npy,{frame},{label}")
    (project / "slices.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["tiny.yaml", "data.manifest=slices.csv", "data.task=slice"]
    assert run_cli("train", *words, "name=centred").code == 0
    dense = "data.sampler={name: dense, frames: 5}"
    assert run_cli("train", *words, "name=dense", dense).code == 0
    for name in ("centred", "dense"):
        run = next((project / "runs").glob(f"{name}-*"))
        table = read_predictions(run / "predictions_oof.csv")
        assert len(table) == 24 * 5
        assert "frame" in table

    rows = ["case_id,patient_id,path,label_bright,label_odd"]
    rows += [
        f"c{k},p{k},scans/case {k}.npy,{k % 2},{'' if k == 5 else k % 3 // 2}" for k in range(24)
    ]
    (project / "findings.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    answer = run_cli("train", "tiny.yaml", "data.manifest=findings.csv", "name=findings")
    assert answer.code == 0, answer.err
    run = next((project / "runs").glob("findings-*"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["task"] == "multilabel"
    assert set(metrics["per_class"]) == {"bright", "odd"}


def test_one_config_serves_scans_and_videos(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medvid.data.phantoms import write_phantom

    for kind in ("nifti", "video"):
        write_phantom("nodule", project / kind, cases=20, format=kind)
        overrides = [f"data.manifest={kind}/manifest.csv", "transforms.both=[percentiles]"]
        answer = run_cli("train", "tiny.yaml", f"name={kind}", *overrides)
        assert answer.code == 0, answer.err
    runs = [next((project / "runs").glob(f"{kind}-*")) for kind in ("nifti", "video")]
    tables = [read_predictions(run / "predictions_oof.csv") for run in runs]
    assert list(tables[0].columns) == list(tables[1].columns)
    assert set(tables[0]["case_id"]) == set(tables[1]["case_id"])


def test_the_command_is_noted_as_anybody_may_repeat_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m medvid` and torchrun start a file of another name."""
    words = ["train", "tiny.yaml", "train.epochs=1", "--fold", "0"]
    monkeypatch.setattr("sys.argv", ["/some/where/medvid/__main__.py", *words])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main()
    (run,) = (project / "runs").iterdir()
    noted = (run / "command.txt").read_text(encoding="utf-8")
    assert noted == "medvid train tiny.yaml train.epochs=1 --fold 0\n"
