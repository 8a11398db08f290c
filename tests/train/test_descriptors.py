"""Models whose start is found in training clips, and parts of a network that stay as they are."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from medvid.contract import ConfigError, DataError
from medvid.train import descriptors as room
from medvid.train.checkpoint import load_checkpoint
from medvid.train.descriptors import collect_descriptors, start_from_data
from medvid.train.fit import fit_fold
from medvid.train.freeze import find_frozen_norms, freeze_parameters
from tests.train.tiny import Blobs, TinyNet, build_loader, build_net

CPU = torch.device("cpu")
FIXED: dict[str, Any] = {"classes": ("a", "b"), "multilabel": False, "accelerator": "cpu"}


class Awaiting(TinyNet):
    """Remembers what it was started from, in its state."""

    started: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("started", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(4))
        self.training_seen: set[bool] = set()

    @property
    def awaits_descriptors(self) -> bool:
        return int(self.started) == 0

    def local_descriptors(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        self.training_seen.add(self.training)
        maps = self.norm(self.conv(clip))
        return maps.permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2)

    def initialize_from(self, descriptors: Tensor, seed: int) -> None:
        self.mean.copy_(descriptors.mean(dim=0))
        self.started.add_(1)


def build_awaiting() -> Awaiting:
    torch.manual_seed(0)
    return Awaiting()


def state_of(norm: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in norm.state_dict().items()}


def fit(folder: Path, model: nn.Module, **options: Any) -> None:
    train_loader = options.pop("train_loader", None) or build_loader(16, shuffle=True)
    settings = FIXED | {"epochs": 2} | options
    fit_fold(model, train_loader, build_loader(8, shuffle=False), folder, **settings)


def test_training_starts_a_model_that_waits_and_says_so(folder: Path) -> None:
    stream = io.StringIO()
    model = build_awaiting()
    fit(folder, model, console=Console(file=stream, width=200), title="fold 1/5")
    assert int(model.started) == 1
    # 16 clips of 3 frames with 16 positions each.
    assert stream.getvalue().splitlines()[0] == (
        "fold 1/5 started from 768 descriptors of training cases"
    )


def test_a_model_is_not_started_again_on_resuming(folder: Path) -> None:
    first = build_awaiting()
    fit(folder, first, epochs=1)
    fit(folder, resumed := build_awaiting(), epochs=2, resume=True)
    assert int(resumed.started) == 1
    assert torch.equal(resumed.mean, first.mean)


def test_a_model_that_brings_its_start_keeps_it(folder: Path) -> None:
    model = build_awaiting()
    model.started.fill_(1)
    fit(folder, model)
    assert not model.mean.any()


def test_only_training_clips_are_looked_at(folder: Path) -> None:
    seen: list[str] = []

    class Watched(Awaiting):
        def initialize_from(self, descriptors: Tensor, seed: int) -> None:
            super().initialize_from(descriptors, seed)
            # Behind a norm the mean is 0 whatever was seen.
            seen.append(f"{float(descriptors.abs().sum()):.3f}")

    for validation in (8, 20):
        torch.manual_seed(0)
        fit_fold(
            Watched(),
            build_loader(16, shuffle=True),
            build_loader(validation, shuffle=False),
            folder / str(validation),
            **FIXED,
            epochs=1,
        )
    torch.manual_seed(0)
    fit_fold(
        Watched(), build_loader(12, shuffle=True), None, folder, **FIXED, epochs=1, select="last"
    )
    assert seen[0] == seen[1] != seen[2]


def test_a_killed_first_epoch_starts_from_the_same_descriptors() -> None:
    found = [
        collect_descriptors(build_awaiting(), build_loader(8, shuffle=True), seed=s, device=CPU)
        for s in (1, 1)
    ]
    assert torch.equal(*found)


def test_positions_are_drawn_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PER_FRAME", 5)
    monkeypatch.setattr(room, "MOST_FRAMES", 20)
    loader = build_loader(16, shuffle=True)
    model = build_awaiting()
    draws = [collect_descriptors(model, loader, seed=s, device=CPU) for s in (1, 2)]
    assert all(draw.shape == (20 * 5, 4) for draw in draws)
    assert not torch.equal(*draws)


def test_a_fresh_batch_norm_takes_the_batch_s_statistics_and_stays_fresh() -> None:
    model = build_awaiting()
    with torch.no_grad():
        model.conv.weight.mul_(100)
    found = collect_descriptors(model, build_loader(16, shuffle=True), seed=0, device=CPU)
    assert found.std() == pytest.approx(1, abs=0.1)  # not the hundred of the maps themselves
    assert int(state_of(model.norm)["num_batches_tracked"]) == 0
    assert torch.equal(state_of(model.norm)["running_var"], torch.ones(4))
    assert model.training
    assert model.training_seen == {False}
    model.norm.load_state_dict({**state_of(model.norm), "num_batches_tracked": torch.tensor(1)})
    known = collect_descriptors(model, build_loader(16, shuffle=True), seed=0, device=CPU)
    assert known.std() > 10
    assert torch.equal(state_of(model.norm)["running_var"], torch.ones(4))


def test_a_model_that_waits_for_nothing_is_left_alone() -> None:
    assert start_from_data(build_net(), iter(()), seed=0, device=CPU) == 0


class Broken(Blobs):
    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        sample["clip"][0, 0, 0, 0] = torch.nan
        return sample


def test_descriptors_that_are_no_numbers_are_refused_in_a_sentence() -> None:
    loader = torch.utils.data.DataLoader(Broken(4), batch_size=2)
    with pytest.raises(DataError, match=r"cases case0, case1 is not a number") as caught:
        start_from_data(build_awaiting(), loader, seed=0, device=CPU)
    assert caught.value.code == "descriptor_not_finite"


def test_what_is_frozen_stays_and_the_rest_learns(folder: Path) -> None:
    model = build_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(folder, model, freeze=["conv.*", "norm.*"])
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == {"head.weight", "head.bias"}
    # Without `freeze` the statistics of the norm move too.
    thawed = build_net()
    fit(folder / "all", thawed)
    assert not torch.equal(state_of(thawed.norm)["running_mean"], before["norm.running_mean"])


def test_a_training_in_parts_is_resumed_in_parts(folder: Path) -> None:
    options: dict[str, Any] = {"freeze": ["conv.*"], "schedule": "constant"}
    fit(folder, build_net(), epochs=1, **options)
    fit(folder, build_net(), epochs=2, resume=True, **options)
    fit(folder / "whole", build_net(), epochs=2, **options)
    broken, whole = (
        load_checkpoint(path / "last.ckpt")["state_dict"] for path in (folder, folder / "whole")
    )
    assert all(torch.equal(broken[name], whole[name]) for name in whole)


def test_patterns_choose_parameters_and_norms_hold_still_with_theirs() -> None:
    model = build_net()
    assert freeze_parameters(model, ["*.bias"]) == ["conv.bias", "norm.bias", "head.bias"]
    assert find_frozen_norms(model) == []
    assert freeze_parameters(model, ["norm.*"]) == ["norm.weight", "norm.bias"]
    assert find_frozen_norms(model) == [model.norm]
    assert freeze_parameters(model, []) == []
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["trunk.*"], r"names `trunk\.\*`, which no parameter fits.*conv\.\*, norm\.\*, head\.\*"),
        (["conv.wieght"], r"Did you mean `conv\.weight`"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        freeze_parameters(build_net(), patterns)
