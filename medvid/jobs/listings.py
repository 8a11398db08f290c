"""What there is: `medvid models`, `medvid adapters`, `medvid transforms`."""

from dataclasses import asdict
from typing import Any

from medvid.models import list_models
from medvid.sources import list_sources
from medvid.transforms import list_transforms

MEGA = 1e6
GIGA = 1e9


def list_model_rows() -> list[dict[str, Any]]:
    """Returns one plain row a network, at its default width and its paper's clip size."""
    return [
        {
            "name": row["name"],
            "parameters (M)": round(row["parameters"] / MEGA, 2),
            "GFLOP a clip": round(row["flops"] / GIGA, 2),
            "activations (MB)": round(row["activation_bytes"] / MEGA, 1),
            "clip": " x ".join(map(str, row["clip_size"])),
            "smallest": " x ".join(map(str, row["smallest"])),
            "through-plane": row["through_plane"],
            "paper": row["paper"],
        }
        for row in list_models()
    ]


def list_adapter_rows() -> list[dict[str, Any]]:
    """Returns one plain row a source."""
    return [asdict(row) for row in list_sources()]


def list_transform_rows() -> list[dict[str, Any]]:
    """Returns one plain row a transform."""
    return [asdict(row) for row in list_transforms()]
