"""Checkpoints are whole, harmless and of this model, or a sentence says why not."""

import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import medvid
from medvid.contract import DataError
from medvid.train.checkpoint import (
    load_checkpoint,
    load_weights,
    save_weights,
    update_checkpoint_meta,
)
from medvid.train.fit import fit_fold
from tests.train.tiny import TinyNet, build_loader, build_net


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.trace),))


def test_weights_and_meta_come_back(net: TinyNet, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    save_weights(net, path, {"classes": ("a", "b"), "model": {"name": "tiny"}})
    checkpoint = load_checkpoint(path)
    assert checkpoint["medvid"] == {
        "classes": ["a", "b"],
        "model": {"name": "tiny"},
        "version": medvid.__version__,
    }
    other = build_net(seed=1)
    load_weights(other, checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_the_last_checkpoint_also_gives_weights(net: TinyNet, folder: Path) -> None:
    fit_fold(
        net,
        build_loader(8, shuffle=True),
        None,
        folder,
        classes=("a", "b"),
        multilabel=False,
        select="last",
        epochs=1,
        loss={"name": "cross_entropy", "class_weights": [1.0, 2.0]},
        accelerator="cpu",
    )
    for name in ("last.ckpt", "best.ckpt"):
        other = build_net(seed=1)
        load_weights(other, load_checkpoint(folder / name), folder / name)
        assert torch.equal(other.head.weight, net.head.weight)


def test_the_operating_point_is_added_later(net: TinyNet, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    save_weights(net, path, {"classes": ["a", "b"]})
    update_checkpoint_meta(path, operating_point=0.3)
    checkpoint = load_checkpoint(path)
    assert checkpoint["medvid"]["operating_point"] == 0.3
    assert checkpoint["medvid"]["classes"] == ["a", "b"]
    load_weights(build_net(seed=1), checkpoint)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "best.ckpt", tmp_path / "trace"
    torch.save({"medvid": {}, "state_dict": {}, "extra": Malicious(trace)}, path)
    with pytest.raises(DataError, match="could run code") as caught:
        load_checkpoint(path)
    assert caught.value.code == "unsafe_checkpoint"
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x04N."])
def test_another_file_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no checkpoint, or it was cut short"):
        load_checkpoint(path)


def test_a_checkpoint_cut_short_is_refused(net: TinyNet, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    save_weights(net, path, {})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cut short"):
        load_checkpoint(path)


def test_any_other_zip_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no checkpoint .*best\.ckpt"):
        load_checkpoint(tmp_path / "best.ckpt")


def test_somebody_elses_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": nn.Linear(1, 1).state_dict()}, path)
    with pytest.raises(DataError, match="not written by medvid"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_model_names_the_weights(net: TinyNet, tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    save_weights(net, path, {})
    wider = TinyNet(num_classes=3)
    wider.extra = nn.Linear(1, 1)
    with pytest.raises(DataError) as caught:
        load_weights(wider, load_checkpoint(path), path)
    assert "missing: extra.weight, extra.bias" in caught.value.message
    assert "head.weight ((2, 4) in the file, (3, 4) in the model)" in caught.value.message


def test_a_full_disk_leaves_the_old_checkpoint(
    net: TinyNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.ckpt"
    save_weights(net, path, {"epoch": 1})

    def fill_disk(content: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_disk)
    with pytest.raises(DataError, match=r"No space left on device.*--resume"):
        save_weights(net, path, {"epoch": 2})
    assert load_checkpoint(path)["medvid"]["epoch"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.ckpt"]


def test_meta_that_is_no_plain_value_is_a_programming_error(net: TinyNet, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_weights(net, tmp_path / "best.ckpt", {"model": net})
