"""What there is: `medvid models`, `medvid adapters`, `medvid transforms`."""

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

COLUMNS = (
    "parameters (M)",
    "GFLOP a clip",
    "activations (MB)",
    "clip",
    "smallest",
    "frames",
    "mask",
    "through-plane",
    "paper",
)


def list_model_rows() -> list[dict[str, Any]]:
    """Returns one plain row a network, at its default width and its paper's clip size."""
    return [{"name": row["name"], **_tell(row)} for row in list_models()]


def list_config_rows(
    clip: Size, *, channels: int = 1, spacing: tuple[float, float, float] | None = None
) -> list[dict[str, Any]]:
    """Returns one plain row a shipped model config, for clips of a given size.

    A config that cannot take them has a row that says why.

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
            told = _tell(describe_model(model, clip, channels))
        except MedvidError as error:
            told = {**dict.fromkeys(COLUMNS), "through-plane": error.message}
        rows.append({"name": name, **told})
    return rows


def _tell(row: ModelDescription) -> dict[str, Any]:
    values = (
        round(row["parameters"] / MEGA, 2),
        round(row["flops"] / GIGA, 2),
        round(row["activation_bytes"] / MEGA, 1),
        " x ".join(map(str, row["clip_size"])),
        " x ".join(map(str, row["smallest"])),
        _tell_frames(row["exact_frames"], row["smallest"][0]),
        "honoured" if row["honours_mask"] else "not honoured",
        row["through_plane"],
        row["paper"],
    )
    return dict(zip(COLUMNS, values, strict=True))


def _tell_frames(exact: int | None, least: int) -> str:
    """Says how many frames a network takes."""
    if exact is not None:
        return f"exactly {exact}"
    return "any" if least == 1 else f"at least {least}"


def list_adapter_rows() -> list[dict[str, Any]]:
    """Returns one plain row a source."""
    return [asdict(row) for row in list_sources()]


def list_transform_rows() -> list[dict[str, Any]]:
    """Returns one plain row a transform."""
    return [asdict(row) for row in list_transforms()]
