"""The network of a run: built from the config and the data, or from a checkpoint."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medvid.config import Config
from medvid.contract import ConfigError, DataError
from medvid.data.labels import LabelSpace
from medvid.evaluate.measure import name_positive
from medvid.jobs.clip_shape import ClipShape
from medvid.jobs.task import TaskData, build_task
from medvid.models import build_model
from medvid.train.checkpoint import load_checkpoint, load_weights


def build_network(
    spec: Mapping[str, Any] | str, space: LabelSpace, shape: ClipShape, seed: int
) -> nn.Module:
    """Builds a network with weights drawn from `seed`, whatever was drawn before.

    Raises:
        ConfigError: for an unknown model or option.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(
            spec,
            in_channels=shape.channels,
            num_classes=len(space.classes),
            clip_size=shape.size,
            spacing=shape.spacing,
        )


def find_model_section(config: Config) -> Mapping[str, Any] | str:
    """Returns the section `model`.

    Raises:
        ConfigError: when there is none.
    """
    if not config.get("model"):
        raise ConfigError(
            "The config has no section `model`. `medvid models` lists what can stand there.",
            code="no_model",
        )
    section: Mapping[str, Any] | str = config["model"]
    return section


def describe_for_checkpoint(config: Config, data: TaskData, shape: ClipShape) -> dict[str, Any]:
    """Returns what a checkpoint must carry to be used without the run that made it."""
    return {
        "model": find_model_section(config),
        "data": {
            key: value
            for key, value in data.options.items()
            if key not in ("manifest", "source", "source_options", "store", "splits", "on_bad")
        },
        "transforms": data.transforms,
        "classes": data.space.classes,
        "multilabel": data.space.multilabel,
        "positive": name_positive(
            data.space.classes,
            (config.get("evaluate") or {}).get("positive"),
            multilabel=data.space.multilabel,
        ),
        "clip": {"channels": shape.channels, "size": shape.size, "spacing": shape.spacing},
    }


def load_network(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Builds the network of a checkpoint and fills in its weights.

    Returns:
        The network, and what the checkpoint says about itself.

    Raises:
        DataError: when the file is no checkpoint of medvid, or of another model than it says.
    """
    checkpoint = load_checkpoint(path)
    meta = checkpoint["medvid"]
    if not {"model", "data", "transforms", "classes", "clip"} <= meta.keys():
        raise DataError(
            f"{path} does not say which model it belongs to. Take best.ckpt of a run of "
            "`medvid train`.",
            code="foreign_checkpoint",
            files=[path],
        )
    if "pretrained" in meta:
        raise DataError(
            f"{path} was pre-trained without labels and knows no classes. Train it first: `medvid "
            "train CONFIG init.from=RUN`, with this run.",
            code="only_pretrained",
            files=[path],
        )
    clip = meta["clip"]
    spacing = None if clip["spacing"] is None else tuple(clip["spacing"])
    shape = ClipShape(clip["channels"], tuple(clip["size"]), spacing)
    network = build_network(meta["model"], space_of(meta), shape, seed=0)
    load_weights(network, checkpoint, path)
    return network, meta


def space_of(meta: Mapping[str, Any]) -> LabelSpace:
    """Returns the classes that a checkpoint was trained on."""
    return LabelSpace(tuple(meta["classes"]), bool(meta["multilabel"]))


def data_of(meta: Mapping[str, Any], records: Any, store: str | None) -> TaskData:
    """Returns the way from records to batches that a checkpoint was trained with."""
    options = {
        # Checkpoints from before these options have none of them.
        "pixels": True,
        "permute_labels": False,
        "channels": None,
        "on_gap": "refuse",
        "on_bad_images": "stop",
        "detilt": False,
        "select": None,
        **meta["data"],
        "store": store,
        "on_bad": "quarantine",
        "splits": None,
        "crop": _tuple(meta["data"]["crop"]),
        "spacing": _tuple(meta["data"]["spacing"]),
        "size": _tuple(meta["data"]["size"]),
    }
    data = build_task(options, meta["transforms"], records, space_of(meta))
    return replace(data, locked=True)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
