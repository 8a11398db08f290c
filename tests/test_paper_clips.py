"""One real clip of UCF101, cut as each paper cuts it, forward and backward through its network."""

from pathlib import Path

import pytest
import torch

from medvid.config import list_configs, read_config
from medvid.data.loader import collate
from medvid.jobs.network import build_network
from medvid.jobs.task import open_data
from medvid.train.forward import compute_losses
from medvid.train.losses import build_loss

UCF101 = Path(__file__).parents[2] / "shared" / "data" / "video_ucf101_mini"
PRESETS = [name for name in list_configs() if name.startswith("run/ucf101_")]


def test_every_preset_is_looked_at() -> None:
    assert "run/ucf101_c3d" in PRESETS
    assert len(PRESETS) > 20


@pytest.mark.slow
@pytest.mark.skipif(not UCF101.exists(), reason="the UCF101 clips are not beside the checkout")
@pytest.mark.parametrize("name", PRESETS)
def test_a_real_clip_goes_forward_and_backward_at_the_paper_s_size(
    name: str, tmp_path: Path
) -> None:
    config = read_config(name, [f"data.manifest={UCF101}", f"data.store={tmp_path}"])
    data = open_data(config)
    case = data.records[0].case_id
    batch = collate([data.dataset([case], training=True, seed=0)[0]])
    shape = data.clip_shape()
    network = build_network(config["model"], data.space, shape, seed=0).train()
    criterion = build_loss(
        None, num_classes=len(data.space.classes), multilabel=False, class_counts=None
    )
    losses = compute_losses(network, batch, criterion, multilabel=False)
    loss = torch.stack(list(losses.values())).sum()
    torch.autograd.backward(loss)
    assert loss.isfinite()
    gradients = [p.grad for p in network.parameters() if p.requires_grad and p.grad is not None]
    assert any(bool(gradient.any()) for gradient in gradients)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
