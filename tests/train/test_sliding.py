"""Sliding windows: the same scores whether a frame is encoded once or for every window."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvid.contract import DataError
from medvid.models.actionvlad import ActionVLAD
from medvid.models.c3d import C3D
from medvid.models.slicewise import Slicewise
from medvid.train.forward import score_clips
from medvid.train.sliding import slide_windows

CLOSE = 1e-5


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    models: dict[str, Callable[[], nn.Module]] = {
        "slicewise": lambda: Slicewise(width=8, pool="attention"),
        "actionvlad": lambda: ActionVLAD(width=4, depths=(1, 1, 1), anchors=3, alpha=10.0),
        "c3d": lambda: C3D(width=4, init="he"),
    }
    return models[kind]().eval()


class Counter(Slicewise):
    """Counts the frames it encodes."""

    seen = 0

    def encode_frames(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        self.seen += clips.shape[0] * clips.shape[2]
        return super().encode_frames(clips, mask)


@pytest.mark.parametrize("kind", ["slicewise", "actionvlad", "c3d"])
@pytest.mark.parametrize("hop", [1, 3])
def test_all_windows_have_the_scores_of_windows_one_by_one(kind: str, hop: int) -> None:
    model, clips = build(kind), torch.randn(2, 1, 41, 32, 32)
    with torch.inference_mode():
        found = slide_windows(model, clips, frames=8, hop=hop, windows_at_once=5)
        starts = range(0, 41 - 8 + 1, hop)
        wanted = torch.stack([model(clips[:, :, s : s + 8]) for s in starts], dim=1)
    assert found.shape == (2, len(starts), 2)
    torch.testing.assert_close(found, wanted, atol=CLOSE, rtol=CLOSE)


def test_every_frame_is_encoded_once() -> None:
    model = Counter(width=8).eval()
    with torch.inference_mode():
        slide_windows(model, torch.randn(1, 1, 40, 16, 16), frames=16)
    assert model.seen == 40


def test_a_stack_shorter_than_the_window_is_a_sentence() -> None:
    with pytest.raises(DataError, match="16 frames does not fit into a stack of 12"):
        slide_windows(build("slicewise"), torch.randn(1, 1, 12, 16, 16), frames=16)


def make_batch(own_pixels: bool) -> dict[str, Any]:
    """Returns windows of 4 out of 7 frames; the last one runs over the end and is padded."""
    stack = torch.randn(2, 1, 7, 16, 16)
    window = torch.arange(5)[:, None] + torch.arange(4)
    mask = window < 7
    window = window.clamp(max=6)
    clip = stack[:, :, window].permute(0, 2, 1, 3, 4, 5).clone()
    if own_pixels:
        clip[:, 1] += 1.0
    batch = {"window": window.expand(2, -1, -1), "mask": mask.expand(2, -1, -1)}
    return {"clip": clip, **batch}


@pytest.mark.parametrize("own_pixels", [False, True])
def test_windows_of_a_sampler_share_frames_only_where_their_pixels_agree(own_pixels: bool) -> None:
    model, batch = Counter(width=8).eval(), make_batch(own_pixels)
    with torch.inference_mode():
        found = score_clips(model, batch, dense=False)
        wanted = torch.stack(
            [model(batch["clip"][:, n], mask=batch["mask"][:, n]) for n in range(5)], dim=1
        )
    torch.testing.assert_close(found, wanted, atol=CLOSE, rtol=CLOSE)
    assert (model.seen == 2 * 7) is not own_pixels
