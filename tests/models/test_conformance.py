"""What holds for every entry of MODELS. A new model joins with its rows in the tables below."""

import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import medvid.models
from medvid.contract import ConfigError, DataError, VideoModel
from medvid.models import MODELS, build_model, describe_model
from medvid.train.forward import compute_losses
from medvid.train.losses import build_loss

SIZE = (8, 32, 32)
CLASSES = 3

FSTCN_PATCH: dict[str, Any] = {"conv_strides": [1, 1], "padded": True}
"""Its strides for 28 to 64 pixels."""

LRCN_PATCH: dict[str, Any] = {
    "width": 8, "fc6": 16, "trunk": "small", "trunk_width": 4, "lstm_dropout": 0.0
}  # fmt: skip
"""Small, and without the second of its dropouts, which these tests do not know."""

SMALL: dict[str, list[dict[str, Any]]] = {
    "actionvlad": [
        {"width": 8, "depths": [1, 1, 2], "norm": "group", "anchors": 4, "alpha": 10},
        {"width": 4, "anchors": 6, "alpha": 30},
        {"width": 8, "depths": [1, 1, 1, 1], "norm": "batch", "anchors": 4, "alpha": 10},
    ],
    "c3d": [
        {"width": 4, "init": "he"},
        {"width": 4, "init": "he", "norm": "batch", "head": "pool", "strides": "spacing"},
        {"width": 8, "init": "he", "norm": "group", "head": "pool"},
        {"width": 4, "init": "he", "norm": "batch", "head": "pool", "planar": True},
        {"width": 4, "init": "he", "planar": True},
    ],
    "c3d_study": [{"width": 4, "init": "he", "kernel_depths": [1, 3, 5, 3, 7]}],
    "conv_pooling": [
        {"width": 16, "trunk": "small", "trunk_width": 4},
        {"width": 16, "trunk": "small", "trunk_width": 8, "space": "max", "norm": "group"},
        {"width": 16},
    ],
    "densenet3d": [
        {"width": 8, "growth": 4, "bottleneck": 2, "blocks": [1, 2, 1, 1]},
        {"width": 8, "growth": 4, "blocks": [2, 2], "stem": "half", "strides": "spacing"},
        {"width": 8, "growth": 8, "blocks": [2, 1], "stem": "full", "norm": "group"},
        {"width": 8, "growth": 4, "blocks": [1, 2, 1], "planar": True},
    ],
    "early_fusion": [
        {"width": 3, "init": "he", "norm": "none"},
        {"width": 3, "init": "he", "stem": "small", "head": "pool", "norm": "batch"},
        {"width": 3, "init": "he", "streams": "multiresolution"},
    ],
    "fstcn": [
        {"width": 12, "frames": 3, "step": 2, "distance": 3, **FSTCN_PATCH},
        {
            "width": 12,
            "step": 1,
            "distance": 1,
            "head": "pool",
            "difference": "signed",
            "norm": "group",
            "spatial_frame": "centre",
            **FSTCN_PATCH,
        },
        {
            "width": 12,
            "step": 2,
            "distance": 2,
            "head": "pool",
            "norm": "batch",
            "spatial_frame": "centre",
            **FSTCN_PATCH,
        },
    ],
    "i3d": [
        {"width": 8, "stem_stride": [1, 2, 2]},
        {"width": 8, "stem_kernel": [3, 7, 7], "stem_stride": [1, 1, 1], "pool_2a": False},
        {"width": 8, "norm": "group", "gamma": False, "strides": "spacing"},
        {"width": 8, "planar": True},
    ],
    "ji3dcnn": [
        {"width": 8, "init": "xavier", "motion": "difference", "norm": "batch"},
        {"width": 8, "init": "xavier"},
        {
            "width": 8,
            "kernels": [[5, 5], [5, 5]],
            "pools": [2, 2],
            "norm": "group",
            "paper_bias": True,
        },
    ],
    "late_fusion": [
        {"width": 3, "init": "he", "norm": "none"},
        {"width": 3, "init": "he", "stem": "small", "head": "pool", "norm": "batch"},
        {"width": 3, "init": "he", "streams": "multiresolution"},
    ],
    "late_pooling": [
        {"width": 16, "trunk": "small", "trunk_width": 4, "space": "average"},
        {"width": 16, "trunk": "small", "trunk_width": 4, "norm": "group", "stem_stride": 2},
    ],
    "local_pooling": [
        {"width": 16, "trunk": "small", "trunk_width": 4, "window": 3, "stride": 2},
        {"width": 16, "trunk": "small", "trunk_width": 4},
    ],
    "lrcn": [
        {**LRCN_PATCH, "init": "he"},
        {**LRCN_PATCH, "bidirectional": True, "average": "logits", "norm": "group"},
        {**LRCN_PATCH, "lstm": False, "space": "max"},
    ],
    "lstm": [
        {"width": 16, "trunk": "small", "trunk_width": 4, "layers": 1},
        {"width": 8, "trunk": "small", "trunk_width": 4, "bidirectional": True, "gain": "uniform"},
        {"width": 8, "trunk": "small", "trunk_width": 4, "gain": "triangular", "predict": "max"},
        {"width": 8, "trunk": "small", "trunk_width": 4, "predict": "last", "average": "logits"},
        {"width": 8, "trunk": "small", "trunk_width": 4, "predict": "sum", "layers": 2},
    ],
    "ltc": [
        {"width": 4, "pool5": False, "init": "he"},
        {"width": 4, "strides": "spacing", "norm": "batch"},
        {"width": 4, "strides": "spacing", "norm": "batch", "head": "pool", "init": "he"},
        {"width": 8, "norm": "group", "head": "pool", "init": "he", "pool5": False},
        {"width": 4, "norm": "batch", "head": "pool", "init": "he", "planar": True},
        {"width": 4, "pool5": False, "init": "he", "planar": True},
    ],
    "res3d": [
        {"width": 4},
        {"width": 4, "factorised": True, "stem_kernel": [3, 3, 3], "stem_stride": [1, 1, 1]},
        {"width": 8, "planar": True, "norm": "group"},
        {"width": 4, "strides": "spacing", "norm": "instance"},
        {"width": 4, "strides": "search", "norm": "none", "project_res2a": False},
    ],
    "single_frame": [
        {"width": 3, "init": "he", "norm": "none"},
        {"width": 3, "init": "he", "stem": "small", "head": "pool", "norm": "batch"},
        {"width": 3, "init": "he", "streams": "multiresolution"},
        {"width": 3, "init": "he", "streams": "fovea", "norm": "group", "stem": "small"},
    ],
    "slicewise": [
        *({"width": 8, "pool": pool} for pool in ("mean", "max", "lse", "attention")),
        {"width": 8, "norm": "group", "stem_stride": 2, "depths": [2, 1]},
    ],
    "slow_fusion": [
        {"width": 3, "init": "he", "norm": "none"},
        {"width": 3, "init": "he", "stem": "small", "head": "pool", "norm": "batch"},
        {"width": 3, "init": "he", "streams": "multiresolution"},
        {"width": 3, "init": "he", "norm": "group", "strides": "spacing", "planar": True},
    ],
    "slow_pooling": [
        {"width": 16, "trunk": "small", "trunk_width": 4, "window": 3, "stride": 2},
        {"width": 16, "trunk": "small", "trunk_width": 4, "space": "max"},
    ],
    "t3d": [
        {"width": 4, "growth": 4, "bottleneck": 2, "blocks": [1, 2, 1, 1]},
        {"width": 4, "growth": 8, "blocks": [2, 2], "stem": "half", "strides": "spacing"},
        {"width": 4, "growth": 8, "blocks": [1, 1], "stem": "half", "reading": "B"},
        {"width": 4, "growth": 4, "blocks": [1, 1], "stem": "half", "reading": "C"},
        {"width": 8, "growth": 8, "blocks": [1, 1], "reading": "D", "norm": "group"},
        {"width": 4, "growth": 4, "blocks": [1, 2, 1], "planar": True},
    ],
    "time_conv": [
        {"width": 16, "trunk": "small", "trunk_width": 4, "kernels": 8, "window": 3, "stride": 2},
        {"width": 16, "trunk": "small", "trunk_width": 4, "kernels": 8, "space": "max"},
    ],
}
"""Options that make each model small enough for these tests, one row for every way through it."""

PAPER_SIZES: dict[str, list[tuple[dict[str, Any], int, int, int]]] = {
    # VGG-16's convolutions 14,714,688 (3 channels), anchors 65,600, classifier 3,309,669.
    "actionvlad": [
        ({}, 3, 101, 18_089_957),
        ({}, 20, 101, 18_099_749),
        ({}, 1, 2, 14_714_688 - 2 * 9 * 64 + 65_600 + 2 * 32_768 + 2),
    ],
    "c3d": [
        ({}, 3, 101, 78_409_573),
        ({}, 3, 487, 79_991_015),
        ({}, 1, 101, 78_406_117),
        ({}, 1, 2, 78_000_514),
    ],
    "c3d_study": [
        ({"kernel_depths": [1, 1, 1, 1, 1]}, 3, 101, 14_344_933),
        ({}, 3, 101, 17_444_965),
        ({"kernel_depths": [5, 5, 5, 5, 5]}, 3, 101, 20_544_997),
        ({"kernel_depths": [7, 7, 7, 7, 7]}, 3, 101, 23_645_029),
        ({"kernel_depths": [3, 3, 5, 5, 7]}, 3, 101, 21_573_733),
        ({"kernel_depths": [7, 5, 5, 3, 3]}, 3, 101, 18_189_157),
    ],
    # AlexNet's three convolutions 3,664,512 (3 channels), fc6 37,752,832 from 6 x 6 x 256, fc7
    # 16,781,312; GoogLeNet without a classifier is the 5,973,552 of the specs, and its fc6 has
    # 1024 x 4096 + 4096. Two channels less are 2 x 64 x 49 weights less.
    "conv_pooling": [
        ({}, 3, 101, 5_973_552 + 4_198_400 + 16_781_312 + 413_797),
        ({}, 1, 101, 5_973_552 - 6_272 + 4_198_400 + 16_781_312 + 413_797),
        ({"trunk": "alexnet"}, 3, 101, 3_664_512 + 37_752_832 + 16_781_312 + 413_797),
    ],
    "densenet3d": [
        ({}, 3, 400, 11_658_896),
        ({}, 3, 101, 11_352_421),
    ],
    "early_fusion": [
        ({}, 3, 101, 72_640_261),
        ({}, 3, 487, 72_640_261 + 386 * 4_097),
        # Two streams of their own weights: each conv1 has nine frames more than the single net's.
        ({"streams": "multiresolution"}, 3, 101, 127_454_053 + 2 * 9 * 96 * 3 * 121),
    ],
    # The paper prints no number: the sum of its layers in the reading of the page.
    "fstcn": [({}, 3, 101, 4_168_832 + 623_808 + 176_166_912 + 17_373_312 + 8_597_605)],
    "i3d": [
        ({}, 3, 400, 12_697_264),
        ({"gamma": False}, 3, 400, 12_689_984),
        ({}, 2, 400, 12_675_312),
        ({}, 3, 101, 12_390_789),
        ({}, 2, 101, 12_368_837),
        ({}, 3, 51, 12_339_539),
        ({}, 1, 2, 12_245_410),
    ],
    "ji3dcnn": [
        ({"paper_bias": True}, 1, 3, 295_458),
        ({}, 1, 3, 285_602),
    ],
    "late_fusion": [
        ({}, 3, 101, 123_706_853),
        ({}, 3, 487, 123_706_853 + 386 * 4_097),
        # fc6 sees both streams of both frames, whose convolutions are shared.
        ({"streams": "multiresolution"}, 3, 101, 127_454_053 + 2 * 12_544 * 4_096),
    ],
    "late_pooling": [({}, 3, 101, 3_664_512 + 37_752_832 + 16_781_312 + 413_797)],
    # 23 windows of 4096 features before the classifier.
    "local_pooling": [({}, 3, 101, 3_664_512 + 37_752_832 + 16_781_312 + 23 * 4096 * 101 + 101)],
    "lrcn": [
        ({}, 3, 101, 65_421_285),
        ({"width": 512}, 3, 101, 70_428_901),
        ({"width": 1024}, 3, 101, 82_016_997),
        ({"lstm": False}, 3, 101, 78_132_965),
    ],
    # One bias a gate; torch's own LSTM of this size has 11,554,816 where this has 11,544,576.
    "lstm": [
        ({}, 3, 101, 17_569_941),
        ({}, 1, 101, 17_569_941 - 6_272),
    ],
    # Of 100 x 71 x 71; the file's own test has the paper's other sizes.
    "ltc": [
        ({}, 2, 101, 21_637_541),
        ({}, 3, 101, 21_639_269),
        ({}, 1, 101, 21_637_541 - 1_728),
    ],
    "res3d": [
        ({}, 3, 101, 33_222_309),
        ({}, 3, 487, 33_420_327),
        ({}, 1, 2, 33_152_706),
        ({"strides": "search"}, 3, 101, 33_222_309),
        # The ResNet-18 of MedMNIST3D's published table: the stem of CIFAR's networks.
        (
            {"stem_kernel": [3, 3, 3], "stem_stride": [1, 1, 1], "project_res2a": False},
            1,
            2,
            33_140_802,
        ),
        ({"project_res2a": False}, 3, 101, 33_218_085),
        ({"project_res2a": False}, 3, 400, 33_371_472),
        ({"factorised": True}, 3, 101, 33_217_452),
        ({"factorised": True}, 3, 400, 33_370_839),
    ],
    "single_frame": [
        ({}, 3, 101, 72_326_629),
        ({}, 3, 487, 72_326_629 + 386 * 4_097),
        ({"streams": "multiresolution"}, 3, 101, 127_454_053),
        ({"streams": "fovea"}, 3, 101, 72_326_629),
    ],
    # He et al., table 6: ResNet-20 has 0.27 million. Its shortcuts have no parameters; ours add
    # 16 x 32 + 32 x 64 weights and their norms: 269,722 + 2,560 + 192.
    "slicewise": [({"width": 16, "depths": [3, 3, 3]}, 3, 10, 272_474)],
    "slow_fusion": [
        ({}, 3, 101, 73_930_309),
        ({}, 3, 487, 73_930_309 + 386 * 4_097),
        ({"streams": "multiresolution"}, 3, 101, 127_454_053 + 2 * (73_930_309 - 72_326_629)),
    ],
    "slow_pooling": [({}, 3, 101, 3_664_512 + 37_752_832 + 16_781_312 + 413_797)],
    # The paper prints no number; these are reading A of its transition.
    "t3d": [({}, 3, 400, 29_876_880), ({}, 3, 101, 29_608_677)],
    # 256 kernels of 10 x 3 x 3 over 256 maps.
    "time_conv": [
        ({}, 3, 101, 3_664_512 + 256 * 256 * 90 + 256 + 37_752_832 + 16_781_312 + 413_797)
    ],
}
"""Options, channels, classes and the parameters that the paper's page in the specs has."""

MOST_STEPS = 120
"""In which a model must learn eight clips by heart."""

ROWS = [
    pytest.param(name, options, id=f"{name}-{row}")
    for name, rows in SMALL.items()
    for row, options in enumerate(rows)
]
every_model = pytest.mark.parametrize(("name", "options"), ROWS)


def build(name: str, options: dict[str, Any], channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        {"name": name, **options}, in_channels=channels, num_classes=CLASSES, clip_size=SIZE
    )


def make_clips(batch: int = 2, channels: int = 1, size: tuple[int, ...] = SIZE) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(7))


def surface(model: nn.Module) -> VideoModel:
    return cast("VideoModel", model)


def exact_frames(model: nn.Module) -> int | None:
    return cast("int | None", getattr(model, "exact_frames", None))


def test_there_are_models_and_every_one_is_in_the_tables_of_this_file() -> None:
    assert MODELS
    assert set(SMALL) == set(MODELS)
    assert set(PAPER_SIZES) == set(MODELS)
    assert all(SMALL.values())
    assert all(PAPER_SIZES.values())


def test_every_file_of_the_room_is_in_the_table() -> None:
    folder = Path(medvid.models.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == {kind.__module__.rpartition(".")[2] for kind in MODELS.values()}


def test_every_class_stands_in_the_table_once() -> None:
    assert len(set(MODELS.values())) == len(MODELS)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_constructors_begin_alike(name: str) -> None:
    parameters = inspect.signature(MODELS[name]).parameters
    assert list(parameters)[:5] == ["in_channels", "num_classes", "width", "dropout", "clip_size"]
    assert all(p.default is not inspect.Parameter.empty for p in parameters.values())
    assert (parameters["in_channels"].default, parameters["num_classes"].default) == (1, 2)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_docstrings_say_arguments_shape_and_paper(name: str) -> None:
    doc = inspect.getdoc(MODELS[name]) or ""
    for section in ("Args:", "Shape:", "Raises:", "References:", "Differs from the paper:"):
        assert section in doc, section
    for option in inspect.signature(MODELS[name]).parameters:
        assert f"    {option}: " in doc, option


@pytest.mark.parametrize("name", sorted(MODELS))
def test_one_sentence_says_what_it_does_through_plane(name: str) -> None:
    sentence = cast("Any", MODELS[name]).through_plane
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence


@every_model
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_a_row_a_clip_and_a_column_a_class(
    name: str, options: dict[str, Any], channels: int
) -> None:
    model = build(name, options, channels).eval()
    assert isinstance(model, VideoModel)
    clips = make_clips(channels=channels)
    logits, features = model(clips), surface(model).features(clips)
    assert logits.shape == (2, CLASSES)
    assert features.ndim == 2
    assert len(features) == 2
    assert logits.isfinite().all()


@every_model
def test_frame_logits_score_every_frame(name: str, options: dict[str, Any]) -> None:
    model = build(name, options).eval()
    score = getattr(model, "frame_logits", None)
    if score is None:
        pytest.skip("scores whole clips only")
    assert score(make_clips()).shape == (2, SIZE[0], CLASSES)


@every_model
def test_the_smallest_clip_works(name: str, options: dict[str, Any]) -> None:
    model = build(name, options)
    clips = make_clips(size=surface(model).smallest)
    assert model(clips).isfinite().all()
    assert model.eval()(clips).isfinite().all()


def list_smaller(smallest: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    for axis in range(3):
        size = list(smallest)
        size[axis] -= 1
        yield size[0], size[1], size[2]


@every_model
def test_a_smaller_clip_is_refused_in_a_sentence(name: str, options: dict[str, Any]) -> None:
    model = build(name, options).eval()
    smallest = surface(model).smallest
    words = f"at least {' x '.join(map(str, smallest))}"
    for size in list_smaller(smallest):
        with pytest.raises(DataError, match=words) as caught:
            model(make_clips(size=size))
        assert caught.value.code == "clip_too_small"
        if exact_frames(model) is not None and size[0] < smallest[0]:
            continue  # built for a shorter clip it is another network; see the test of T below
        with pytest.raises(ConfigError, match=words):
            build_model({"name": name, **options}, in_channels=1, num_classes=2, clip_size=size)


@every_model
@pytest.mark.parametrize("size", [(21, 32, 32), (8, 49, 40), (11, 37, 32)])
def test_longer_and_larger_clips_are_accepted(
    name: str, options: dict[str, Any], size: tuple[int, int, int]
) -> None:
    model = build(name, options).eval()
    size = (exact_frames(model) or size[0], *size[1:])
    assert model(make_clips(size=size)).shape == (2, CLASSES)


@every_model
def test_a_model_for_one_length_refuses_others_in_a_sentence(
    name: str, options: dict[str, Any]
) -> None:
    model = build(name, options).eval()
    exact = exact_frames(model)
    if exact is None:
        pytest.skip("takes clips of any length")
    assert exact == SIZE[0] == surface(model).smallest[0]
    with pytest.raises(DataError, match=f"exactly {exact} frames") as caught:
        model(make_clips(size=(exact + 1, *SIZE[1:])))
    assert caught.value.code == "clip_frames"


@every_model
def test_frames_encoded_and_then_classified_are_the_model(
    name: str, options: dict[str, Any]
) -> None:
    model = cast("Any", build(name, options).eval())
    if not hasattr(model, "encode_frames"):
        assert not hasattr(model, "classify_frames")
        pytest.skip("mixes frames from the start")
    clips = make_clips()
    mask = torch.arange(SIZE[0]).expand(2, -1) < torch.tensor([[5], [SIZE[0]]])
    for given in (None, mask):
        frames = model.encode_frames(clips, mask=given)
        assert frames.shape[:2] == (2, SIZE[0])
        torch.testing.assert_close(model.classify_frames(frames, mask=given), model(clips, given))
    alone = model.encode_frames(clips[:, :, 3:4])
    torch.testing.assert_close(alone[:, 0], model.encode_frames(clips)[:, 3], atol=1e-5, rtol=1e-4)


@every_model
def test_every_parameter_has_a_gradient(name: str, options: dict[str, Any]) -> None:
    model = build(name, {**options, "dropout": 0.0})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # branches that start at zero wake with the first step
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    loss = nn.functional.cross_entropy(model(make_clips(4)), torch.tensor([0, 1, 2, 0]))
    torch.autograd.backward(loss)
    asleep = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert asleep == []


@every_model
def test_clips_of_a_batch_do_not_mix(name: str, options: dict[str, Any]) -> None:
    model = build(name, options).eval()
    clips = make_clips(3)
    alone = torch.cat([model(clip[None]) for clip in clips])
    torch.testing.assert_close(model(clips), alone, atol=1e-5, rtol=1e-4)


@every_model
def test_what_stands_in_padding_does_not_matter(name: str, options: dict[str, Any]) -> None:
    model = build(name, options).eval()
    if not cast("Any", model).honours_mask:
        pytest.skip("says that it does not honour the mask")
    clips = make_clips()
    mask = torch.ones(2, SIZE[0], dtype=torch.bool)
    mask[0, 4:] = False  # from the centre on, for models that see it alone
    mask[1, :1] = False
    loud = clips.masked_fill(~mask[:, None, :, None, None], 100.0)
    torch.testing.assert_close(model(loud, mask=mask), model(clips, mask=mask))
    assert not torch.allclose(model(loud), model(clips))


@every_model
@pytest.mark.parametrize("training", [False, True])
def test_padding_behind_a_clip_leaves_the_answer_of_the_clip_alone(
    name: str, options: dict[str, Any], training: bool
) -> None:
    model = build(name, {**options, "dropout": 0.0}).train(training)
    if not cast("Any", model).honours_mask:
        pytest.skip("says that it does not honour the mask")
    if exact_frames(model) is not None:
        pytest.skip("takes no shorter clip")
    clips = make_clips()
    mask = torch.arange(SIZE[0]).expand(2, -1) < 5
    torch.testing.assert_close(
        model(clips, mask=mask), model(clips[:, :, :5]), atol=1e-5, rtol=1e-4
    )


@every_model
def test_padding_before_a_clip_leaves_the_answer_of_the_clip_alone(
    name: str, options: dict[str, Any]
) -> None:
    model = build(name, options).eval()
    if not cast("Any", model).honours_mask:
        pytest.skip("says that it does not honour the mask")
    if exact_frames(model) is not None:
        pytest.skip("takes no shorter clip")
    clips = make_clips()
    mask = torch.arange(SIZE[0]).expand(2, -1) >= 3
    torch.testing.assert_close(
        model(clips, mask=mask), model(clips[:, :, 3:]), atol=1e-5, rtol=1e-4
    )


@every_model
def test_a_scan_of_few_slices_counts_in_the_loss_as_one_of_many(
    name: str, options: dict[str, Any]
) -> None:
    model = build(name, options).eval()
    criterion = build_loss("cross_entropy", num_classes=CLASSES, multilabel=False)
    short = exact_frames(model) is None and cast("Any", model).honours_mask
    lengths = torch.tensor([[SIZE[0]], [2 if short else SIZE[0]]])
    batch = {
        "clip": make_clips(),
        "mask": torch.arange(SIZE[0]).expand(2, -1) < lengths,
        "label": torch.tensor([0, 2]),
    }
    rows = [{key: tensor[[row]] for key, tensor in batch.items()} for row in (0, 1)]
    both, *alone = (
        sum(compute_losses(model, one, criterion, multilabel=False).values())
        for one in (batch, *rows)
    )
    torch.testing.assert_close(both, sum(alone) / 2, atol=1e-5, rtol=1e-4)


DEEP: dict[str, dict[str, Any]] = {
    "c3d": {"width": 4, "init": "he"},
    "c3d_study": {"width": 4, "init": "he"},
    "i3d": {"width": 8, "stem_stride": [1, 2, 2]},
    "slow_fusion": {"width": 3, "init": "he", "norm": "none"},
}
"""Networks in which clips of 40 frames leave several positions along T before the last layers."""


@pytest.mark.parametrize("name", sorted(DEEP))
@pytest.mark.parametrize("frames", [20, 36, 40])
def test_a_clip_is_answered_alike_whatever_it_is_batched_with(name: str, frames: int) -> None:
    torch.manual_seed(0)
    model = build_model(
        {"name": name, **DEEP[name]}, in_channels=1, num_classes=CLASSES, clip_size=(40, 32, 32)
    ).eval()
    clip, longer = make_clips(1, size=(frames, 32, 32)), make_clips(1, size=(64, 32, 32))
    padded = torch.cat([clip, clip.new_zeros(1, 1, 64 - frames, 32, 32)], dim=2)
    mask = torch.arange(64).expand(2, -1) < torch.tensor([[frames], [64]])
    beside = model(torch.cat([padded, longer]), mask=mask)
    torch.testing.assert_close(
        beside, torch.cat([model(clip), model(longer)]), atol=1e-5, rtol=1e-4
    )


@every_model
def test_the_state_is_saved_and_loaded(name: str, options: dict[str, Any]) -> None:
    model = build(name, options)
    model(make_clips(4))  # moves running statistics, which are state too
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)
    other = build_model(
        {"name": name, **options}, in_channels=1, num_classes=CLASSES, clip_size=SIZE
    )
    other.load_state_dict(torch.load(file, weights_only=True))
    clips = make_clips()
    torch.testing.assert_close(other.eval()(clips), model.eval()(clips))


@every_model
def test_building_twice_from_a_seed_gives_the_same_model(
    name: str, options: dict[str, Any]
) -> None:
    first, second = build(name, options), build(name, options)
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "options", "channels", "classes", "parameters"),
    [(name, *row) for name, rows in PAPER_SIZES.items() for row in rows],
)
def test_the_paper_s_network_has_the_paper_s_size(
    name: str, options: dict[str, Any], channels: int, classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        clip_size = cast("Any", MODELS[name]).paper_clip
        model = build_model(
            {"name": name, **options},
            in_channels=channels,
            num_classes=classes,
            clip_size=clip_size,
        )
    assert describe_model(model, clip_size, channels)["parameters"] == parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_it_learns_eight_made_up_clips_by_heart(name: str) -> None:
    model = build(name, {**SMALL[name][0], "dropout": 0.0})
    size = (exact_frames(model) or max(4, surface(model).smallest[0]), 32, 32)
    clips, labels = make_clips(8, size=size), torch.arange(8) % CLASSES
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(MOST_STEPS):
        optimizer.zero_grad()
        logits = model(clips)
        if logits.argmax(dim=1).equal(labels):
            return
        torch.autograd.backward(nn.functional.cross_entropy(logits, labels))
        optimizer.step()
    pytest.fail(f"{name} does not know eight clips after {MOST_STEPS} steps")
