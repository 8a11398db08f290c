"""Half a file is told by its name, with what to do, and nothing is computed from it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medvid.contract import DataError
from medvid.report.html import takes_gallery, write_report
from medvid.report.results import METRICS, RESULT, read_metrics, read_result
from tests.report.test_report import make_run, make_table

Change = Callable[[str], str]

DAMAGES: tuple[Change, ...] = (
    lambda text: text[: len(text) // 2],
    lambda text: "",
    lambda text: "{}",
    lambda text: "[1, 2]",
    lambda text: "null",
)


@pytest.fixture
def study(made_study: Path, tmp_path: Path) -> Path:
    """A study of one's own, without predictions, which take time to draw."""
    folder = tmp_path / "study"
    shutil.copytree(made_study, folder, ignore=shutil.ignore_patterns("predictions"))
    return folder


@pytest.fixture(scope="module")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run", make_table())


@pytest.fixture
def run(made_run: Path, tmp_path: Path) -> Path:
    """A run of one's own, without predictions, which take time to draw."""
    folder = tmp_path / "run"
    shutil.copytree(made_run, folder, ignore=shutil.ignore_patterns("predictions_oof.csv"))
    return folder


def damage(path: Path, change: Change) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize("change", DAMAGES)
def test_a_damaged_result_stops_the_page_with_the_remedy(study: Path, change: Change) -> None:
    damage(study / "result.json", change)
    for use in (write_report, takes_gallery):
        with pytest.raises(DataError, match=r"result\.json is damaged: it") as refused:
            use(study)
        assert refused.value.files == (str(study / "result.json"),)
        assert f"`medvid context --resume {study}` writes it anew" in refused.value.message


@pytest.mark.parametrize("change", DAMAGES)
def test_damaged_metrics_stop_the_page_with_the_remedy(run: Path, change: Change) -> None:
    damage(run / "metrics.json", change)
    for use in (write_report, takes_gallery):
        with pytest.raises(DataError, match=r"metrics\.json is damaged: it") as refused:
            use(run)
        assert f"`medvid train --resume {run}` writes it anew" in refused.value.message


@pytest.mark.parametrize("change", [*DAMAGES[:2], DAMAGES[4], lambda text: "[[]]"])
@pytest.mark.parametrize("name", ["splits.json", "environment.json", "cases/index.json"])
def test_what_stands_beside_the_result_is_told_when_damaged(
    study: Path, name: str, change: Change
) -> None:
    damage(study / name, change)
    with pytest.raises(DataError, match="is damaged: ") as refused:
        write_report(study)
    assert refused.value.files == (str(study / name),)


def test_every_name_that_a_page_needs_is_asked_for(study: Path, run: Path) -> None:
    for path, kinds, read in (
        (study / "result.json", RESULT, read_result),
        (run / "metrics.json", METRICS, read_metrics),
    ):
        whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert kinds
        for name in kinds:
            path.write_text(json.dumps({k: v for k, v in whole.items() if k != name}))
            with pytest.raises(DataError, match=f"damaged: it has no `{name}`"):
                read(path.parent)
            path.write_text(json.dumps(whole | {name: None}))
            with pytest.raises(DataError, match=f"its `{name}` is `null`"):
                read(path.parent)


def test_a_run_of_two_classes_without_a_threshold_is_damaged(run: Path) -> None:
    path = run / "metrics.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    del whole["operating_point"]
    path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(DataError, match="names no `operating_point`"):
        read_metrics(run)
    path.write_text(json.dumps(whole | {"task": "multiclass"}), encoding="utf-8")
    assert read_metrics(run)["task"] == "multiclass"
