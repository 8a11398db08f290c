"""The table of models, and what can be said of a model without knowing it."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Annotated, Any, TypedDict, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode

from medvid.build import Spec, build, validate_options
from medvid.contract import ListedModel
from medvid.layers.clips import AtLeastOne, Share, Size
from medvid.models.actionvlad import ActionVLAD
from medvid.models.c3d import C3D, C3DStudy
from medvid.models.densenet3d import DenseNet3D
from medvid.models.fstcn import FSTCN
from medvid.models.i3d import I3D
from medvid.models.ji3dcnn import Ji3DCNN
from medvid.models.karpathy import EarlyFusion, LateFusion, SingleFrame, SlowFusion
from medvid.models.lrcn import LRCN
from medvid.models.ltc import LTC
from medvid.models.ng import ConvPooling, LatePooling
from medvid.models.ng_lstm import StackedLSTM
from medvid.models.ng_windows import LocalPooling, SlowPooling, TimeConv
from medvid.models.res3d import Res3D
from medvid.models.slicewise import Slicewise
from medvid.models.t3d import T3D

MODELS: dict[str, type[nn.Module]] = {
    "actionvlad": ActionVLAD,
    "c3d": C3D,
    "c3d_study": C3DStudy,
    "conv_pooling": ConvPooling,
    "densenet3d": DenseNet3D,
    "early_fusion": EarlyFusion,
    "fstcn": FSTCN,
    "i3d": I3D,
    "ji3dcnn": Ji3DCNN,
    "late_fusion": LateFusion,
    "late_pooling": LatePooling,
    "local_pooling": LocalPooling,
    "lrcn": LRCN,
    "lstm": StackedLSTM,
    "ltc": LTC,
    "res3d": Res3D,
    "single_frame": SingleFrame,
    "slicewise": Slicewise,
    "slow_fusion": SlowFusion,
    "slow_pooling": SlowPooling,
    "t3d": T3D,
    "time_conv": TimeConv,
}

Distance = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""In mm."""


class ModelDescription(TypedDict):
    """What `medvid models` and reports say of a model at one clip size.

    `flops` are of one clip forward, a multiplication and an addition counted as two.
    `activation_bytes` are what training one clip in float32 keeps for the backward pass.
    """

    parameters: int
    flops: int
    activation_bytes: int
    clip_size: Size
    smallest: Size
    exact_frames: int | None
    modalities: tuple[str, ...]
    honours_mask: bool
    paper: str
    through_plane: str


class ModelRow(ModelDescription):
    """A description with the model's name in the table and the first line of its docstring."""

    name: str
    summary: str


def build_model(
    spec: Spec,
    *,
    in_channels: int,
    num_classes: int,
    clip_size: Size,
    spacing: tuple[float, float, float] | None = None,
) -> nn.Module:
    """Builds a model from the section `model` of a config.

    Args:
        spec: a name of `MODELS`, or a mapping with `name` and the model's own options.
        in_channels: channels of a clip, as the data has them.
        num_classes: logits.
        clip_size: (T, H, W) of the clips.
        spacing: of (T, H, W) in mm; None for videos, whose T is in seconds. Passed on where the
            model takes it and the config does not give its own.

    Raises:
        ConfigError: for an unknown name or option, a width, depth, dropout or spacing that no
            network can have, or a clip too small for the model.
    """
    check_shared_options(spec)
    check_spacing(spacing)
    given: dict[str, Any] = {
        "in_channels": in_channels,
        "num_classes": num_classes,
        "clip_size": clip_size,
    }
    if isinstance(spec, str) or "spacing" not in spec:
        given["spacing"] = spacing
    return build(MODELS, spec, "model", **given)


def check_shared_options(spec: Spec) -> None:
    """Checks the values of the options that models share, whichever model has them.

    Raises:
        ConfigError: for a width, depth, dropout or spacing that no network can have.
    """
    if isinstance(spec, str):
        return
    shared = {key: spec[key] for key in signature(_shared_options).parameters if key in spec}
    validate_options(_shared_options, shared, f"model `{spec.get('name')}`")


def check_spacing(spacing: tuple[float, float, float] | None) -> None:
    """Checks the spacing of the clips; None is that of videos.

    Raises:
        ConfigError: when a distance is not above 0 and finite.
    """
    validate_options(_shared_options, {"spacing": spacing}, "network")


def _shared_options(
    *,
    width: AtLeastOne = 1,
    dropout: Share = 0.0,
    depths: Annotated[Sequence[AtLeastOne], Field(min_length=1)] = (1,),
    spacing: tuple[Distance, Distance, Distance] | None = None,
) -> None:
    """The bounds that hold for every model; its own constructor says the types."""


def describe_model(model: nn.Module, clip_size: Size, in_channels: int) -> ModelDescription:
    """Counts parameters, operations and memory without computing anything (meta tensors).

    Args:
        model: one of `MODELS`, on any device; it is left as it is.
        clip_size: (T, H, W) of the clip that operations and memory are counted for.
        in_channels: channels of that clip.

    Raises:
        DataError: when the clip is too small for the model or has other channels.
    """
    inputs = torch.empty(1, in_channels, *clip_size, device="meta")
    state = {
        name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    saved: dict[object, int] = {}
    own = {_name_storage(tensor) for tensor in state.values()}

    def remember(tensor: Tensor) -> Tensor:
        key = _name_storage(tensor)
        if key not in own:  # the same map, kept for two layers, lies in memory once
            saved[key] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor)
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), hooks, counter:
        logits = functional_call(model, state, (inputs,))
    del logits  # until here the graph kept every storage alive, so no key was given twice
    surface = cast("ListedModel", model)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": counter.get_total_flops(),
        "activation_bytes": sum(saved.values()),
        "clip_size": clip_size,
        "smallest": surface.smallest,
        "exact_frames": getattr(model, "exact_frames", None),
        "modalities": surface.modalities,
        "honours_mask": surface.honours_mask,
        "paper": surface.paper,
        "through_plane": surface.through_plane,
    }


def list_models(models: Mapping[str, type[nn.Module]] = MODELS) -> list[ModelRow]:
    """Returns a row for every model with its default options, one channel and two classes.

    Operations and memory are those of the clip size in the paper.
    """
    rows: list[ModelRow] = []
    for name, kind in sorted(models.items()):
        with torch.device("meta"):
            model = kind()
        description = describe_model(
            model, cast("type[ListedModel]", kind).paper_clip, in_channels=1
        )
        summary = (kind.__doc__ or "").strip().splitlines()[0]
        rows.append({"name": name, "summary": summary, **description})
    return rows


def _name_storage(tensor: Tensor) -> object:
    """Returns a key for the memory behind a tensor; meta tensors have no address to go by."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
