"""Several processes: one training, one set of files."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from medvid.contract import ConfigError
from medvid.train.checkpoint import load_checkpoint, load_weights
from medvid.train.distributed import (
    Place,
    find_place,
    refuse_unsharded,
    shard_loader,
    share_from_first,
)
from medvid.train.history import judge_predictions
from medvid.train.predict import predict_loader
from tests.train.tiny import build_loader, build_net

REPOSITORY = Path(__file__).parents[2]


def test_a_process_that_torchrun_did_not_start_is_alone() -> None:
    assert find_place() == Place(rank=0, world_size=1, local_world_size=1)
    assert share_from_first("run", "runs/a") == "runs/a"


def test_torchruns_variables_say_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    for name, value in {"TORCHELASTIC_RUN_ID": "x", **variables}.items():
        monkeypatch.setenv(name, value)
    assert find_place() == Place(rank=5, world_size=8, local_world_size=4)
    assert find_place().machines == 2


def test_shares_cover_all_cases_in_equally_many_steps() -> None:
    seen: set[str] = set()
    lengths = set()
    for rank in range(3):
        loader = build_loader(20, shuffle=True)
        assert shard_loader(loader, Place(rank, 3, 3))
        lengths.add(len(loader))
        seen |= {case for batch in loader for case in batch["case_id"]}
    assert len(lengths) == 1
    assert len(seen) == 20


def test_a_loader_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="all would train on the same batches"):
        refuse_unsharded([{}], Place(0, 2, 2))
    refuse_unsharded([{}], Place())


@pytest.mark.slow
def test_two_processes_train_together(tmp_path: Path) -> None:
    folder = tmp_path / "together"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.train.train_tiny", str(folder), "0"]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "done 0 12" in done.stdout
    assert "done 1 12" in done.stdout
    history = pd.read_csv(folder / "history.csv")
    # 20 cases are 5 batches; two processes take 3 each, in one step of 3 accumulated batches.
    assert history["step"].tolist() == list(range(1, 13))
    assert history["epoch"].tolist() == list(range(1, 13))
    assert history["val_auc"].notna().all()
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.ckpt",
        "history.csv",
        "last.ckpt",
    ]
    # Validation was shared out and gathered: its numbers are those of one process on all cases.
    model = build_net()
    load_weights(model, load_checkpoint(folder / "best.ckpt"))
    loader = build_loader(8, shuffle=False)
    table = predict_loader(model, loader, classes=("a", "b"), multilabel=False, device="cpu")
    numbers = judge_predictions(table, ("a", "b"), multilabel=False)
    # One thread a process sums in another order than two; float32 keeps 7 digits.
    assert numbers["val_loss"] == pytest.approx(history["val_loss"].min(), rel=1e-5)
