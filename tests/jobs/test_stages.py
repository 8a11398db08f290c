"""A training in two stages: the classifier on anchors from the data, then more of the network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medvid.config import read_config
from medvid.contract import ConfigError
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.job import open_job
from medvid.jobs.network import build_network, find_model_section
from medvid.jobs.train import train
from medvid.train.checkpoint import load_checkpoint
from medvid.train.runfolder import RunFolder

STAGE1 = [
    "model={name: actionvlad, width: 8, depths: [1, 1], norm: batch, anchors: 3}",
    "data.splits={folds: 2, validation: 0}",
    "train={epochs: 1, select: last, freeze: ['trunk.*', 'vlad.*']}",
    "evaluate={resamples: 50}",
]


def read(*more: str) -> dict[str, Any]:
    return read_config("tiny.yaml", [*STAGE1, *more])


def weights(run: RunFolder, fold: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_checkpoint(run.fold(fold) / "best.ckpt")["state_dict"]
    return state


def list_changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_each_stage_trains_its_part_and_the_anchors_are_each_fold_s_own(project: Path) -> None:
    first = train(read())
    job = open_job(read())
    shape = read_clip_shape(job.data)
    fresh = build_network(find_model_section(job.config), job.data.space, shape, job.seed)
    assert list_changed(dict(fresh.state_dict()), weights(first, 0)) == {
        "vlad.anchors", "vlad.weight", "vlad.bias", "vlad.fitted",  # found in the data
        "classifier.weight", "classifier.bias",
    }  # fmt: skip
    # Same network and frozen trunk in both folds, other training cases: other anchors.
    assert "vlad.anchors" in list_changed(weights(first, 0), weights(first, 1))

    second = train(read(f"init.from={first.path}", "train.freeze=['trunk.*.conv1_*']"))
    moved = list_changed(weights(first, 0), weights(second, 0))
    assert {"vlad.anchors", "trunk.convs.conv2_1.weight", "classifier.weight"} <= moved
    assert not any("conv1_1" in name for name in moved)
    # Steps of a thousandth, not another k-means: every anchor is where stage 1 left it.
    gap = weights(second, 0)["vlad.anchors"] - weights(first, 0)["vlad.anchors"]
    assert float(gap.abs().max()) < 0.05


def test_a_part_that_there_is_not_is_told_before_a_run_folder_is_made(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"trunk\.\*, vlad\.\*, classifier\.\*"):
        train(read("train.freeze=[backbone.*]"))
    assert not Path("runs").exists()
