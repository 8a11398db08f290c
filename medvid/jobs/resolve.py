"""`medvid config`: a config with its parents, overrides and all defaults, without its data."""

from collections.abc import Mapping
from typing import Any

from medvid.build import fill_options, validate_options
from medvid.config import Config, check_shapes, format_config
from medvid.data.sampling import SAMPLERS
from medvid.data.splits import make_folds
from medvid.jobs.data_section import resolve_data
from medvid.jobs.job import list_train_defaults, resolve_evaluate
from medvid.jobs.network import find_model_section
from medvid.jobs.start import read_init
from medvid.models import MODELS, check_shared_options
from medvid.train.fit import GIVEN, fit_fold
from medvid.train.losses import LOSSES
from medvid.train.optim import OPTIMIZERS, SCHEDULES
from medvid.transforms import TRANSFORMS, build_pipeline

FROM_DATA = ("in_channels", "num_classes", "clip_size", "spacing")
"""What a model learns from the data, and a config need not say."""

NO_MANIFEST = "# data.manifest is not set: give it in a config, or as data.manifest=FILE.\n"


def resolve_config(config: Config) -> str:
    """Returns a config with all defaults as YAML, without opening its data.

    A config that ships has no manifest, so none is needed here.

    Raises:
        ConfigError: for an unknown name or option, or a value that cannot be meant.
    """
    check_shapes(config, "The config")
    resolved = dict(config)
    resolved["data"] = _resolve_data(config)
    resolved["transforms"] = _resolve_transforms(config.get("transforms") or {})
    model = find_model_section(config)
    given = [name for name in FROM_DATA if name not in model or name != "spacing"]
    check_shared_options(model)
    resolved["model"] = fill_options(MODELS, model, "model", given)
    init = read_init(config)
    if init is not None:
        resolved["init"] = init.describe()
    resolved["train"] = _resolve_train(config.get("train") or {})
    resolved["evaluate"] = resolve_evaluate(config)
    text = format_config({"name": "run", "seed": 0, "overfit": 0, **resolved})
    return text if "manifest" in resolved["data"] else NO_MANIFEST + text


def _resolve_data(config: Config) -> dict[str, Any]:
    section = dict(config.get("data") or {})
    without = "manifest" not in section
    resolved = resolve_data({"data": {"manifest": "", **section}})
    if without:
        del resolved["manifest"]
    for key in ("sampler", "test_sampler"):
        if resolved[key] is not None:
            resolved[key] = fill_options(SAMPLERS, resolved[key], "sampler")
    given = ("records", "space", "seed")
    splits = {"name": "splits", **(resolved["splits"] or {})}
    filled = fill_options({"splits": make_folds}, splits, "section", given)
    resolved["splits"] = {key: value for key, value in filled.items() if key != "name"}
    return resolved


def _resolve_transforms(section: Mapping[str, Any]) -> dict[str, Any]:
    for training in (True, False):
        build_pipeline(section, training=training)
    return {
        part: [fill_options(TRANSFORMS, spec, "transform") for spec in specs or []]
        for part, specs in section.items()
    }


def _resolve_train(section: Mapping[str, Any]) -> dict[str, Any]:
    checked = validate_options(fit_fold, section, "section `train`", GIVEN)
    train = list_train_defaults() | checked
    train["optimizer"] = fill_options(OPTIMIZERS, train["optimizer"], "optimizer", ["model"])
    of_training = ("steps_per_epoch", "total_steps", "watch")
    train["schedule"] = fill_options(SCHEDULES, train["schedule"], "schedule", of_training)
    if train["loss"] is not None:
        counts = ("num_classes", "class_counts")
        train["loss"] = fill_options(LOSSES, train["loss"], "loss", counts)
    return train
