"""ActionVLAD: the paper's sizes, one bag for all clips and crops, where its anchors come from."""

from typing import Any, cast

import numpy as np
import pytest
import torch

from medvid.contract import ConfigError
from medvid.layers.vlad import describe_bag
from medvid.models import build_model, describe_model
from medvid.models.actionvlad import ActionVLAD

SCAN: dict[str, Any] = {"width": 8, "depths": [1, 1, 2], "norm": "batch", "anchors": 4, "alpha": 10}


def build(**options: Any) -> ActionVLAD:
    torch.manual_seed(0)
    spec = {"name": "actionvlad", **SCAN, **options}
    model = build_model(spec, in_channels=1, num_classes=3, clip_size=(6, 28, 28))
    return cast("ActionVLAD", model)


def make_clips(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def test_maps_and_vectors_have_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        model = ActionVLAD(in_channels=3, num_classes=101)
        assert model.trunk(torch.empty(2, 3, 224, 224)).shape == (2, 512, 14, 14)
        clips = torch.empty(1, 3, 25, 224, 224)
        assert model.local_descriptors(clips).shape == (25, 196, 512)
        assert model.features(clips).shape == (1, 32_768)


def test_the_parts_have_the_paper_s_parameters() -> None:
    with torch.device("meta"):
        model = ActionVLAD(in_channels=3, num_classes=101)
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    assert parts == {"trunk": 14_714_688, "vlad": 65_600, "dropout": 0, "classifier": 3_309_669}


def test_a_forward_costs_what_a_hand_computes() -> None:
    with torch.device("meta"):
        model = ActionVLAD(in_channels=3, num_classes=101)
    # Of one frame: positions x 9 x channels in x channels out.
    layers = [
        (224, 3, 64), (224, 64, 64),
        (112, 64, 128), (112, 128, 128),
        (56, 128, 256), (56, 256, 256), (56, 256, 256),
        (28, 256, 512), (28, 512, 512), (28, 512, 512),
        (14, 512, 512), (14, 512, 512), (14, 512, 512),
    ]  # fmt: skip
    convolutions = sum(side**2 * 9 * before * after for side, before, after in layers)
    assignment = residuals = 196 * 512 * 64
    per_frame = convolutions + assignment + residuals
    flops = describe_model(model, (25, 224, 224), 3)["flops"]
    assert flops == 2 * (25 * per_frame + 32_768 * 101)


def test_descriptors_are_taken_before_the_last_relu_and_have_unit_length() -> None:
    model = build().eval()
    maps = model.trunk(make_clips(2, 1, 28, 28))
    assert (maps < 0).float().mean() > 0.2
    descriptors = model.local_descriptors(make_clips(2, 1, 6, 28, 28))
    assert descriptors.shape == (12, 49, 32)
    torch.testing.assert_close(descriptors.norm(dim=2), torch.ones(12, 49))
    assert (descriptors < 0).float().mean() > 0.2


def test_local_descriptors_leave_padding_out() -> None:
    model = build().eval()
    clips = make_clips(2, 1, 6, 28, 28)
    mask = torch.arange(6).expand(2, -1) < torch.tensor([[2], [6]])
    found = model.local_descriptors(clips, mask)
    whole = model.local_descriptors(clips)
    torch.testing.assert_close(found, torch.cat([whole[:2], whole[6:]]))


def test_several_clips_fall_into_one_bag() -> None:
    """25 frames and five crops make one vector, not five answers that are averaged."""
    model = build().eval()
    clips = make_clips(2, 5, 1, 6, 28, 28)
    mask = torch.ones(2, 5, 6, dtype=torch.bool)
    mask[1, 3:, 4:] = False
    bag = model.features(clips, mask)
    sums = torch.stack([model.encode_frames(clips[:, n], mask[:, n]).sum(dim=1) for n in range(5)])
    torch.testing.assert_close(bag, describe_bag(sums.sum(dim=0)), atol=1e-5, rtol=1e-4)
    alone = torch.stack([model.features(clips[:, n], mask[:, n]) for n in range(5)]).mean(dim=0)
    assert not torch.allclose(bag, alone, atol=1e-4)


def test_the_order_of_slices_does_not_matter() -> None:
    model = build().eval()
    clips = make_clips(2, 1, 6, 28, 28)
    torch.testing.assert_close(model(clips.flip(2)), model(clips))


def test_frame_weights_are_shares_of_the_frames_that_are_seen() -> None:
    model = build().eval()
    mask = torch.arange(6).expand(2, -1) < torch.tensor([[3], [6]])
    weights = model.frame_weights(make_clips(2, 1, 6, 28, 28), mask)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))


def test_a_frame_that_is_all_a_clip_has_has_the_whole_weight() -> None:
    model = build().eval()
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[0, 2] = True
    weights = model.frame_weights(make_clips(1, 1, 6, 28, 28), mask)
    torch.testing.assert_close(weights, mask.float())


def test_anchors_begin_at_the_k_means_centres_and_with_them_the_assignment() -> None:
    model = build()
    assert model.awaits_descriptors
    before = model.vlad.anchors.clone()
    descriptors = model.eval().local_descriptors(make_clips(2, 1, 6, 28, 28)).flatten(0, 1)
    model.initialize_from(descriptors, seed=0)
    assert not model.awaits_descriptors
    assert not torch.allclose(model.vlad.anchors, before)
    # Centres explain the descriptors: they lie nearer to their own than to the mean of all.
    nearest = torch.cdist(descriptors, model.vlad.anchors).amin(dim=1).square().mean()
    spread = (descriptors - descriptors.mean(dim=0)).square().sum(dim=1).mean()
    assert nearest < 0.9 * spread
    torch.testing.assert_close(model.vlad.weight, 20 * model.vlad.anchors)


def test_weights_with_anchors_await_no_descriptors() -> None:
    trained, fresh = build(), build()
    trained.initialize_from(torch.randn(20, 32), seed=0)
    fresh.load_state_dict(trained.state_dict())
    assert not fresh.awaits_descriptors


def test_the_classifier_starts_as_released() -> None:
    torch.manual_seed(0)
    weight = ActionVLAD(width=32, num_classes=10).classifier.weight
    # A normal of .01 cut at two of its standard deviations has .88 of it.
    assert weight.std().item() == pytest.approx(0.0088, rel=0.02)
    assert np.abs(weight.detach().numpy()).max() <= 0.02


@pytest.mark.parametrize(
    "wrong", [{"depths": []}, {"depths": [1, 0]}, {"anchors": 0}, {"alpha": 0.0}]
)
def test_options_that_make_no_network_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="all of them above 0"):
        ActionVLAD(**wrong)
