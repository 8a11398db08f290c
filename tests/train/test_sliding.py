"""Sliding windows: the same scores whether a frame is encoded once or for every window."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medvid.models import MODELS, build_model
from medvid.models.karpathy import LateFusion
from medvid.models.slicewise import Slicewise
from medvid.train.forward import score_clips

CLOSE = 1e-5

PATCH: dict[str, Any] = {"width": 16, "trunk": "small", "trunk_width": 4}
FUSION: dict[str, Any] = {"width": 3, "stem": "small", "head": "pool", "init": "he"}
SHARING: dict[str, dict[str, Any]] = {
    "conv_pooling": PATCH,
    "late_fusion": FUSION,
    "late_pooling": PATCH,
    "local_pooling": {**PATCH, "window": 3, "stride": 2},
    "lrcn": {**PATCH, "fc6": 16},
    "lstm": PATCH,
    "single_frame": FUSION,
    "slicewise": {"width": 8, "pool": "attention"},
    "slow_pooling": {**PATCH, "window": 3, "stride": 2},
    "time_conv": {**PATCH, "window": 3, "stride": 2},
}


class Counter(Slicewise):
    """Counts the frames it encodes."""

    seen = 0

    def encode_frames(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        self.seen += clips.shape[0] * clips.shape[2]
        return super().encode_frames(clips, mask)


def slide(stack: Tensor, frames: int, hop: int) -> dict[str, Tensor]:
    """Returns all windows of a stack (1, 1, T, H, W), as the sampler `sliding` cuts them."""
    starts = torch.arange(0, stack.shape[2] - frames + 1, hop)
    window = starts[:, None] + torch.arange(frames)
    clip = stack[0][:, window].transpose(0, 1)[None]
    return {"clip": clip, "window": window[None], "mask": torch.ones(window.shape).bool()[None]}


def score_each(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([model(clip[None]) for clip in batch["clip"][0]])[None]


@pytest.mark.parametrize("kind", sorted(SHARING))
@pytest.mark.parametrize("hop", [1, 3])
def test_all_windows_have_the_scores_of_windows_one_by_one(kind: str, hop: int) -> None:
    torch.manual_seed(0)
    model = build_model(
        {"name": kind, **SHARING[kind]}, in_channels=1, num_classes=2, clip_size=(8, 32, 32)
    ).eval()
    batch = slide(torch.randn(1, 1, 41, 32, 32), frames=8, hop=hop)
    with torch.inference_mode():
        found, wanted = score_clips(model, batch, dense=False), score_each(model, batch)
    assert found.shape == (1, 34 if hop == 1 else 12, 2)
    torch.testing.assert_close(found, wanted, atol=CLOSE, rtol=CLOSE)


def test_every_model_in_two_halves_is_tried() -> None:
    halves = {name for name, kind in MODELS.items() if hasattr(kind, "encode_frames")}
    assert set(SHARING) == {name for name in halves if not hasattr(MODELS[name], "takes_segments")}


def test_every_frame_is_encoded_once() -> None:
    model = Counter(width=8).eval()
    with torch.inference_mode():
        score_clips(model, slide(torch.randn(1, 1, 40, 16, 16), 16, 1), dense=False)
    assert model.seen == 40


class Ends(LateFusion):
    """Counts the frames it encodes; `forward` encodes two of a clip and asks for none."""

    seen = 0

    def encode_frames(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        self.seen += clips.shape[0] * clips.shape[2]
        return super().encode_frames(clips, mask)


def test_where_a_network_looks_at_fewer_frames_by_itself_nothing_is_shared() -> None:
    model = Ends(width=3, stem="small", head="pool", clip_size=(16, 16, 16)).eval()
    for hop, encoded in ((4, 0), (1, 60)):  # 12 windows have 24 ends, 45 have 90
        batch = slide(torch.randn(1, 1, 60, 16, 16), 16, hop)
        with torch.inference_mode():
            found = score_clips(model, batch, dense=False)
            assert model.seen == encoded
            torch.testing.assert_close(found, score_each(model, batch), atol=CLOSE, rtol=CLOSE)


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
