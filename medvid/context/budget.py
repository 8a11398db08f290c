"""The steps of a training on a share of the patients: as many as on all of them.

A learning curve asks what more patients bring. At the same epochs half of the patients also mean
half of the optimizer steps, and the curve would rise where longer training alone helps.
"""

import math
from collections.abc import Mapping
from typing import Any

from medvid.build import Spec, fill_options
from medvid.train.optim import SCHEDULES

Options = Mapping[str, Any]

GIVEN = ("steps_per_epoch", "total_steps", "watch")
"""What a schedule is given by the training."""

IN_EPOCHS = ("every", "patience")
"""Options of a schedule that are a whole number of epochs."""


def keep_steps(train: Options, steps: int, whole: int) -> dict[str, Any]:
    """Returns the section `train` by which fewer cases are trained on for as many steps as all.

    The epochs grow as the cases become fewer, and the last one ends at the last step. What else is
    told in epochs grows alike: a warm-up exactly, the rest to the nearest whole epoch.

    Args:
        train: options of `fit_fold`, all filled in.
        steps: optimizer steps of an epoch of the fewer cases.
        whole: optimizer steps of an epoch of all cases.
    """
    total = train["epochs"] * whole
    if train["max_steps"] is not None:
        total = min(total, train["max_steps"])
    patience = train["early_stopping_patience"]
    return {
        **train,
        "epochs": math.ceil(total / steps),
        "max_steps": total,
        "schedule": _stretch_schedule(train["schedule"], whole / steps),
        "early_stopping_patience": patience and _stretch(patience, whole / steps),
    }


def _stretch_schedule(spec: Spec, ratio: float) -> dict[str, Any]:
    options = fill_options(SCHEDULES, spec, "schedule", given=GIVEN)
    if options.get("warmup_epochs"):
        options["warmup_epochs"] *= ratio
    for name in IN_EPOCHS:
        if options.get(name):
            options[name] = _stretch(options[name], ratio)
    if options.get("milestones"):
        options["milestones"] = [_stretch(epoch, ratio) for epoch in options["milestones"]]
    return options


def _stretch(epochs: int, ratio: float) -> int:
    return max(1, round(epochs * ratio))
