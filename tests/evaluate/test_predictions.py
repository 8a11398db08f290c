import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medvid.contract import DataError
from medvid.evaluate import (
    evaluate_predictions,
    read_outcomes,
    read_predictions,
    roc_band,
    write_predictions,
)
from tests.evaluate.conftest import MakeTable


def test_a_table_comes_back_bit_by_bit(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table()
    write_predictions(table, tmp_path / "p.csv")
    again = read_predictions(tmp_path / "p.csv")
    for column in table.columns:
        assert list(again[column]) == list(table[column]), column
    assert again["patient_id"].iloc[0] == "000"
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"]


def test_words_that_look_like_nothing_are_classes_and_patients(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        "case_id,patient_id,label,prob_NA,prob_1\nnan,NA,NA,0.7,0.3\nb,007,1,0.2,0.8\nc,1,,0.5,0.5\n",
        encoding="utf-8",
    )
    outcomes = read_outcomes(read_predictions(path))
    assert outcomes.patients.tolist() == ["NA", "007", "1"]
    assert outcomes.classes == ("NA", "1")
    assert outcomes.labels.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no table of predictions"),
        ("case_id,label,prob_a,prob_b\nx,a,1,0\n", "no column patient_id"),
        ("case_id,patient_id,label\nx,p,a\n", "no column prob_<class>"),
        ("case_id,patient_id,prob_a,prob_b\nx,p,1,0\n", "no column label"),
        ("case_id,patient_id,label,prob_a,prob_b\n", "holds no prediction"),
        ("case_id,patient_id,label,prob_a,prob_b\nx,p,a,high,0\n", "`high` in column prob_a"),
        ("case_id,patient_id,fold,label,prob_a,prob_b\nx,p,1.5,a,1,0\n", "column fold"),
        ("case_id,patient_id,label,prob_a,prob_b\nx,p,a,1.2,-0.2\n", "from 0 to 1"),
        ("case_id,patient_id,label,prob_a,prob_b\nx,p,a,,1\n", "from 0 to 1"),
        ("case_id,patient_id,label,prob_a,prob_b\nx,p,a,0.5,0.4\n", "sum to 0.900"),
        ("case_id,patient_id,label,prob_a,prob_b\nx,p,c,0.5,0.5\n", "label `c`"),
        ("case_id,patient_id,label_a,prob_a,prob_b\nx,p,1,0.5,0.5\n", "no label_b"),
        ("case_id,patient_id,label_a,prob_a\nx,p,yes,0.5\n", "`yes` in column label_a"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_in_a_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_outcomes(read_predictions(path), str(path))


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        ("case_id", ("a", "b", "a"), "row 3: the case a stands in row 1 already"),
        ("case_id,seed", ("a,0", "a,1", "a,0"), "row 3: the case a of seed 0 stands in row 1"),
        ("case_id,frame", ("a,4", "a,5", "a,5"), "row 3: the case a frame 5 stands in row 2"),
        ("case_id,fold", ("a,0", "b,0", "a,1"), "row 3: the case a stands in row 1 already"),
    ],
)
def test_a_case_that_would_count_twice_is_refused_by_name(
    tmp_path: Path, columns: str, rows: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "p.csv"
    lines = [f"{columns},patient_id,label,prob_x,prob_y", *(f"{row},p,x,0.5,0.5" for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read_outcomes(read_predictions(path), "p.csv")
    assert caught.value.code == "double_case"
    once = path.with_name("once.csv")
    once.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    assert len(read_outcomes(read_predictions(once))) == len(rows) - 1


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "could not be written")]
)
def test_a_table_that_cannot_be_written_leaves_the_old_one_and_no_half_one(
    make_table: MakeTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    said: str,
) -> None:
    path = tmp_path / "p.csv"
    path.write_text("old", encoding="utf-8")

    def fail(table: pd.DataFrame, beside: Path, **_: object) -> None:
        beside.write_text("half a ta", encoding="utf-8")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(DataError, match=said) as caught:
        write_predictions(make_table(), path)
    assert str(path) in caught.value.message
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_folder_that_is_not_there_is_a_sentence(make_table: MakeTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.p\.csv could not be written"):
        write_predictions(make_table(), tmp_path / "absent" / "p.csv")


def test_two_writers_of_one_table_do_not_share_a_temporary_file(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Path] = []
    real = pd.DataFrame.to_csv

    def watch(table: pd.DataFrame, beside: Path, **options: object) -> None:
        used.append(beside)
        if len(used) == 1:  # the second writer begins and ends while the first one writes
            write_predictions(make_table(seed=1), tmp_path / "p.csv")
        real(table, beside, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(pd.DataFrame, "to_csv", watch)
    write_predictions(make_table(seed=2), tmp_path / "p.csv")
    assert len(set(used)) == 2
    assert {file.parent for file in used} == {tmp_path}
    again = read_predictions(tmp_path / "p.csv")
    assert list(again["prob_nodule"]) == list(make_table(seed=2)["prob_nodule"])
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table of predictions at"):
        read_predictions(tmp_path / "absent.csv")


def test_metrics_are_recomputed_from_the_csv_where_torch_cannot_be_imported(
    make_table: MakeTable, tmp_path: Path
) -> None:
    table = make_table()
    write_predictions(table, tmp_path / "p.csv")
    program = (
        "import json, sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ImportError('torch is out of reach')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from medvid.evaluate import evaluate_predictions, read_predictions\n"
        "found = evaluate_predictions(read_predictions(sys.argv[1]), resamples=100)\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps(found, allow_nan=False))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "p.csv")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert json.loads(done.stdout) == evaluate_predictions(table, resamples=100)


def test_rows_without_a_label_do_not_count_and_none_at_all_is_refused(
    make_table: MakeTable,
) -> None:
    table = make_table()
    table.loc[:9, "label"] = ""
    assert evaluate_predictions(table, resamples=10)["n_cases"] == len(table) - 10
    with pytest.raises(DataError, match="known label"):
        evaluate_predictions(table.assign(label=""), resamples=10)


def test_a_single_class_gives_null_and_a_reason_and_is_still_json(make_table: MakeTable) -> None:
    table = make_table()
    found = evaluate_predictions(table[table["label"] == "nodule"], resamples=20)
    auc = found["metrics"]["auc"]
    assert (auc["value"], auc["low"], auc["high"]) == (None, None, None)
    assert "absent" in auc["reason"]
    json.dumps(found, allow_nan=False)


def test_the_positive_class_can_be_named(make_table: MakeTable) -> None:
    table = make_table()
    last = evaluate_predictions(table, resamples=10)
    first = evaluate_predictions(table, positive="vessel", resamples=10)
    assert last["positive"] == "nodule"
    assert first["metrics"]["auc"]["value"] == pytest.approx(last["metrics"]["auc"]["value"])
    assert first["metrics"]["sensitivity"]["value"] == last["metrics"]["specificity"]["value"]


def test_confusion_and_sensitivity_agree_at_the_thresholds_of_the_folds(
    make_table: MakeTable,
) -> None:
    table = make_table()
    limits = {0: 0.2, 1: 0.4, 2: 0.5, 3: 0.6, 4: 0.8}
    found = evaluate_predictions(table, thresholds=limits, resamples=10)
    called = table["prob_nodule"] >= table["fold"].map(limits)
    truth = table["label"] == "nodule"
    hits, missed = int((called & truth).sum()), int((~called & truth).sum())
    assert found["confusion"]["counts"][1] == [missed, hits]
    assert found["metrics"]["sensitivity"]["value"] == pytest.approx(hits / (hits + missed))


def test_unknown_findings_are_left_out_of_their_own_label_only() -> None:
    rng = np.random.default_rng(0)
    n = 60
    table = pd.DataFrame(
        {
            "case_id": [f"c{i}" for i in range(n)],
            "patient_id": [f"p{i}" for i in range(n)],
            "label_a": np.arange(n) % 2 * 1.0,
            "label_b": np.arange(n) // 2 % 2 * 1.0,
            "prob_a": rng.random(n),
            "prob_b": rng.random(n),
        }
    )
    whole = evaluate_predictions(table, resamples=50)
    holes = table.copy()
    holes.loc[:19, "label_a"] = np.nan
    found = evaluate_predictions(holes, resamples=50)
    only = evaluate_predictions(table.iloc[20:], resamples=50)
    auc = {name: part["auc"]["value"] for name, part in found["per_class"].items()}
    assert auc["b"] == whole["per_class"]["b"]["auc"]["value"]
    assert auc["a"] == only["per_class"]["a"]["auc"]["value"]
    assert found["metrics"]["auc"]["value"] == pytest.approx((auc["a"] + auc["b"]) / 2)


def test_the_roc_band_encloses_a_rising_curve_from_0_to_1(make_table: MakeTable) -> None:
    band = roc_band(read_outcomes(make_table()), 1, resamples=200)
    assert (np.diff(band.tpr) >= 0).all()
    assert band.tpr[-1] == 1
    assert (band.low <= band.high).all()
    assert ((band.low <= band.tpr) & (band.tpr <= band.high)).mean() > 0.95
    area = np.trapezoid(band.tpr, band.fpr)
    assert area == pytest.approx(band.auc, abs=0.01)  # the grid has steps of half a per cent
