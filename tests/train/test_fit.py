"""One fold: what is written, what is chosen, when it stops, what is refused."""

import io
import math
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medvid.contract import ConfigError, DataError
from medvid.train.checkpoint import load_checkpoint, load_weights
from medvid.train.fit import FitResult, fit_fold, validate_train_options
from medvid.train.history import EpochRow, find_best, has_stalled, judge_predictions
from medvid.train.loop import TrainingInterrupted
from medvid.train.predict import predict_loader
from tests.train.tiny import Blobs, EpochBatches, FrameNet, TinyNet, build_loader, build_net

FIXED: dict[str, Any] = {"classes": ("a", "b"), "multilabel": False, "accelerator": "cpu"}


def _fit(folder: Path, model: nn.Module | None = None, **options: Any) -> FitResult:
    train_loader = options.pop("train_loader", None) or build_loader(16, shuffle=True)
    val_loader = options.pop("val_loader", None) or build_loader(8, shuffle=False)
    settings = FIXED | {"epochs": 3} | options
    return fit_fold(model or build_net(), train_loader, val_loader, folder, **settings)


def _history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv")


def test_a_fold_leaves_three_files(folder: Path) -> None:
    result = _fit(folder, meta={"window": 5})
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.ckpt",
        "history.csv",
        "last.ckpt",
    ]
    assert _history(folder)["epoch"].tolist() == [1, 2, 3]
    assert _history(folder)["step"].tolist() == [4, 8, 12]
    assert result.epochs == 3
    said = load_checkpoint(folder / "best.ckpt")["medvid"]
    assert (said["classes"], said["window"], said["epoch"]) == (["a", "b"], 5, result.best_epoch)


def test_it_learns(folder: Path) -> None:
    options: dict[str, Any] = {"epochs": 12, "optimizer": {"name": "adamw", "lr": 0.03}}
    result = _fit(folder, train_loader=build_loader(64, shuffle=True), **options)
    assert result.best_value == 1.0


def test_best_holds_the_weights_of_the_best_epoch(folder: Path) -> None:
    val_loader = build_loader(8, shuffle=False)
    result = _fit(folder, val_loader=val_loader, monitor="val_loss", epochs=5)
    history = _history(folder)
    assert result.best_epoch == int(history["val_loss"].to_numpy().argmin()) + 1
    model = build_net(seed=9)
    load_weights(model, load_checkpoint(folder / "best.ckpt"))
    table = predict_loader(model, val_loader, classes=("a", "b"), multilabel=False, device="cpu")
    numbers = judge_predictions(table, ("a", "b"), multilabel=False)
    assert numbers["val_loss"] == history["val_loss"].min()
    assert numbers["val_auc"] == history["val_auc"][result.best_epoch - 1]


def test_last_holds_the_weights_of_the_last_epoch_when_selected(folder: Path) -> None:
    model = build_net()
    result = _fit(folder, model, select="last")
    assert result.best_epoch == 3
    saved = load_checkpoint(folder / "best.ckpt")["state_dict"]
    assert torch.equal(saved["head.weight"], model.head.weight)


def test_two_trainings_of_one_seed_are_the_same(tmp_path: Path) -> None:
    tables = []
    for number, seed in enumerate((1, 1, 2)):
        _fit(tmp_path / str(number), seed=seed)
        tables.append(_history(tmp_path / str(number))["train_loss"].tolist())
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


def test_accumulated_batches_step_like_one_large_batch(tmp_path: Path) -> None:
    class Plain(nn.Module):
        modalities = ("clip",)
        smallest = (1, 1, 1)

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(48, 2)

        def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.head(clip.flatten(1))

    ends = []
    for size, accumulate in ((8, 1), (4, 2)):
        torch.manual_seed(0)
        model = Plain()
        batches = DataLoader(Blobs(16), batch_sampler=EpochBatches(16, size, shuffle=False))
        _fit(
            tmp_path / str(size),
            model,
            train_loader=batches,
            accumulate=accumulate,
            optimizer={"name": "sgd", "lr": 0.1},
        )
        ends.append(model.head.weight.detach())
    assert _history(tmp_path / "4")["step"].tolist() == [2, 4, 6]
    torch.testing.assert_close(ends[0], ends[1])


def test_max_steps_ends_within_an_epoch(folder: Path) -> None:
    result = _fit(folder, max_steps=6, epochs=9)
    assert result.epochs == 2
    assert _history(folder)["step"].tolist() == [4, 6]
    assert _fit(folder, max_steps=6, epochs=9, resume=True) == result


def test_early_stopping_waits_its_patience(folder: Path) -> None:
    class Constant(TinyNet):
        def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(clip) * 0

    result = _fit(folder, Constant(), epochs=20, early_stopping_patience=3)
    assert (result.best_epoch, result.epochs) == (1, 4)


def _row(epoch: int, **values: float) -> EpochRow:
    empty = dict.fromkeys(("train_loss", "val_loss", "val_auc", "val_accuracy"), math.nan)
    return EpochRow(epoch=epoch, step=epoch, lr=0.0, seconds=0.0, data_wait=0.0, **(empty | values))


def test_the_first_of_equal_epochs_is_the_best() -> None:
    history = [
        _row(1, val_loss=2.0),
        _row(2, val_loss=1.0),
        _row(3, val_loss=1.0),
        _row(4),
    ]
    best = find_best(history, "val_loss")
    assert best is not None
    assert best.epoch == 2
    assert find_best(history, "val_auc") is None
    assert has_stalled(history, "val_loss", 2)
    assert not has_stalled(history, "val_loss", 3)
    assert not has_stalled(history, "val_loss", None)


def test_validation_numbers_are_those_by_hand() -> None:
    table = pd.DataFrame(
        {"label": ["a", "b", "b", None], "prob_a": [0.9, 0.2, 0.7, 0], "prob_b": [0.1, 0.8, 0.3, 1]}
    )
    numbers = judge_predictions(table, ("a", "b"), multilabel=False)
    assert numbers["val_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.3]).mean())
    assert numbers["val_accuracy"] == pytest.approx(2 / 3)
    assert numbers["val_auc"] == 1.0


def test_several_findings_train_with_clips_and_unknown_labels(folder: Path) -> None:
    loaders: dict[str, Any] = {
        "train_loader": build_loader(16, shuffle=True, clips=2, multilabel=True),
        "val_loader": build_loader(12, shuffle=False, clips=2, multilabel=True),
    }
    _fit(folder, multilabel=True, loss="multilabel_focal", **loaders)
    assert _history(folder)["val_auc"].notna().all()


class FrameBlobs(Blobs):
    """Labels per frame; the last frame is padding, with a label that must not matter."""

    def __init__(self, length: int, padding_label: int) -> None:
        super().__init__(length)
        self.padding_label = padding_label

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        label = sample["label"]
        sample["label"] = torch.tensor([int(label), -1, self.padding_label])
        sample["mask"][2] = False
        return sample


def test_labels_of_padding_frames_do_not_matter(tmp_path: Path) -> None:
    losses = []
    for label in (0, 1):
        torch.manual_seed(0)
        batches = DataLoader(FrameBlobs(8, label), batch_sampler=EpochBatches(8, 4, shuffle=False))
        folder = tmp_path / str(label)
        _fit(folder, FrameNet(), train_loader=batches, val_loader=batches)
        losses.append(_history(folder)[["train_loss", "val_loss"]].to_numpy().tolist())
    assert losses[0] == losses[1]


def test_a_models_own_losses_are_summed(folder: Path) -> None:
    class Auxiliary(TinyNet):
        def losses(
            self, clip: Tensor, *, target: Tensor, criterion: Any, mask: Tensor | None = None
        ) -> dict[str, Tensor]:
            assert mask is not None  # the loader's; a loss per frame has to leave padding out
            return {"main": criterion(self(clip), target) * 0 + 2, "auxiliary": clip.sum() * 0 + 3}

    _fit(folder, Auxiliary(), epochs=1)
    assert _history(folder)["train_loss"].tolist() == [5.0]


class Spoiled(Blobs):
    """One clip holds a voxel that is no number."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        if index == 5:
            sample["clip"][0, 0, 0, 0] = math.nan
        return sample


def test_a_loss_that_is_no_number_names_the_cases(folder: Path) -> None:
    batches = DataLoader(Spoiled(8), batch_sampler=EpochBatches(8, 4, shuffle=False))
    with pytest.raises(DataError, match=r"nan in epoch 1.*case4, case5, case6, case7.*NaN voxels"):
        _fit(folder, train_loader=batches)
    assert not (folder / "last.ckpt").exists()


def test_a_validation_set_of_one_class_has_no_auc(folder: Path) -> None:
    one_class = DataLoader(Blobs(1), batch_sampler=EpochBatches(1, 1, shuffle=False))
    with pytest.raises(DataError, match=r"do not hold two known classes.*monitor: val_loss"):
        _fit(folder, val_loader=one_class)
    _fit(folder.with_name("loss"), val_loader=one_class, monitor="val_loss")


def test_without_validation_only_the_last_epoch_can_be_selected(folder: Path) -> None:
    loader = build_loader(8, shuffle=True)
    with pytest.raises(ConfigError, match="select: last"):
        fit_fold(build_net(), loader, None, folder, **FIXED)
    result = fit_fold(build_net(), loader, None, folder, select="last", epochs=1, **FIXED)
    assert math.isnan(result.best_value)
    assert _history(folder)["val_loss"].isna().all()


def test_a_fold_that_is_there_is_not_overwritten(folder: Path) -> None:
    _fit(folder)
    with pytest.raises(ConfigError, match=r"holds a training already.*--resume"):
        _fit(folder)


def test_an_empty_loader_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no training batch"):
        fit_fold(build_net(), build_loader(0, shuffle=False), None, folder, select="last", **FIXED)


def test_frame_labels_need_a_model_that_scores_frames(folder: Path) -> None:
    batches = DataLoader(FrameBlobs(4, 0), batch_sampler=EpochBatches(4, 4, shuffle=False))
    with pytest.raises(ConfigError, match="TinyNet scores whole clips"):
        _fit(folder, train_loader=batches)


class Interrupting(Blobs):
    """Somebody presses Ctrl+C in the second epoch."""

    reads = 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.reads += 1
        if self.reads == 13:
            signal.raise_signal(signal.SIGINT)
        return super().__getitem__(index)


def test_an_interruption_is_told_and_can_be_resumed(folder: Path) -> None:
    batches = DataLoader(Interrupting(8), batch_sampler=EpochBatches(8, 4, shuffle=True))
    # A shell starts what runs in its background deaf to Ctrl+C; here somebody is at the keyboard.
    handler = signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    with pytest.raises(TrainingInterrupted, match=r"after 1 whole epochs.*--resume") as caught:
        _fit(folder, train_loader=batches)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, before)
    assert len(load_checkpoint(folder / "last.ckpt")["history"]) == 1
    assert _fit(folder, train_loader=build_loader(8, shuffle=True), resume=True).epochs == 3


def test_it_trains_outside_of_the_main_thread(folder: Path) -> None:
    thread = threading.Thread(target=_fit, args=(folder,))
    thread.start()
    thread.join()
    assert len(_history(folder)) == 3


def test_nothing_but_one_line_an_epoch_is_printed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    _fit(folder, console=Console(file=stream, width=200), title="fold 1/5")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("fold 1/5 epoch 1/3  loss 0.")
    assert lines[0].endswith("%")
    assert "data wait" in lines[0]
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(folder: Path) -> None:
    stream = io.StringIO()
    _fit(folder, console=Console(file=stream, width=200, force_terminal=True))
    assert "━" in stream.getvalue()
    assert "epoch 3/3  loss" in stream.getvalue()


def test_tensorboard_is_written_when_asked(folder: Path) -> None:
    _fit(folder, tensorboard=True, log_every=2)
    assert any(entry.name.startswith("events") for entry in (folder / "tensorboard").iterdir())


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_trains(precision: Any, folder: Path) -> None:
    _fit(folder, precision=precision)
    assert _history(folder)["train_loss"].notna().all()


def test_the_train_section_is_the_signature() -> None:
    options = validate_train_options(
        {"epochs": "7", "optimizer": {"name": "sgd", "lr": "1e-3"}}, num_classes=2, multilabel=False
    )
    assert options["epochs"] == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "no option `epoch`. Did you mean `epochs`"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"folder": "x"}, "no option `folder`"),
        ({"monitor": "auc"}, "'val_auc', 'val_loss' or 'val_accuracy'"),
        ({"precision": 16}, "precision: 16"),
        ({"loss": "bce"}, "for the other kind"),
        ({"optimizer": {"name": "sgd", "momentun": 0.9}}, "Did you mean `momentum`"),
        ({"schedule": "cosin"}, "Did you mean `cosine`"),
    ],
)
def test_a_wrong_train_option_is_told_before_anything_starts(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        validate_train_options(options, num_classes=2, multilabel=False)
