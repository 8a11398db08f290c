"""Studies of data that hospitals have: unlabelled cases, rare classes, scans of unlike slices."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.config import Config, read_config
from medvid.contract import ConfigError, DataError
from medvid.io.write import write_nifti
from medvid.jobs.context import plan_context, study_context
from medvid.jobs.study import open_study
from tests.jobs.conftest import Cli, make_project

TINY = [
    "data.splits={folds: 2, validation: 0}",
    "train={epochs: 1, select: last, optimizer: {name: adamw, lr: 1e-2}}",
    "context={windows: [1, 3], seeds: 1, positions: centre, controls: []}",
    "evaluate.resamples=120",  # the fewest for three networks
]


def read_tiny(*more: str) -> Config:
    return read_config("tiny.yaml", [*TINY, *more])


def run_tiny(*more: str) -> tuple[Path, dict[str, Any]]:
    """Returns the folder of a study, and its result."""
    folder = study_context(read_tiny(*more), runs=Path("studies"), jobs=1)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return folder, result


def change_cases(**columns: Any) -> pd.DataFrame:
    """Writes other values into the first rows of the manifest."""
    cases = pd.read_csv("manifest.csv", dtype=str)
    for name, values in columns.items():
        cases.loc[: len(values) - 1, name] = values
    cases.to_csv("manifest.csv", index=False)
    return cases


def test_a_case_without_a_label_stops_no_study_and_is_told(project: Path) -> None:
    change_cases(label=[""])
    folder, result = run_tiny()
    assert result["n_cases"] == 23
    refused = pd.read_csv(folder / "refused.csv")
    assert refused[["case_id", "code"]].to_numpy().tolist() == [["c0", "no_label"]]
    assert result["deviations"] == []
    assert study_context(resume=folder, jobs=1) == folder


def test_cases_left_out_are_counted_once_each_by_their_reason(project: Path) -> None:
    change_cases(label=["", ""])
    (project / "scans" / "case 5.npy").write_bytes(b"junk")
    folder, result = run_tiny("data.on_bad=quarantine")
    assert result["n_cases"] == 21
    assert sorted(pd.read_csv(folder / "refused.csv")["case_id"]) == ["c0", "c1", "c5"]
    (said,) = result["deviations"]
    assert said.startswith("1 case was left out")
    flow = (folder / "figures" / "flow.svg").read_text(encoding="utf-8")
    assert "Found (n = 24)" in flow


def test_a_split_that_tests_one_class_is_refused_before_anything_is_trained(
    project: Path, run_cli: Cli
) -> None:
    # Even cases are dark; those of patients 0, 2 and 4 have two cases each.
    split_off({"p0", "p2", "p4"})
    for words in (["--plan"], []):
        answer = run_cli("context", "tiny.yaml", *TINY, *words)
        assert answer.code == 3
        assert "Of the 6 tested cases all are `dark`" in answer.err
        assert "data.splits.method=grouped" in answer.err
    assert not (project / "runs").exists()
    split_off({"p0", "p1"})
    plan_context(read_tiny(), jobs=1)


def test_a_split_that_tests_a_finding_in_all_or_none_is_refused(
    project: Path, run_cli: Cli
) -> None:
    cases = split_off({"p0", "p2", "p4"})
    cases["label_dark"] = (cases["label"] == "dark").astype(int)
    cases["label_rare"] = [0] * 9 + [1] * 3 + [0] * 12
    cases.drop(columns="label").to_csv("manifest.csv", index=False)
    answer = run_cli("context", "tiny.yaml", *TINY, "--plan")
    assert answer.code == 3
    assert "no finding is both present and absent" in answer.err


def split_off(patients: set[str]) -> pd.DataFrame:
    """Puts patients on the test side of the manifest."""
    cases = pd.read_csv("manifest.csv", dtype=str)
    cases["split"] = np.where(cases["patient_id"].isin(patients), "test", "train")
    cases.to_csv("manifest.csv", index=False)
    return cases


def test_a_study_of_one_tested_class_that_was_trained_has_a_page(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_off({"p0", "p2", "p4"})
    monkeypatch.setattr("medvid.jobs.plan._refuse_one_class", lambda job, folds: None)
    options = TINY[2].replace("controls: []", "controls: [shuffle], learning_curve: [0.5]")
    folder, result = run_tiny(options)
    assert not result["answer"]["decided"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "a class is absent, so no window has an AUC" in page
    assert (folder / "figures" / "context.svg").is_file()


def test_a_network_of_two_widths_is_two_arms(project: Path) -> None:
    networks = "[{name: slicewise, width: 8}, {name: slicewise, width: 4}, model/lstm_scan]"
    study = open_study(read_tiny(f"context.networks={networks}"), None)
    says = {arm.name: arm.says for arm in study.arms if arm.kind == "network"}
    assert list(says) == ["net_slicewise", "net_slicewise_2", "net_lstm"]
    assert "`slicewise` (width 8)" in says["net_slicewise"]
    assert "`slicewise_2` (width 4)" in says["net_slicewise_2"]
    assert "`lstm` on" in says["net_lstm"]
    widths = [arm.changes["model"]["width"] for arm in study.arms if "slicewise" in arm.name]
    assert widths == [8, 4]


def test_a_network_that_stands_there_twice_is_refused(project: Path) -> None:
    config = read_tiny("context.networks=[{name: slicewise}, slicewise]")
    with pytest.raises(ConfigError, match="`slicewise` twice with the same options") as refused:
        open_study(config, None)
    assert refused.value.code == "doubled_arm"


def test_a_study_of_thick_and_thin_slices_knows_both_steps(project: Path) -> None:
    paths = []
    for number in range(24):
        path = project / f"scans/scan {number}.nii.gz"
        step = 1.0 if number % 4 == 0 else 5.0
        noise = np.random.default_rng(number).normal(20 + 60 * (number % 2), 10, (5, 16, 16))
        write_nifti(path, noise.astype(np.int16), spacing=(step, 1.0, 1.0))
        paths.append(f"scans/{path.name}")
    change_cases(path=paths)
    folder, result = run_tiny()
    assert result["step_mm"] == pytest.approx(5)
    assert result["steps_mm"] == pytest.approx([1, 5])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "3 slices (2 to 10 mm)" in page


def test_which_class_is_positive_is_said_before_training(project: Path, run_cli: Cli) -> None:
    for words, positive in (([], "dark"), (["evaluate.positive=bright"], "bright")):
        planned = run_cli("context", "tiny.yaml", *TINY, *words, "--plan")
        assert f"Positive: {positive} (evaluate.positive)." in planned.out.splitlines()
    checked = run_cli("check", "tiny.yaml")
    assert "dark (evaluate.positive)" in checked.out


def test_of_three_classes_none_is_positive(project: Path) -> None:
    patients = pd.read_csv("manifest.csv")["patient_id"].str[1:].astype(int)
    change_cases(label=np.array(["bright", "dark", "grey"])[patients % 3])
    assert "Positive" not in " ".join(plan_context(read_tiny(), jobs=1).tell())


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("cell.json", lambda text: text[: len(text) // 2], "cell.json is no JSON"),
        ("cell.json", lambda text: "[]", "belongs to another cell"),
        (
            "predictions_test.csv",
            lambda text: "\n".join(text.splitlines()[:-3]) + "\n",
            "predictions_test.csv lacks 3 of the fold's 12 cases",
        ),
        ("predictions_test.csv", lambda text: text[: len(text) // 2], "predictions_test.csv"),
        ("predictions_test.csv", lambda text: "", "is no table of predictions"),
    ],
)
def test_a_damaged_cell_stops_a_resume_before_others_are_trained_with_the_remedy(
    studied: Path, file: str, change: Callable[[str], str], said: str
) -> None:
    cells = sorted(path.parent for path in studied.glob("cells/*/*/cell.json"))
    damaged = cells[-1] / file
    whole = damaged.read_text(encoding="utf-8")
    shutil.rmtree(cells[0])
    damaged.write_text(change(whole), encoding="utf-8")
    with pytest.raises(DataError, match=said) as refused:
        study_context(resume=studied, jobs=1)
    assert f"Delete the cell's folder {cells[-1]}, and" in refused.value.message
    assert not cells[0].exists()
    shutil.rmtree(cells[-1])
    study_context(resume=studied, jobs=1)
    assert damaged.read_text(encoding="utf-8") == whole or file == "cell.json"


@pytest.mark.parametrize("noted", [True, False])
def test_predictions_that_were_edited_stop_a_resume_unless_nothing_was_noted_of_them(
    studied: Path, noted: bool
) -> None:
    cell = sorted(path.parent for path in studied.glob("cells/*/*/cell.json"))[-1]
    facts = json.loads((cell / "cell.json").read_text(encoding="utf-8"))
    assert list(facts["sha256"]) == ["predictions_test.csv"]
    if not noted:  # as a cell of an earlier version
        del facts["sha256"]
        (cell / "cell.json").write_text(json.dumps(facts), encoding="utf-8")
    path = cell / "predictions_test.csv"
    whole = path.read_text(encoding="utf-8")
    table = pd.read_csv(path)
    table["prob_dark"] = np.where(table["label"] == "dark", 0.9, 0.1)
    table.assign(prob_bright=1 - table["prob_dark"]).to_csv(path, index=False)
    if not noted:
        study_context(resume=studied, jobs=1)
        return
    with pytest.raises(DataError, match="changed or lost since its cell was finished") as refused:
        study_context(resume=studied, jobs=1)
    assert refused.value.files == (str(path),)
    assert f"Delete the cell's folder {cell}, and" in refused.value.message
    shutil.rmtree(cell)
    study_context(resume=studied, jobs=1)
    assert path.read_text(encoding="utf-8") == whole


@pytest.fixture(scope="module")
def trained_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, trained once; read only."""
    home = make_project(tmp_path_factory.mktemp("studied") / "project")
    config = read_config(home / "tiny.yaml", [*TINY, f"data.store={home / 'store'}"])
    return study_context(config, runs=home / "studies", jobs=1)


@pytest.fixture
def studied(trained_study: Path, tmp_path: Path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(trained_study, tmp_path / "study"))
