"""A study from a config to its report: paired cells, resumed after a kill, refused in sentences."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest

import medvid
from medvid.config import read_config
from medvid.io.write import write_dicom_series, write_nifti
from medvid.jobs.context import plan_context, study_context
from medvid.jobs.study import open_study

# conftest.py is found by pytest, not by name.
Cli = Any
DaskCluster = Any

TINY = [
    "data.splits={folds: 2, validation: 0}",
    "train={epochs: 2, select: last, optimizer: {name: adamw, lr: 1e-2}}",
    "context={windows: [1, 3], seeds: 2, positions: centre, controls: [repeat, permuted_labels]}",
    "evaluate.resamples=80",  # the fewest for two controls
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
    # half of the patients are trained for as many steps, and so for more epochs
    assert result["arms"]["w3_share50"]["steps"] == result["arms"]["w3"]["steps"]
    ends = [
        json.loads((folder / "cells" / arm / "seed_0_fold_0" / "cell.json").read_text("utf-8"))
        for arm in ("w3", "w3_share50")
    ]
    assert ends[0]["steps"] == ends[1]["steps"]
    assert ends[0]["train_cases"] > ends[1]["train_cases"]
    assert ends[0]["epochs"] < ends[1]["epochs"]
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


def test_a_plan_counts_a_share_of_the_patients_with_the_steps_of_all(project: Path) -> None:
    plan = plan_context(read_config("tiny.yaml", [*TINY, "context.learning_curve=[0.25]"]))
    minutes = {row["arm"]: row["minutes"] for row in plan.rows}
    assert minutes["w3_share25"] == minutes["w3"] > 0


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
        ("context.windows=[1, 7]", "a window of 7 shows no more than one of 5"),
        ("context.controls=[shufle]", "shufle"),
        ("context.subgroups=[sex]", "the column `sex`"),
        ("context.networks=[c4d]", "c4d"),
        ("context.windows_mm=[0, 4]", "one of them only"),
        ("overfit=8", "from scratch"),
        ("evaluate.resamples=79", "too few for this study: p is never below 2 / 80, and times 2"),
        ("data.splits.repeats=2", "`context.seeds` says how often"),
        (
            "context={windows: null, windows_mm: [0, 1, 4]}",
            "1 mm shows the same slices as one of 0 mm",
        ),
        (
            "context={windows: null, windows_mm: [0, 4], length: 3}",
            "holds 5 slices where they lie 1 mm apart",
        ),
    ],
)
def test_studies_that_cannot_be_meant_end_with_code_2(
    project: Path, run_cli: Cli, override: str, said: str
) -> None:
    answer = run_cli("context", "tiny.yaml", *TINY, override)
    assert answer.code == 2
    assert said in answer.err
    assert not (project / "runs").exists()


def test_a_cluster_that_is_not_there_leaves_no_folder(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medvid.context.schedule.CONNECT_SECONDS", 1)
    answer = run_cli("context", "tiny.yaml", *TINY, "--cluster", "tcp://127.0.0.1:9")
    assert answer.code == 2
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in answer.err
    assert "preparing" not in answer.out
    assert not (project / "runs").exists()
    assert not (project / "store").exists()


def test_the_next_line_of_a_plan_can_be_pasted(project: Path, run_cli: Cli) -> None:
    words = ["tiny.yaml", *TINY, "--runs", "my studies", "--jobs", "2"]
    planned = run_cli("context", *words, "--plan")
    (line,) = [line for line in planned.out.splitlines() if line.startswith("Next: ")]
    assert shlex.split(line) == ["Next:", "medvid", "context", *words]


def test_clips_hold_the_widest_window_in_mm_of_the_closest_slices(project: Path) -> None:
    cases = pd.read_csv(project / "manifest.csv")
    for number, step in enumerate((3.0, 3.0, 1.0)):
        path = project / f"scans/thin {number}.nii.gz"
        volume = np.full((5, 16, 16), 20 * number, np.int16)
        write_nifti(path, volume, spacing=(step, 1.0, 1.0))
        cases.loc[number, "path"] = f"scans/{path.name}"
    cases.loc[3:, "path"] = "scans/thin 0.nii.gz"
    cases.to_csv(project / "manifest.csv", index=False)
    question = {"windows": None, "windows_mm": [0, 4]}
    config = read_config("tiny.yaml", TINY)
    config["context"] = config["context"] | question
    assert open_study(config, None).config["context"]["length"] == 5


def test_a_plan_of_slices_says_between_what_the_width_lies(project: Path) -> None:
    plan = plan_context(read_config("tiny.yaml", [*TINY, "data.task=slice", *of_slices(project)]))
    assert plan.tell()[1].startswith("12 patients with 60 rows at a prevalence of ")
    assert "the more alike the rows of a patient, the wider" in plan.tell()[1]


def of_slices(project: Path) -> list[str]:
    """Writes a manifest whose patients all have slices of both classes."""
    rows = ["case_id,patient_id,path,slice,label"]
    for case in range(12):
        labels = ("bright", "dark", "bright", "dark", "dark")
        rows += [f"c{case},p{case},scans/case {case}.npy,{k},{v}" for k, v in enumerate(labels)]
    (project / "slices.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return ["data.manifest=slices.csv"]


def test_slices_named_by_uid_are_studied_like_slices_named_by_number(project: Path) -> None:
    """Of DICOM series, half of them acquired downwards: only positions tell a slice's number."""
    tables = {"slice": ["case_id,patient_id,path,label,slice"]}
    tables["sop_uid"] = ["case_id,patient_id,path,label,sop_uid"]
    rng = np.random.default_rng(0)
    for case in range(8):
        bright = rng.permutation([True, True, False, False])
        volume = rng.normal(20, 10, (4, 16, 16)) + 60 * bright[:, None, None]
        place = project / f"ct{case}"
        write_dicom_series(
            place,
            volume.astype(np.int16),
            spacing=(5.0, 1.0, 1.0),
            patient_id=f"P{case}",
            reverse=case % 2 == 1,
        )
        images = [pydicom.dcmread(file) for file in place.iterdir()]
        images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
        for number, image in enumerate(images):
            label = "bright" if bright[number] else "dark"
            row = f"c{case},p{case},ct{case},{label}"
            tables["slice"].append(f"{row},{number}")
            tables["sop_uid"].append(f"{row},{image.SOPInstanceUID}")
    found = {}
    for column, rows in tables.items():
        (project / f"{column}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        folder = run_tiny(project, "data.task=slice", f"data.manifest={column}.csv")
        found[column] = pd.read_csv(folder / "predictions" / "w1.csv")
    table = found["slice"]
    assert len(table) == 8 * 4 * 2
    for _, one in table.groupby(["fold", "seed"]):  # the predictions of one network
        is_bright = one["label"] == "bright"
        assert one["prob_bright"][is_bright].min() > one["prob_bright"][~is_bright].max()
    pd.testing.assert_frame_equal(found["slice"], found["sop_uid"])


def test_a_fixed_split_is_planned_with_the_patients_that_are_tested(project: Path) -> None:
    cases = pd.read_csv(project / "manifest.csv")
    # Patients 0 to 9 are tested; patients 0 to 5 have a second case, c18 to c23.
    tested = cases["patient_id"].str[1:].astype(int) < 10
    cases["split"] = np.where(tested, "test", "train")
    cases.to_csv(project / "manifest.csv", index=False)
    width = plan_context(read_config("tiny.yaml", TINY)).width
    assert (width["n_patients"], width["prevalence"]) == (10, 0.5)


def test_decisions_are_those_of_the_operating_point_of_the_settings(project: Path) -> None:
    for rule, validation in (("0.3", 0), ("youden", 0), ("youden", 0.3)):
        folder = run_tiny(
            project, f"evaluate.operating_point={rule}", f"data.splits.validation={validation}"
        )
        result = read_result(folder)
        decisions = result["decisions"]
        assert decisions["arm"] == (result["answer"]["arm"] or "w3")
        table = pd.read_csv(folder / "predictions" / f"{decisions['arm']}.csv")
        mean = table.groupby("case_id").agg(
            {"prob_dark": "mean", "label": "first", "fold": "first"}
        )
        limits = decisions["operating_point"]["threshold"]
        called = mean["prob_dark"] >= mean["fold"].map(lambda fold: limits[str(fold)])  # noqa: B023
        truth = mean["label"] == "dark"
        counts = [
            [int((called[truth == t] == c).sum()) for c in (False, True)] for t in (False, True)
        ]
        assert decisions["confusion"]["counts"] == counts
        assert sum(map(sum, counts)) == 24
        on = "each fold's validation part" if validation else rule
        assert on in decisions["operating_point"]["method"]
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert decisions["operating_point"]["method"].replace("'", "&#39;") in page


def test_a_gallery_of_a_study_shows_errors_beside_flipped_cases(
    project: Path, run_cli: Cli
) -> None:
    folder = run_tiny(project, "evaluate.operating_point=0")  # so that every bright case is wrong
    answer = run_cli("report", folder, "--gallery", "6")
    assert answer.code == 0, answer.err
    index = json.loads((folder / "cases" / "index.json").read_text(encoding="utf-8"))
    groups = [one["group"] for one in index]
    assert groups == ["flipped"] * 3 + ["false_positive"] * 3
    assert len({one["case_id"] for one in index}) == 6
    result = read_result(folder)
    arm = result["decisions"]["arm"]
    table = pd.read_csv(folder / "predictions" / f"{arm}.csv")
    for one in index[3:]:
        own = table[table["case_id"] == one["case_id"]]
        assert one["prob"] == pytest.approx(own["prob_dark"].mean(), abs=5e-6)
        assert (one["label"], one["arm"]) == ("bright", result["arms"][arm]["title"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f" in {result['arms'][arm]['title']}" in page


def test_a_study_of_several_findings_offers_no_gallery_and_refuses_one(
    project: Path, run_cli: Cli
) -> None:
    cases = pd.read_csv(project / "manifest.csv")
    cases["label_bright"] = (cases.pop("label") == "bright").astype(int)
    cases["label_even"] = (cases["patient_id"].str[1:].astype(int) % 4 < 2).astype(int)
    cases.to_csv(project / "manifest.csv", index=False)
    folder = run_tiny(project)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "a case has several findings here" in page
    assert "--gallery" not in page
    assert "--gallery" not in run_cli("report", folder).out
    answer = run_cli("report", folder, "--gallery", "3")
    assert answer.code == 3
    assert "have 2 findings" in answer.err


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
    # Long enough that something is left to be killed three times.
    whole = run_tiny(project, "train.epochs=20")
    draw = random.Random(3)
    kills = 0
    broken: Path | None = None
    for _ in range(3):
        words = (
            ["tiny.yaml", *TINY, "train.epochs=20", "--runs", "broken"]
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
        with suppress(ProcessLookupError):  # it came to its end
            os.killpg(process.pid, signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3
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
