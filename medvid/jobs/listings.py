"""What there is: `medvid models`, `medvid adapters`, `medvid transforms`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from medvid.config import list_configs, read_config
from medvid.contract import ConfigError, MedvidError
from medvid.layers.clips import Size
from medvid.models import ModelDescription, build_model, check_spacing, describe_model, list_models
from medvid.sources import list_sources
from medvid.transforms import list_transforms

MEGA = 1e6
GIGA = 1e9

MODEL_CONFIGS = "model/"

LARGEST: Size = (1024, 4096, 4096)
"""Frames, rows and columns. An LSTM is counted frame by frame, 512 of them in 25 seconds; detectors
of mammography have some 4,000 pixels a side."""


def list_model_rows() -> list[dict[str, Any]]:
    """Returns one row a network, at its default width and its paper's clip size."""
    return [{**row} for row in list_models()]


def list_config_rows(
    clip: Size, *, channels: int = 1, spacing: tuple[float, float, float] | None = None
) -> list[dict[str, Any]]:
    """Returns one row a shipped model config, for clips of a given size: exact, for programs.

    The fields are those of `ModelDescription`, and `problem`: why a config cannot take such clips,
    whose other fields are then None but for `name` and `clip_size`; None where it can.

    Args:
        clip: (T, H, W).
        channels: of the clips.
        spacing: of (T, H, W) in mm, for configs whose strides follow it.

    Raises:
        ConfigError: for a clip above `LARGEST`, or a spacing that is not above 0.
    """
    check_spacing(spacing)
    if any(n > most for n, most in zip(clip, LARGEST, strict=True)):
        raise ConfigError(
            f"Networks are listed for clips of up to {' x '.join(map(str, LARGEST))} (frames x "
            f"rows x columns), and {' x '.join(map(str, clip))} was asked for. Operations are "
            "counted slice by slice, and no detector has more pixels; clips are windows of a scan.",
            code="clip_too_large",
        )
    rows = []
    for name in list_configs():
        if not name.startswith(MODEL_CONFIGS):
            continue
        try:
            with torch.device("meta"):
                model = build_model(
                    read_config(name)["model"],
                    in_channels=channels,
                    num_classes=2,
                    clip_size=clip,
                    spacing=spacing,
                )
            told = {**describe_model(model, clip, channels), "problem": None}
        except MedvidError as error:
            nothing = dict.fromkeys(ModelDescription.__annotations__)
            told = {**nothing, "clip_size": clip, "problem": error.message}
        rows.append({"name": name, **told})
    return rows


def tell_model_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns rows of networks as a person reads them: rounded, sizes as T x H x W.

    A config that cannot take the clip says so in the last column but one.
    """
    return [
        {
            "name": row["name"],
            "parameters (M)": _tell_number(row["parameters"], MEGA),
            "GFLOP a clip": _tell_number(row["flops"], GIGA),
            "activations (MB)": _tell_number(row["activation_bytes"], MEGA),
            "clip": _tell_size(row["clip_size"]),
            "smallest": _tell_size(row["smallest"]),
            "frames": _tell_frames(row["exact_frames"], row["smallest"]),
            "mask": {True: "honoured", False: "not honoured", None: ""}[row["honours_mask"]],
            "through-plane": row.get("problem") or row["through_plane"],
            "paper": row["paper"] or "",
        }
        for row in rows
    ]


def _tell_number(value: int | None, unit: float) -> str:
    """Writes three significant digits: the smallest networks have thousandths of a unit."""
    if value is None:
        return ""
    digits = 2 - math.floor(math.log10(value / unit)) if value else 0
    return f"{value / unit:.{max(0, digits)}f}"


def _tell_size(size: Sequence[int] | None) -> str:
    return " x ".join(map(str, size or ()))


def _tell_frames(exact: int | None, smallest: Sequence[int] | None) -> str:
    """Says how many frames a network takes."""
    if smallest is None:
        return ""
    if exact is not None:
        return f"exactly {exact}"
    return "any" if smallest[0] == 1 else f"at least {smallest[0]}"


def list_adapter_rows() -> list[dict[str, Any]]:
    """Returns one plain row a source."""
    return [asdict(row) for row in list_sources()]


def list_transform_rows() -> list[dict[str, Any]]:
    """Returns one plain row a transform."""
    return [asdict(row) for row in list_transforms()]
