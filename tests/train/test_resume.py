"""A killed training goes on as if nothing had been."""

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from medvid.contract import DataError
from medvid.train import keeper
from medvid.train.checkpoint import load_checkpoint
from medvid.train.history import TIMING_COLUMNS
from tests.train.tiny import build_loader
from tests.train.train_tiny import train

REPOSITORY = Path(__file__).parents[2]
PAUSE = 0.02  # s a batch: 12 epochs of 7 batches take about two seconds


def _kill_after(folder: Path, seconds: float) -> bool:
    command = [sys.executable, "-m", "tests.train.train_tiny", str(folder), str(PAUSE)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        was_running = process.poll() is None
        process.kill()
    return was_running


def _read_history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv", dtype=str).drop(columns=list(TIMING_COLUMNS))


def _assert_same_end(folder: Path, unbroken: Path) -> None:
    pd.testing.assert_frame_equal(_read_history(folder), _read_history(unbroken))
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (load_checkpoint(path / name)["state_dict"] for path in (folder, unbroken))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert not list(folder.glob("*.part"))


def test_a_training_killed_at_random_moments_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    train(unbroken)
    for _ in range(2):
        assert _kill_after(broken, random.uniform(0.2, 0.6))
    train(broken)
    _assert_same_end(broken, unbroken)


@pytest.mark.slow
def test_a_training_killed_many_times_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    train(unbroken)
    for _ in range(12):
        _kill_after(broken, random.uniform(0.0, 0.5))
    train(broken)
    _assert_same_end(broken, unbroken)


class Killed(BaseException):
    """Stands for a kill between two files."""


@pytest.mark.parametrize("step", ["save_weights", "write_history"])
def test_a_kill_between_two_files_changes_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    train(unbroken)
    real = getattr(keeper, step)
    calls: list[None] = []

    def die_in_fourth_epoch(*given: object) -> None:
        calls.append(None)
        if step == "write_history" and len(calls) == 4:
            raise Killed
        real(*given)
        if step == "save_weights" and len(calls) == 4:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(keeper, step, die_in_fourth_epoch)
        with pytest.raises(Killed):
            train(broken)
    train(broken)
    _assert_same_end(broken, unbroken)


def test_a_finished_training_is_not_trained_again(folder: Path) -> None:
    first = train(folder, epochs=2)
    (folder / "history.csv").unlink()
    assert train(folder, epochs=2) == first
    assert len(_read_history(folder)) == 2


def test_early_stopping_holds_after_a_resume(folder: Path) -> None:
    options: dict[str, Any] = {
        "early_stopping_patience": 1,
        "schedule": "constant",
        "monitor": "val_accuracy",
    }
    first = train(folder, **options)
    assert first.epochs < 12
    assert train(folder, **options) == first


def test_the_order_of_batches_belongs_to_the_epoch() -> None:
    loader = keeper.Loader(build_loader(20, shuffle=True))
    orders = []
    for epoch in (0, 1, 0):
        loader.epoch = epoch
        orders.append([case for batch in loader for case in batch["case_id"]])
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]


def test_going_on_with_another_model_is_refused(folder: Path) -> None:
    train(folder, epochs=1)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    checkpoint["state_dict"]["model.head.weight"] = torch.zeros(7, 4)
    torch.save(checkpoint, folder / "last.ckpt")
    with pytest.raises(DataError, match=r"another model.*head.weight \(\(7, 4\) in the file"):
        train(folder, epochs=2)
