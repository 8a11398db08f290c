"""What is written, where, and that it is tried before the work."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.io.scan import ScanRow
from medvid.jobs.find import name_cases, write_scan

Cli = Callable[..., Any]


def test_cases_are_named_by_the_shortest_end_of_their_path() -> None:
    paths = ["d/p0/ct.npy", "d/p1/ct.npy", "d/p1/mr.npy"]
    rows = [ScanRow(path, "array", verdict="ok") for path in paths]
    assert name_cases(rows) == ["p0/ct.npy", "p1/ct.npy", "mr.npy"]


def test_two_series_of_one_folder_have_two_names() -> None:
    rows = [ScanRow("d/a", "dicom", series=token, verdict="ok") for token in ("abcd1", "abcd2")]
    assert name_cases(rows) == ["a-abcd1", "a-abcd2"]
    assert name_cases(rows[:1]) == ["a-abcd"]


def test_series_in_the_current_folder_are_named_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heads").mkdir()
    monkeypatch.chdir(tmp_path / "heads")
    rows = [ScanRow(".", "dicom", series=token, verdict="ok") for token in ("00ae1", "00bf2")]
    assert name_cases(rows) == ["heads-00ae", "heads-00bf"]
    assert name_cases([ScanRow("..", "dicom", series="00ae1")]) == [f"{tmp_path.name}-00ae"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a.npy"), "a.npy cannot be used"),
        (OSError(errno.EIO, "Input/output error", "a.npy"), "Input/output error (OSError)"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files (OSError)"),
        (PermissionError(errno.EACCES, "Permission denied", "a.npy"), "cannot be written to"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(
    run_cli: Cli, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("medvid.jobs.listings.list_adapter_rows", fail)
    answer = run_cli("adapters")
    assert answer.code == 3
    assert answer.err.startswith("medvid: ")
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_scans_of_one_name_are_trained_as_different_cases(project: Path, run_cli: Cli) -> None:
    for patient in range(12):
        (project / f"sites/p{patient}").mkdir(parents=True)
        (project / f"scans/case {patient}.npy").rename(project / f"sites/p{patient}/ct.npy")
    answer = run_cli("scan", "sites", "-o", "found.csv")
    assert answer.code == 0, answer.err
    assert "12 of them do not say whose they are" in answer.out
    table = pd.read_csv("found.csv")
    assert sorted(table["case_id"]) == sorted(f"p{k}/ct.npy" for k in range(12))
    assert table["patient_id"].nunique() == 12
    numbers = table["case_id"].str.extract(r"p(\d+)/")[0].astype(int)
    table["label"] = np.where(numbers % 2, "bright", "dark")
    table.to_csv("found.csv", index=False)
    answer = run_cli("train", "tiny.yaml", "data.manifest=found.csv", "train.epochs=1")
    assert answer.code == 0, answer.err


def test_a_scans_manifest_holds_only_what_can_be_used(project: Path, run_cli: Cli) -> None:
    (project / "scans/broken.npy").write_bytes(b"\x93NUMPY nothing")
    (project / "scans/notes.txt").write_text("no scan", encoding="utf-8")
    answer = run_cli("scan", "scans", "-o", "found.csv")
    assert answer.code == 0, answer.err
    assert len(pd.read_csv("found.csv")) == 24
    refused = pd.read_csv("found_refused.csv")
    assert sorted(refused["verdict"]) == ["ignored", "refused"]
    assert "1 entry cannot be used as it is and was left out: found_refused.csv" in answer.out


def test_no_list_of_refused_scans_where_none_is(tmp_path: Path) -> None:
    row = ScanRow(str(tmp_path / "a.npy"), "array", patient_id="a", verdict="ok")
    (tmp_path / "m_refused.csv").touch()  # of an earlier scan
    assert write_scan(tmp_path / "m.csv", [row]) == [f"{tmp_path / 'm.csv'}: 1 cases."]
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]


def test_predict_makes_the_folder_of_its_table(finished: Path, run_cli: Cli) -> None:
    answer = run_cli("predict", "run", "scans", "-o", "new/deep/p.csv")
    assert answer.code == 0, answer.err
    assert len(pd.read_csv("new/deep/p.csv")) == 24


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "run", "scans", "-o", "taken/p.csv"],
        ["predict", "run", "scans", "-o", "scans"],
        ["compare", "run", "run", "-o", "taken/c"],
        ["scan", "scans", "-o", "taken/m.csv"],
        ["manifest", "table", "manifest.csv", "-o", "taken/m.csv"],
        ["phantom", "nodule", "taken/out"],
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_written_to_is_told_before_the_work(
    finished: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (finished / "taken").write_text("a file, no folder", encoding="utf-8")

    def work(*_: object, **__: object) -> None:
        raise AssertionError("the place was not tried first")

    monkeypatch.setattr("medvid.jobs.apply.predict_records", work)
    monkeypatch.setattr("medvid.jobs.compare.compare_predictions", work)
    monkeypatch.setattr("medvid.jobs.find.scan_tree", work)
    answer = run_cli(*words)
    assert answer.code == 3, answer.err
    assert answer.err.startswith("medvid: ")
    assert "taken" in answer.err or "is a folder" in answer.err


def test_a_phantom_that_is_refused_leaves_nothing(project: Path, run_cli: Cli) -> None:
    assert run_cli("phantom", "nodule", "x", "--size", "3,3,3").code == 2
    assert not (project / "x").exists()


@pytest.mark.parametrize("words", [["check", "tiny.yaml"], ["phantom", "nodule", "x"]])
def test_an_interrupted_command_says_so(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medvid.jobs.check.check", interrupt)
    monkeypatch.setattr("medvid.jobs.find.make_phantom_data", interrupt)
    answer = run_cli(*words)
    assert answer.code == 130
    assert "interrupted" in answer.err


def test_only_the_first_of_several_processes_speaks() -> None:
    said = {}
    for rank in ("0", "1"):
        place = {"TORCHELASTIC_RUN_ID": "x", "RANK": rank, "WORLD_SIZE": "2"}
        command = [sys.executable, "-m", "medvid", "adapters", "--json"]
        done = subprocess.run(
            command, env=os.environ | place, capture_output=True, text=True, check=True
        )
        said[rank] = done.stdout
    assert "table" in said["0"]
    assert said["1"] == ""
