"""A config, checked and resolved: what is to be trained, on what, and how it is judged."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from medvid.build import validate_options
from medvid.config import Config, check_shapes
from medvid.contract import ConfigError
from medvid.data.splits import make_folds
from medvid.evaluate.measure import find_positive
from medvid.evaluate.operating_point import check_rule
from medvid.jobs.network import find_model_section
from medvid.jobs.start import Init, read_init
from medvid.jobs.task import TaskData, open_data
from medvid.train.fit import GIVEN, fit_fold, validate_train_options
from medvid.train.predict import Average

OVERFIT_EPOCHS = 100
"""Passes over a handful of cases: enough for any network that can learn at all."""

Resamples = Annotated[int, Field(ge=40)]
"""With fewer than 40 the 2.5 % point of a 95 % interval would lie beyond the lowest draw."""

Level = Annotated[float, Field(gt=0, lt=1)]


def evaluate_options(
    *,
    positive: str | None = None,
    operating_point: str | float | dict[str, float] = "youden",
    average: Average = "probability",
    resamples: Resamples = 2000,
    level: Level = 0.95,
) -> dict[str, Any]:
    """The options of the section `evaluate`.

    Args:
        positive: the positive class of two; the last one when None.
        operating_point: `youden`, `{sensitivity: 0.95}`, `{specificity: 0.9}` or a threshold;
            chosen on each fold's validation part, never on its test part.
        average: how several clips and crops of a case are joined, see
            `medvid.train.predict.predict_loader`: `probability`, `logit`, `sci` or `sci_max`.
        resamples: of the bootstrap.
        level: of the intervals.
    """
    return dict(locals())


def resolve_evaluate(config: Config) -> dict[str, Any]:
    """Returns the section `evaluate` with every option filled in.

    Raises:
        ConfigError: for an unknown option, or a value that cannot be meant.
    """
    section = config.get("evaluate") or {}
    checked = validate_options(evaluate_options, section, "section `evaluate`")
    evaluate = evaluate_options(**checked)
    check_rule(evaluate["operating_point"])
    return evaluate


@dataclass(frozen=True)
class Job:
    """A config, checked and resolved.

    Args:
        config: with every option of every section filled in.
        data: records and loaders.
        train: options of `fit_fold`.
        evaluate: options of the section `evaluate`.
        seed: of splits, weights, order and augmentation.
        overfit: train and test on so many cases only; 0 for a real run.
        init: where the networks' first weights come from; None draws them at random.
    """

    config: Config
    data: TaskData
    train: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    seed: int
    overfit: int
    init: Init | None = None

    def count_folds(self) -> int:
        """Returns how many folds there will be, before any scan is decoded."""
        if self.overfit:
            return 1
        section = self.data.options["splits"] or {}
        given = ("records", "space", "seed")
        options = validate_options(make_folds, section, "section `data.splits`", given)
        return len(make_folds(self.data.records, self.data.space, seed=self.seed, **options))


def open_job(config: Config) -> Job:
    """Checks every section of a config and opens its data.

    Raises:
        ConfigError: for any option that cannot be meant.
        DataError: for records that cannot be used.
    """
    check_shapes(config, "The config")
    find_model_section(config)
    if config.get("pretrain"):
        raise ConfigError(
            "A config with a section `pretrain` can only be checked and trained: `medvid train "
            "CONFIG`. Take the section out to look at a training with labels.",
            code="pretraining",
        )
    init = read_init(config)
    data = open_data(config)
    train_section = dict(config.get("train") or {})
    overfit = int(config.get("overfit") or 0)
    if overfit:
        train_section |= {"epochs": OVERFIT_EPOCHS, "select": "last"}
        train_section.pop("early_stopping_patience", None)
    train = validate_train_options(
        train_section, num_classes=len(data.space.classes), multilabel=data.space.multilabel
    )
    evaluate = resolve_evaluate(config)
    if not data.space.multilabel:
        find_positive(data.space.classes, evaluate["positive"])
    for training in (True, False):  # a typo in the test transforms is told now, not after training
        data.dataset([], training=training, seed=0)
    seed = int(config.get("seed") or 0)
    resolved = {
        "name": config.get("name") or "run",
        "seed": seed,
        "overfit": overfit,
        "data": anchor_paths(data.options),
        "transforms": dict(data.transforms),
        "model": find_model_section(config),
        **({} if init is None else {"init": init.describe()}),
        "train": list_train_defaults() | train,
        "evaluate": evaluate,
    }
    return Job(resolved, data, train, evaluate, seed, overfit, init)


def anchor_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the section `data` with paths that hold from any folder."""
    anchored = {**options, "manifest": str(Path(options["manifest"]).absolute())}
    if options["store"] is not None:
        anchored["store"] = str(Path(options["store"]).absolute())
    return anchored


def list_train_defaults() -> dict[str, Any]:
    """Returns every option of the section `train` with its default."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(fit_fold).parameters.items()
        if name not in GIVEN and parameter.default is not inspect.Parameter.empty
    }
