"""Two runs are compared on one positive class and on the same cases, in numbers and figure."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.evaluate import roc_band
from medvid.jobs import compare as module
from medvid.jobs.compare import compare

Cli = Callable[..., Any]


def copy_run(finished: Path) -> Path:
    return Path(shutil.copytree(finished / "run", finished / "other"))


def say_positive(run: Path, name: str) -> None:
    path = run / "config.yaml"
    text = path.read_text(encoding="utf-8")
    assert "positive: bright" in text
    path.write_text(text.replace("positive: bright", f"positive: {name}"), encoding="utf-8")


@pytest.mark.parametrize("name", ["dark", "null"])  # dark is the last class, which null stands for
def test_runs_of_different_positive_classes_are_refused(
    finished: Path, run_cli: Cli, name: str
) -> None:
    say_positive(copy_run(finished), name)
    answer = run_cli("compare", "run", "other")
    assert answer.code == 2, answer.err
    assert "`bright`" in answer.err
    assert "`dark`" in answer.err
    assert "evaluate.positive" in answer.err


def test_the_last_class_is_positive_whether_said_or_not(finished: Path) -> None:
    say_positive(copy_run(finished), "dark")
    say_positive(finished / "run", "null")
    made = compare(finished / "run", finished / "other", resamples=50)
    assert made.result["metrics"]["auc"]["difference"] == 0


def test_the_curves_are_of_the_common_cases(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy_run(finished) / "predictions_oof.csv"
    table = pd.read_csv(path)
    kept = table.iloc[5:]
    kept.to_csv(path, index=False)
    drawn: list[list[str]] = []

    def look(outcomes: Any, *words: Any, **options: Any) -> Any:
        drawn.append(np.unique(outcomes.keys).tolist())
        return roc_band(outcomes, *words, **options)

    monkeypatch.setattr(module, "roc_band", look)
    made = compare(finished / "run", finished / "other", common_only=True, resamples=50)
    assert made.result["n_left_out"] == 5
    assert [len(keys) for keys in drawn] == [len(kept)] * 2
    assert drawn[0] == drawn[1]


def test_the_margin_decides_what_is_equivalent(finished: Path, run_cli: Cli) -> None:
    copy_run(finished)
    answer = run_cli("compare", "run", "other", "-o", "same", "--margin", "0.05")
    assert answer.code == 0, answer.err
    assert "Run A and Run B are equivalent within 0.05: AUC" in answer.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is no JSON"),
        (lambda text: "{}", "it has no `task`"),
        (lambda text: text.replace('"operating_point"', '"point"'), "no `operating_point`"),
    ],
)
def test_runs_whose_metrics_are_damaged_are_not_compared_at_a_threshold_of_a_half(
    finished: Path, run_cli: Cli, change: Callable[[str], str], said: str
) -> None:
    path = copy_run(finished) / "metrics.json"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    answer = run_cli("compare", "run", "other", "-o", "same")
    assert answer.code == 3, answer.err
    told = " ".join(answer.err.split())
    assert "metrics.json is damaged: it" in told
    assert said in told
    assert "medvid train --resume" in told
    assert not (finished / "same").exists()


@pytest.mark.parametrize("margin", ["-1", "0", "0.5", "5", "nan"])
def test_a_margin_that_no_difference_of_aucs_can_have_is_refused(
    finished: Path, run_cli: Cli, margin: str
) -> None:
    copy_run(finished)
    answer = run_cli("compare", "run", "other", "-o", "wrong", "--margin", margin)
    assert answer.code == 2
    assert f"`margin: {margin}` is no margin of an AUC" in answer.err
    assert not (finished / "wrong").exists()


def test_runs_that_do_not_fit_leave_no_folder_behind(finished: Path, run_cli: Cli) -> None:
    path = copy_run(finished) / "predictions_oof.csv"
    whole = pd.read_csv(path)
    whole.iloc[5:].to_csv(path, index=False)
    answer = run_cli("compare", "run", "other", "-o", "new/compared")
    assert answer.code == 3
    assert "tested on different cases" in answer.err
    whole.rename(columns={"prob_dark": "prob_grey"}).replace("dark", "grey").to_csv(
        path, index=False
    )
    answer = run_cli("compare", "run", "other")
    assert answer.code == 3
    assert "different classes" in answer.err
    assert not (finished / "new").exists()
    assert not list((finished / "run").glob("compared_with_*"))


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "study", "run"),
        ("compare", "run", "study"),
        ("train", "--resume", "study"),
        ("predict", "study", "scans"),
    ],
)
def test_a_study_in_the_place_of_a_run_is_called_one(
    finished: Path, run_cli: Cli, words: tuple[str, ...]
) -> None:
    (finished / "study").mkdir()
    (finished / "study" / "study.yaml").write_text("name: x\n", encoding="utf-8")
    answer = run_cli(*words)
    assert answer.code == 3
    assert "It is a slice-context study" in " ".join(answer.err.split())
    assert "medvid report study" in " ".join(answer.err.split())


def test_runs_of_slices_are_compared_on_slices(finished: Path) -> None:
    path = finished / "run" / "predictions_oof.csv"
    table = pd.read_csv(path)
    pd.concat([table.assign(frame=k) for k in (1, 2)]).to_csv(path, index=False)
    copy_run(finished)
    made = compare(finished / "run", finished / "other", resamples=50)
    page = (made.folder / "comparison.html").read_text(encoding="utf-8")
    assert "48 slices of 18 patients." in page
