"""The names that other libraries give to the weights of 2D networks, and medvid's for the same.

One entry a layout: by which names it is known, and literal rules from its names to ours.
torchvision and timm name these networks alike. The classifier has no rule: the classes of a
foreign file are not known, so it stays at its own start.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from medvid.contract import DataError
from medvid.layers.inflate import shorten

WRAPPERS = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")
"""What DataParallel, Lightning, usual wrappers and torch.compile put before all names."""

SHORTCUT = ".shortcut.weight"
"""The end of the name of a convolution beside a block, as res3d has it."""


@dataclass(frozen=True)
class Layout:
    """How one library names one family of networks.

    Args:
        marks: names that only this family has all of.
        rules: pattern of a whole name -> our name; the first that matches counts, a name that none
            matches has no counterpart.
        heads: how the names of classifiers begin, which are left behind.
    """

    marks: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    heads: tuple[str, ...]


_LAST = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

VGG16 = {
    "1_1": 0, "1_2": 2, "2_1": 5, "2_2": 7, "3_1": 10, "3_2": 12, "3_3": 14,
    "4_1": 17, "4_2": 19, "4_3": 21, "5_1": 24, "5_2": 26, "5_3": 28,
}  # fmt: skip
"""Convolutions by stage, and their numbers among ReLUs and maxima."""

LAYOUTS: dict[str, Layout] = {
    # DenseNet-121 and its sisters; checkpoints of before 2018 have norm.1 for norm1.
    "densenet": Layout(
        marks=(
            "features.conv0.weight",
            "features.transition1.conv.weight",
            "features.norm5.running_mean",
        ),
        rules=(
            (
                r"features\.(denseblock\d+\.denselayer\d+)\.(norm|conv)\.?([12])\." + _LAST,
                r"trunk.\1.\2\3.\4",
            ),
            (
                r"features\.(conv0|norm0|norm5|transition\d+\.(?:norm|conv))\." + _LAST,
                r"trunk.\1.\2",
            ),
        ),
        heads=("classifier.",),
    ),
    # ResNet-18: layer1 to layer4 of two blocks each are res2a, res2b to res5a, res5b. The deeper
    # ones are known by the same marks, and refused for the blocks that they have more.
    "resnet": Layout(
        marks=("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.1.bn2.weight"),
        rules=(
            (r"conv1\." + _LAST, r"stem.\1"),
            (r"bn1\." + _LAST, r"stem_norm.\1"),
            *(
                (rf"layer{stage}\.{block}\.{theirs}\." + _LAST, rf"blocks.res{stage + 1}{ours}.\1")
                for stage in (1, 2, 3, 4)
                for block, letter in enumerate("ab")
                for theirs, ours in (
                    ("conv1", f"{letter}.conv1"),
                    ("bn1", f"{letter}.norm1"),
                    ("conv2", f"{letter}.conv2"),
                    ("bn2", f"{letter}.norm2"),
                    (r"downsample\.0", f"{letter}.shortcut"),
                    (r"downsample\.1", f"{letter}.shortcut_norm"),
                )
            ),
        ),
        heads=("fc.",),
    ),
    # Inception-V1 with norms. Their third branch has 3 x 3 kernels, as the 3D network's has.
    "googlenet": Layout(
        marks=("conv1.conv.weight", "conv3.bn.weight", "inception3a.branch2.0.conv.weight"),
        rules=tuple(
            (rf"{theirs}\.{part}\." + _LAST, rf"{ours}.{mine}.\1")
            for theirs, ours in (
                ("conv1", "Conv3d_1a_7x7"),
                ("conv2", "Conv3d_2b_1x1"),
                ("conv3", "Conv3d_2c_3x3"),
                *(
                    (
                        rf"inception{block}\.{branch}",
                        f"Mixed_{block[0]}{chr(ord(block[1]) + 1)}.{b}",
                    )
                    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
                    for branch, b in (
                        ("branch1", "b0"),
                        (r"branch2\.0", "b1.0"),
                        (r"branch2\.1", "b1.1"),
                        (r"branch3\.0", "b2.0"),
                        (r"branch3\.1", "b2.1"),
                        (r"branch4\.1", "b3"),
                    )
                ),
            )
            for part, mine in (("conv", "conv"), ("bn", "norm"))
        ),
        heads=("fc.", "aux1.", "aux2."),
    ),
    # Without norms: the variant with them has other numbers.
    "vgg16": Layout(
        marks=("features.0.weight", "features.2.weight", "features.17.weight", "features.28.bias"),
        rules=tuple(
            (rf"features\.{number}\.(weight|bias)", rf"trunk.convs.conv{place}.\1")
            for place, number in VGG16.items()
        ),
        heads=("classifier.", "pre_logits.", "head."),
    ),
}


def translate_state(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Returns the weights of a 2D network under the names of `target`, as far as they are known.

    A prefix that all names share, as wrappers add one, is taken off. Weights whose names `target`
    has already, as those of a planar twin, keep them; what has no counterpart keeps its name, so
    that a report can say it was not used.

    Args:
        source: state dict of the 2D network.
        target: state dict of ours; only its names matter.

    Raises:
        DataError: when kernels of a known family have no place in `target`, or a shortcut of
            `target` is a convolution and an identity in the file: what is left of such a network
            does not see what the whole one saw.
    """
    state = _unwrap(source, target)
    found = find_layout(state)
    if found is None or _knows(state, target):
        return state
    names = {name: _rename(name, LAYOUTS[found]) for name in state}
    homeless = [
        name
        for name, ours in names.items()
        if state[name].ndim > 1 and ours not in target and not name.startswith(LAYOUTS[found].heads)
    ]
    if homeless:
        raise DataError(
            f"The file holds a network of the family `{found}` in which {len(homeless)} kernels "
            f"have no place in yours: {shorten(homeless)}. Without them the rest sees other maps "
            "than it was trained on. Take a file of the depth that yours has, set the depth of "
            "yours (`model.blocks`, `model.depths`) to the file's, or choose the model that the "
            "family belongs to.",
            code="other_depth",
        )
    _refuse_new_shortcuts(set(names.values()), target)
    return {names[name]: tensor for name, tensor in state.items()}


def _refuse_new_shortcuts(given: Collection[str], target: Mapping[str, Tensor]) -> None:
    """Stops where an identity meets a convolution.

    A kernel of ones would be the identity, but batch normalisation behind it is none in training.
    """
    new = [
        name.removesuffix(SHORTCUT)
        for name in target
        if name.endswith(SHORTCUT) and name not in given
    ]
    met = [block for block in new if f"{block}.conv1.weight" in given]
    if met:
        raise DataError(
            f"In {shorten(met)} the file's shortcut is an identity, and that of your network a "
            "convolution with random weights, behind which nothing means what it did. Set "
            "`model.project_res2a=false`.",
            code="other_shortcut",
        )


def find_layout(names: Mapping[str, Tensor]) -> str | None:
    """Returns the name in `LAYOUTS` whose marks are all there; None when no one knows them."""
    for name, layout in LAYOUTS.items():
        if all(mark in names for mark in layout.marks):
            return name
    return None


def _unwrap(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = dict(source)
    while not _knows(state, target) and find_layout(state) is None:
        inner = next((found for wrapper in WRAPPERS if (found := _take_off(state, wrapper))), None)
        if inner is None:
            break
        state = inner
    return state


def _take_off(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor] | None:
    """Returns what stands behind the prefix, where most names have it; a loss may lie beside."""
    inner = {name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)}
    return inner if len(inner) > len(state) / 2 else None


def _knows(names: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> bool:
    """Returns whether most names are ours; single ones, such as `classifier.weight`, are common."""
    return sum(name in target for name in names) > len(names) / 2


def _rename(name: str, layout: Layout) -> str:
    for pattern, ours in layout.rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(ours)
    return name
