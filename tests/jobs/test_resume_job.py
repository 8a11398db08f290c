"""A run goes on with what it began with: the same cases, labels, files and places."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvid.config import read_config

Cli = Callable[..., Any]

ONE_FOLD = ("train", "tiny.yaml", "train.epochs=1", "--fold", "0")


def only_run(project: Path) -> Path:
    (run,) = (project / "runs").iterdir()
    return run


def read_results(run: Path) -> dict[str, str]:
    names = ("predictions_oof.csv", "metrics.json")
    return {name: (run / name).read_text(encoding="utf-8") for name in names}


def test_the_users_manifest_may_change_while_a_run_is_unfinished(
    project: Path, run_cli: Cli
) -> None:
    assert run_cli("train", "tiny.yaml", "train.epochs=1", "name=whole").code == 0
    assert run_cli(*ONE_FOLD, "name=parts").code == 0
    whole, parts = (next((project / "runs").glob(f"{name}-*")) for name in ("whole", "parts"))
    text = (project / "manifest.csv").read_text(encoding="utf-8")
    swapped = text.replace("dark", "?").replace("bright", "dark").replace("?", "bright")
    rows = swapped.splitlines()
    (project / "manifest.csv").write_text("\n".join(rows[:-4]) + "\n", encoding="utf-8")
    answer = run_cli("train", "--resume", parts)
    assert answer.code == 0, answer.err
    assert read_results(parts) == read_results(whole)


def change_pixels(project: Path, run: Path) -> None:
    np.save(project / "scans/case 7.npy", np.zeros((5, 16, 16), np.int16))


def delete_scan(project: Path, run: Path) -> None:
    (project / "scans/case 7.npy").unlink()


def delete_row(project: Path, run: Path) -> None:
    rows = (run / "manifest.csv").read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if not row.startswith("c7,")]
    (run / "manifest.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    (run / "manifest.sha256").unlink()  # as in a run of an earlier version


@pytest.mark.parametrize("change", [change_pixels, delete_scan, delete_row])
def test_a_case_that_is_not_what_it_was_ends_the_resume(
    project: Path, run_cli: Cli, change: Callable[[Path, Path], None]
) -> None:
    assert run_cli(*ONE_FOLD).code == 0
    run = only_run(project)
    change(project, run)
    answer = run_cli("train", "--resume", run)
    assert answer.code == 3
    assert "cannot go on: case c7 " in answer.err
    assert not (run / "predictions_oof.csv").exists()


def test_the_runs_own_manifest_may_not_be_edited(project: Path, run_cli: Cli) -> None:
    assert run_cli(*ONE_FOLD).code == 0
    manifest = only_run(project) / "manifest.csv"
    manifest.write_text(manifest.read_text("utf-8").replace("bright", "dark", 1), "utf-8")
    answer = run_cli("train", "--resume", only_run(project))
    assert answer.code == 3
    assert "was changed since the run began" in answer.err


def test_a_run_goes_on_from_any_folder(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "x").mkdir()
    text = (project / "manifest.csv").read_text(encoding="utf-8").replace(",scans", ",../scans")
    (project / "x/labels.csv").write_text(text, encoding="utf-8")
    answer = run_cli(*ONE_FOLD, "data.manifest=x/labels.csv", "data.store=x/store")
    assert answer.code == 0, answer.err
    run = only_run(project)
    saved = read_config(run / "config.yaml")["data"]
    assert saved["manifest"] == str(project / "x/labels.csv")
    assert saved["store"] == str(project / "x/store")
    monkeypatch.chdir(project / "scans")
    answer = run_cli("train", "--resume", run)
    assert answer.code == 0, answer.err
    assert (run / "metrics.json").is_file()
    assert not (project / "scans/x").exists()
    assert not (project / "scans/medvid_store").exists()


def test_a_fold_that_there_is_not_is_told_before_any_work(project: Path, run_cli: Cli) -> None:
    answer = run_cli("train", "tiny.yaml", "--fold", "7")
    assert answer.code == 2
    assert "There is no fold 7; this run has the folds 0 to 2." in answer.err
    assert not (project / "runs").exists()
    assert not (project / "medvid_store").exists()
    assert run_cli(*ONE_FOLD).code == 0
    assert run_cli("train", "--resume", only_run(project), "--fold", "-1").code == 2


def test_an_interrupted_run_says_where_it_goes_on(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medvid.train.loop import TrainingInterrupted

    def interrupt(*_: object, **__: object) -> None:
        raise TrainingInterrupted("Interrupted.", code="interrupted")

    monkeypatch.setattr("medvid.jobs.folds.fit_fold", interrupt)
    answer = run_cli("train", "tiny.yaml")
    assert answer.code == 130
    assert f"medvid train --resume {only_run(project).relative_to(project)}" in answer.err


def kill_when(process: subprocess.Popen[bytes], project: Path, pattern: str) -> bool:
    """Kills a training as soon as a file is on disk; False when it ended before."""
    deadline = time.monotonic() + 300
    while process.poll() is None and not any(project.glob(pattern)):
        assert time.monotonic() < deadline, "the training never got there"
        time.sleep(0.01)
    was_running = process.poll() is None
    if was_running:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return was_running


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_run_ends_like_an_unbroken_one(project: Path, run_cli: Cli) -> None:
    words = ["train", "tiny.yaml", "train.epochs=3"]
    assert run_cli(*words, "name=whole").code == 0
    (whole,) = (project / "runs").iterdir()
    moments = ("fold_0/last.ckpt", "fold_1/best.ckpt", "fold_1/predictions_val.csv", "fold_2")
    broken: Path | None = None
    kills = 0
    for moment in moments:
        command = [*words, "name=broken"] if broken is None else ["train", "--resume", str(broken)]
        process = subprocess.Popen(
            [sys.executable, "-m", "medvid", *command],
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        kills += kill_when(process, project, f"runs/broken-*/{moment}")
        (broken,) = (project / "runs").glob("broken-*")
    assert kills >= 2
    assert broken is not None
    answer = run_cli("train", "--resume", broken)
    assert answer.code == 0, answer.err
    assert read_results(broken) == read_results(whole)
    assert json.loads(read_results(broken)["metrics.json"])["n_cases"] == 24
    assert not list(broken.glob("*.part"))
