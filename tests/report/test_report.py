import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

from medvid.contract import DataError
from medvid.evaluate import (
    compare_predictions,
    evaluate_predictions,
    read_outcomes,
    roc_band,
    write_predictions,
)
from medvid.report.evidence import describe_partition
from medvid.report.figures import plot_reliability, plot_roc_comparison, plot_training_curves
from medvid.report.html import write_comparison, write_report

Check = Callable[[str], Any]  # of conftest.py

EPOCHS = [
    {"epoch": "1", "train_loss": "0.7", "val_loss": "0.8", "val_auc": ""},
    {"epoch": "2", "train_loss": "0.5", "val_loss": "0.6", "val_auc": "0.9"},
]


def make_table(separation: float = 2.0, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = np.arange(80) % 2
    p = 1 / (1 + np.exp(-(separation * (truth - 0.5) + rng.normal(size=80))))
    return pd.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(80)],
            "patient_id": [f"SECRET{i // 2}" for i in range(80)],
            "fold": np.arange(80) // 2 % 2,
            "seed": 0,
            "label": np.where(truth == 1, "nodule", "vessel"),
            "prob_vessel": 1 - p,
            "prob_nodule": p,
        }
    )


def make_run(folder: Path, table: pd.DataFrame, *, leaky: bool = False) -> Path:
    folder.mkdir()
    metrics = evaluate_predictions(table, resamples=100)
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    write_predictions(table, folder / "predictions_oof.csv")
    (folder / "refused.csv").write_text(
        "case_id,patient_id,path,code,reason\n"
        "x,SECRETx,/a,missing_slices,Two slices <b>are</b> missing.\n"
        "y,SECRETy,/b,missing_slices,Another.\n",
        encoding="utf-8",
    )
    table[["case_id", "patient_id"]].to_csv(folder / "manifest.csv", index=False)
    side = np.arange(80) % 2 if leaky else table["fold"].to_numpy()
    folds = [
        {
            "fold": k,
            "train": table["case_id"][side != k].tolist(),
            "val": [],
            "test": table["case_id"][side == k].tolist(),
        }
        for k in (0, 1)
    ]
    (folder / "splits.json").write_text(json.dumps(folds), encoding="utf-8")
    (folder / "config.yaml").write_text("name: <script>\n", encoding="utf-8")
    (folder / "fold_0").mkdir()
    pd.DataFrame(EPOCHS).to_csv(folder / "fold_0" / "history.csv", index=False)
    return folder


def test_a_report_answers_first_and_needs_nothing_but_itself(tmp_path: Path, check: Check) -> None:
    run = make_run(tmp_path / "run ü", make_table())
    page = write_report(run).read_text(encoding="utf-8")
    assert len(check(page).pictures) == 6
    auc = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["metrics"]["auc"]
    answer = re.search(r'class="answer">(.*?)</p>', page)
    assert answer
    assert f"{auc['value']:.3f} (95% interval {auc['low']:.3f} to {auc['high']:.3f})" in answer[1]
    assert "80 cases of 40 patients" in answer[1]
    assert "Not a medical device" in page
    assert "no patient is both trained on and tested" in page
    assert "2 cases refused" in page
    assert not list(run.rglob("*.part"))


def test_a_report_names_no_patient_and_escapes_what_it_shows(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", make_table())).read_text(encoding="utf-8")
    assert "SECRET" not in page
    assert "<script>" not in page
    assert "Two slices &lt;b&gt;are&lt;/b&gt; missing." in page


def test_a_report_says_when_a_patient_is_on_both_sides(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_table(), leaky=True)
    page = write_report(run).read_text(encoding="utf-8")
    assert "Patients are on both sides 80 times" in page
    assert "no patient is both" not in page


def test_a_report_says_what_belongs_beside_the_numbers(tmp_path: Path, check: Check) -> None:
    run = make_run(tmp_path / "run", make_table())
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    page = write_report(run).read_text(encoding="utf-8")
    check(page)
    assert f"<li>{metrics['notes'][0]}</li>" in page
    assert "AUC, mean of the folds" in page
    assert f"SD over 2 folds {metrics['within_folds']['sd']:.3f}" in page
    del metrics["notes"]  # as a run of an earlier version
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert "<li>" not in write_report(run).read_text(encoding="utf-8")


def test_perfect_separation_is_reported_with_an_exact_bound_and_no_band(
    tmp_path: Path, check: Check
) -> None:
    table = make_table(100.0)
    table["patient_id"] = table["case_id"]
    page = write_report(make_run(tmp_path / "run", table)).read_text(encoding="utf-8")
    check(page)
    assert "1.000 (95% interval 0.912 to 1.000)" in page  # 0.025 ** (1 / 40)
    assert "exact bound from 40 independent trials" in page
    assert "ROC curve without a band" in page


def test_a_report_needs_only_metrics_and_predictions(tmp_path: Path, check: Check) -> None:
    run = make_run(tmp_path / "run", make_table())
    for name in ("refused.csv", "splits.json", "manifest.csv", "config.yaml"):
        (run / name).unlink()
    page = write_report(run).read_text(encoding="utf-8")
    check(page)
    assert "not on record" in page


def test_a_run_of_a_single_class_is_reported_as_undefined(tmp_path: Path, check: Check) -> None:
    table = make_table()
    run = make_run(tmp_path / "run", table.assign(label="nodule"))
    page = write_report(run).read_text(encoding="utf-8")
    check(page)
    assert "The AUC is undefined on 80 cases" in page


def test_a_run_of_three_classes_is_reported_class_by_class(tmp_path: Path, check: Check) -> None:
    rng = np.random.default_rng(0)
    table = make_table().drop(columns=["prob_vessel", "prob_nodule"])
    table["label"] = np.array(["a", "b", "c"])[np.arange(80) % 3]
    table[["prob_a", "prob_b", "prob_c"]] = rng.dirichlet([1, 1, 1], 80)
    page = write_report(make_run(tmp_path / "run", table)).read_text(encoding="utf-8")
    check(page)
    assert "Mean AUC over the classes" in page
    assert all(f"<h2>{name}</h2>" in page for name in "abc")


def test_a_run_without_metrics_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\n", encoding="utf-8")
    with pytest.raises(DataError, match="--resume"):
        write_report(tmp_path)


def test_a_comparison_shows_verdict_curves_and_every_difference(
    tmp_path: Path, check: Check
) -> None:
    a, b = make_table(3.0), make_table(0.5, seed=1)
    result: dict[str, Any] = {
        "run_a": "c3d",
        "run_b": "slicewise",
        **compare_predictions(a, b, resamples=200),
    }
    curves = [(n, roc_band(read_outcomes(t), 1, resamples=50)) for n, t in (("A", a), ("B", b))]
    figure = plot_roc_comparison(tmp_path / "roc", curves)
    page = write_comparison(tmp_path, result, figure).read_text(encoding="utf-8")
    assert len(check(page).pictures) == 1
    assert result["sentence"].split(":")[0] in page
    assert page.count("<tr>") == 1 + len(result["metrics"])
    assert not check(write_comparison(tmp_path, result, None).read_text(encoding="utf-8")).pictures


def test_figures_are_written_twice_repeat_exactly_and_leave_matplotlib_alone(
    tmp_path: Path,
) -> None:
    before = dict(matplotlib.rcParams)
    curve = roc_band(read_outcomes(make_table()), 1, resamples=50)
    first = plot_roc_comparison(tmp_path / "w0.5", [("run", curve)])
    again = plot_roc_comparison(tmp_path / "again", [("run", curve)])
    assert first.name == "w0.5.svg"
    assert first.read_bytes() == again.read_bytes()
    png = first.with_name("w0.5.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20]) == 1050  # 3.5 inches at 300 dpi
    assert dict(matplotlib.rcParams) == before
    # text travels as outlines: no font is needed to show it
    assert "<text" not in first.read_text(encoding="utf-8")


def test_training_curves_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    without = [{k: v for k, v in row.items() if k != "val_auc"} for row in EPOCHS]
    narrow = plot_training_curves(tmp_path / "narrow", {"fold 0": without})
    wide = plot_training_curves(tmp_path / "wide", {"fold 0": EPOCHS})
    widths = [int.from_bytes(f.with_suffix(".png").read_bytes()[16:20]) for f in (narrow, wide)]
    assert widths == [1050, 2100]


def test_a_reliability_figure_takes_bins_that_are_all_or_nothing(tmp_path: Path) -> None:
    path = plot_reliability(
        tmp_path / "r",
        np.array([0.1, 0.9]),
        np.array([0.0, 1.0]),
        np.array([5, 5]),
        "nodule",
    )
    assert path.is_file()


def test_intervals_of_a_reliability_figure_have_the_level_that_was_asked(tmp_path: Path) -> None:
    bins = np.array([0.2, 0.8]), np.array([0.3, 0.7]), np.array([20, 20])
    drawn = [
        plot_reliability(tmp_path / str(level), *bins, "nodule", level).read_text(encoding="utf-8")
        for level in (0.95, 0.8)
    ]
    assert drawn[0] == plot_reliability(tmp_path / "same", *bins, "nodule").read_text(
        encoding="utf-8"
    )
    assert drawn[0] != drawn[1]


def test_repeats_of_a_cross_validation_are_no_further_folds(tmp_path: Path) -> None:
    folds = [
        {"fold": fold, "repeat": repeat, "train": ["a"], "val": [], "test": ["b"]}
        for repeat in (0, 1)
        for fold in (0, 1)
    ]
    (tmp_path / "splits.json").write_text(json.dumps(folds), encoding="utf-8")
    (tmp_path / "manifest.csv").write_text("case_id,patient_id\na,p\nb,q\n", encoding="utf-8")
    said = describe_partition(tmp_path)
    assert said.startswith("Cross-validation in 2 folds, repeated 2 times")


def test_a_run_of_slices_says_slices_and_not_cases(tmp_path: Path, check: Check) -> None:
    table = make_table()
    table["case_id"] = [f"c{row // 4}" for row in range(80)]
    table["patient_id"] = table["case_id"]
    table["fold"] = np.arange(80) // 4 % 2
    table["frame"] = np.arange(80) % 4
    page = write_report(make_run(tmp_path / "run", table)).read_text(encoding="utf-8")
    check(page)
    assert "on 80 slices of 20 patients." in page
    assert "In part: 80 slices: vessel 40, nodule 40" in page  # in the checklist
    assert "<p>20 cases of 20 patients; 80 slices: vessel 40, nodule 40.</p>" in page
