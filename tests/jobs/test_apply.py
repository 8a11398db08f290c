"""A run on other data: the right class, the right threshold, the finished folds only."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.config import read_config
from medvid.io.series_list import write_series_list
from medvid.io.write import write_dicom_series
from medvid.jobs.apply import apply_locked, find_cases, predict
from medvid.train.checkpoint import load_checkpoint

Cli = Callable[..., Any]


def write_rows(path: Path, rows: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def read_metrics(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def test_the_threshold_is_held_against_the_positive_class(finished: Path, run_cli: Cli) -> None:
    # held against the other class it would turn nearly every decision round
    threshold = 0.9
    for fold in (0, 1):
        path = finished / f"run/fold_{fold}/best.ckpt"
        set_meta(path, threshold=threshold, threshold_fallback="")
    answer = run_cli("predict", "run", "scans", "-o", "out.csv")
    assert answer.code == 0, answer.err
    assert "`bright` is called from 0.900 on" in answer.out
    table = pd.read_csv(finished / "out.csv")
    assert (table["called"] == np.where(table["prob_bright"] >= threshold, "bright", "dark")).all()
    assert (table["prob_dark"] < threshold).any()


def set_meta(path: Path, **values: Any) -> None:
    from medvid.train.checkpoint import update_checkpoint_meta

    update_checkpoint_meta(path, **values)


def test_the_checkpoint_names_the_positive_class(finished: Path) -> None:
    assert load_checkpoint(finished / "run/fold_0/best.ckpt")["medvid"]["positive"] == "bright"


def test_without_validation_predict_decides_as_the_metrics_were_computed(finished: Path) -> None:
    point = read_metrics(finished / "run")["operating_point"]
    wanted = {int(fold): value for fold, value in point["threshold"].items()}
    metas = {k: load_checkpoint(finished / f"run/fold_{k}/best.ckpt")["medvid"] for k in wanted}
    assert {k: meta["threshold"] for k, meta in metas.items()} == wanted
    table = predict(finished / "run", [finished / "scans"]).table
    assert table["threshold"].unique() == [pytest.approx(sum(wanted.values()) / 2)]
    assert table["threshold_method"].unique() == [
        "{'sensitivity': 0.9}, mean of 2 of the run's folds"
    ]


def test_a_threshold_that_was_never_chosen_is_called_a_default(finished: Path) -> None:
    for fold in (0, 1):
        set_meta(finished / f"run/fold_{fold}/best.ckpt", threshold=None)
    table = predict(finished / "run", [finished / "scans"]).table
    assert set(table["threshold"]) == {0.5}
    (method,) = set(table["threshold_method"])
    assert method == "by default 0.5, since the run has chosen no operating point"


def test_a_list_of_a_series_files_is_predicted_as_its_folder_is(finished: Path) -> None:
    folder = finished / "series"
    volume = np.random.default_rng(0).integers(0, 200, (5, 16, 16)).astype(np.int16)
    write_dicom_series(folder, volume, spacing=(2.0, 1.0, 1.0), patient_id="P1")
    listed = finished / "one.series"
    write_series_list(listed, sorted(folder.glob("*.dcm")))
    whole = predict(finished / "run", [folder]).table
    table = predict(finished / "run", [listed, listed]).table
    assert list(table["case_id"]) == [str(listed)]
    assert table["prob_bright"].to_numpy() == pytest.approx(whole["prob_bright"].to_numpy())


def test_a_refused_file_is_listed_under_its_own_name(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write_dicom_series(folder, np.zeros((3, 8, 8), np.int16), spacing=(5.0, 1.0, 1.0))
    file = min(folder.iterdir())
    found, ((record, error),) = find_cases([file], {})
    assert (found, record.path, error.code) == ([], str(file), "single_image")
    assert record.case_id.startswith(f"{file}#")


def test_an_unfinished_fold_does_not_predict(finished: Path, run_cli: Cli) -> None:
    whole = predict(finished / "run", [finished / "scans"]).table
    (finished / "run/fold_1/predictions_test.csv").unlink()  # best.ckpt lies there since epoch 1
    answer = run_cli("predict", "run", "scans")
    assert answer.code == 0, answer.err
    assert "1 of 2 folds" in answer.out
    table = pd.read_csv("predictions.csv")
    assert not np.allclose(table["prob_dark"], whole["prob_dark"])
    (finished / "run/fold_0/predictions_test.csv").unlink()
    refused = run_cli("predict", "run", "scans")
    assert refused.code == 3
    assert "no finished fold" in refused.err


def test_a_slice_run_predicts_every_frame_of_an_unlabelled_scan(
    finished: Path, run_cli: Cli
) -> None:
    rows = ["case_id,patient_id,path,slice,label"]
    for case in range(24):
        rows += [
            f"c{case},p{case},scans/case {case}.npy,{frame},{('dark', 'bright')[case % 2]}"
            for frame in (1, 3)
        ]
    write_rows(finished / "slices.csv", rows)
    words = ["data.manifest=slices.csv", "data.task=slice", "train.epochs=1"]
    answer = run_cli("train", "tiny.yaml", *words, "data.splits={folds: 2}")
    assert answer.code == 0, answer.err
    (run,) = (finished / "runs").iterdir()
    answer = run_cli("predict", run, "scans")
    assert answer.code == 0, answer.err
    table = pd.read_csv("predictions.csv")
    assert len(table) == 24 * 5
    assert sorted(set(table["frame"])) == [0, 1, 2, 3, 4]


def test_a_test_set_of_one_class_still_has_an_accuracy(finished: Path, run_cli: Cli) -> None:
    rows = (finished / "manifest.csv").read_text(encoding="utf-8").splitlines()
    write_rows(finished / "bright.csv", [rows[0], *(row for row in rows if row.endswith("bright"))])
    answer = run_cli("test", "run", "--manifest", "bright.csv")
    assert answer.code == 0, answer.err
    metrics = read_metrics(finished / "run/test_bright")["metrics"]
    assert metrics["accuracy"]["value"] is not None
    assert metrics["sensitivity"]["value"] is not None
    assert metrics["auc"]["value"] is None


def test_a_test_set_without_labels_is_for_predict(finished: Path, run_cli: Cli) -> None:
    rows = (finished / "manifest.csv").read_text(encoding="utf-8").splitlines()
    write_rows(finished / "bare.csv", [row.rpartition(",")[0] for row in rows])
    answer = run_cli("test", "run", "--manifest", "bare.csv")
    assert answer.code == 3
    assert "has no label" in answer.err
    assert "medvid predict run PATH" in answer.err


def test_a_test_label_of_no_class_of_the_run_names_the_case(finished: Path, run_cli: Cli) -> None:
    text = (
        (finished / "manifest.csv").read_text(encoding="utf-8").replace("npy,dark", "npy,grey", 1)
    )
    write_rows(finished / "other.csv", text.splitlines())
    answer = run_cli("test", "run", "--manifest", "other.csv")
    assert answer.code == 3
    assert "case c0" in answer.err
    assert "`grey`" in answer.err


def test_a_scan_that_cannot_be_decoded_leaves_the_others(finished: Path, run_cli: Cli) -> None:
    broken = np.zeros((5, 16, 16), np.float32)
    broken[0, 0, 0] = np.nan
    np.save(finished / "scans/broken.npy", broken)
    answer = run_cli("predict", "run", "scans")
    assert answer.code == 3
    assert "broken.npy (nan_voxels)" in answer.err
    assert len(pd.read_csv("predictions.csv")) == 24


def test_patients_whom_the_run_knows_are_told(trained: Path, finished: Path, run_cli: Cli) -> None:
    rows = ["case_id,patient_id,path,label"]
    for case in range(4):
        shutil.copy(finished / f"scans/case {case}.npy", finished / f"scans/new {case}.npy")
        label = ("dark", "bright")[case % 2]
        rows.append(f"n{case},q{case},scans/new {case}.npy,{label}")
    write_rows(finished / "strangers.csv", rows)
    folder = apply_locked(finished / "run", manifest=finished / "strangers.csv", resamples=50)
    assert not [note for note in read_metrics(folder)["notes"] if "trained" in note]
    # one under the patient_id of the run, one under another with the run's own file
    by_file = f"m1,stranger,{trained / 'scans/case 7.npy'},bright"
    write_rows(finished / "mixed.csv", [*rows, "m0,p2,scans/case 2.npy,dark", by_file])
    answer = run_cli("test", "run", "--manifest", "mixed.csv")
    assert answer.code == 0, answer.err
    said = "The run was trained, or chose its epochs, on 2 of these 6 patients"
    assert said in " ".join(answer.out.split())
    notes = read_metrics(finished / "run/test_mixed")["notes"]
    assert [note for note in notes if note.startswith(said)]


def test_a_run_that_no_longer_says_whom_it_knows_is_told(finished: Path) -> None:
    (finished / "run/fingerprints.json").unlink()
    folder = apply_locked(finished / "run", manifest=finished / "manifest.csv", resamples=50)
    (note,) = [note for note in read_metrics(folder)["notes"] if "is not known" in note]
    assert "fingerprints.json is missing" in note


def test_two_tests_of_one_name_lie_in_two_folders(finished: Path) -> None:
    text = (finished / "manifest.csv").read_text(encoding="utf-8").replace(",scans", ",../scans")
    folders = []
    for number, name in enumerate(("x", "y")):
        rows = text.splitlines()[: 9 + 4 * number]
        table = write_rows(finished / name / "manifest.csv", rows)
        folders.append(apply_locked(finished / "run", manifest=table, resamples=50))
    assert [folder.name for folder in folders] == ["test_manifest", "test_manifest-2"]
    assert [read_metrics(folder)["n_cases"] for folder in folders] == [8, 12]
    assert str(Path("y") / "manifest.csv") in (folders[1] / "manifest.txt").read_text("utf-8")


def test_a_region_run_asks_for_a_table_of_positions(finished: Path, run_cli: Cli) -> None:
    config = finished / "run/config.yaml"
    config.write_text(config.read_text("utf-8").replace("task: scan", "task: region"), "utf-8")
    assert read_config(config)["data"]["task"] == "region"
    answer = run_cli("predict", "run", "scans")
    assert answer.code == 3
    assert "x_mm, y_mm and z_mm" in answer.err
    assert "medvid predict run TABLE.csv" in answer.err


def test_what_is_named_twice_is_predicted_once(finished: Path, run_cli: Cli) -> None:
    answer = run_cli("predict", "run", "scans/case 1.npy", "scans", finished / "scans/case 2.npy")
    assert answer.code == 0, answer.err
    assert len(pd.read_csv("predictions.csv")) == 24


def test_predict_keeps_decoded_scans_only_where_it_is_told(finished: Path, run_cli: Cli) -> None:
    shutil.rmtree(finished / "store")
    assert run_cli("predict", "run", "scans").code == 0
    assert not (finished / "medvid_store").exists()
    assert not (finished / "store").exists()
    assert run_cli("predict", "run", "scans", "--store", "kept").code == 0
    assert len(list((finished / "kept").rglob("*.raw"))) == 24
