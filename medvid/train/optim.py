"""Optimizers, and learning-rate schedules as a factor for every step.

A schedule is a function of the optimizer step alone. That makes it a one-line test, and a training
that is continued after a kill has the same learning rate as one that never stopped.
"""

import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from medvid.build import Spec, build, fill_options, suggest
from medvid.contract import ConfigError
from medvid.train.freeze import list_parts

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Callable[[int], float]
Watch = Callable[[int], Sequence[float]]
"""Step -> the monitored values of the epochs that ended before it; larger is better."""
Factors = dict[str, NotNegative]
"""Pattern of parameter names, such as `fc8.*`, -> what a rate is multiplied by."""


def sgd(
    model: nn.Module,
    *,
    lr: Positive = 0.01,
    momentum: NotNegative = 0.9,
    nesterov: bool = False,
    weight_decay: NotNegative = 5e-4,
    decay_norm_and_bias: bool = False,
    rates: Factors | None = None,
    decays: Factors | None = None,
) -> torch.optim.Optimizer:
    """Builds stochastic gradient descent with momentum, as the video papers train.

    Args:
        model: its parameters.
        lr: learning rate; 0.01 for batches of about 32 from scratch.
        momentum: 0.9 in nearly all video papers.
        nesterov: look ahead along the momentum.
        weight_decay: 5e-4, as C3D and most video papers.
        decay_norm_and_bias: also decay biases and the parameters of norms.
        rates: pattern of parameter names -> factor of their learning rate; the first that fits
            counts.
        decays: pattern -> factor of their weight decay.
    """
    groups = split_parameters(model, lr, weight_decay, decay_norm_and_bias, rates, decays)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0)


def adamw(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    weight_decay: NotNegative = 0.01,
    beta1: Share = 0.9,
    beta2: Share = 0.999,
    decay_norm_and_bias: bool = False,
    rates: Factors | None = None,
    decays: Factors | None = None,
) -> torch.optim.Optimizer:
    """Builds AdamW: weight decay apart from the gradient.

    Args:
        model: its parameters.
        lr: learning rate; 1e-3 is torch's default.
        weight_decay: 0.01 is the paper's and torch's default.
        beta1: memory of the gradient.
        beta2: memory of its square.
        decay_norm_and_bias: also decay biases and the parameters of norms.
        rates: pattern of parameter names -> factor of their learning rate; the first that fits
            counts.
        decays: pattern -> factor of their weight decay.

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """
    groups = split_parameters(model, lr, weight_decay, decay_norm_and_bias, rates, decays)
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2))


def adam(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    weight_decay: NotNegative = 0.0,
    beta1: Share = 0.9,
    beta2: Share = 0.999,
    epsilon: Positive = 1e-8,
    decay_norm_and_bias: bool = False,
    rates: Factors | None = None,
    decays: Factors | None = None,
) -> torch.optim.Optimizer:
    """Builds Adam, for repeating older results; `adamw` is the better choice with weight decay.

    Args:
        model: its parameters.
        lr: learning rate; 1e-3 is the paper's.
        weight_decay: added to the gradient.
        beta1: memory of the gradient.
        beta2: memory of its square.
        epsilon: added to the root of the square; a larger one shortens the steps of parameters
            with small gradients (ActionVLAD takes 1e-4).
        decay_norm_and_bias: also decay biases and the parameters of norms.
        rates: pattern of parameter names -> factor of their learning rate; the first that fits
            counts.
        decays: pattern -> factor of their weight decay.

    References:
        Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015.
    """
    groups = split_parameters(model, lr, weight_decay, decay_norm_and_bias, rates, decays)
    return torch.optim.Adam(groups, lr=lr, betas=(beta1, beta2), eps=epsilon)


def constant(*, steps_per_epoch: int, total_steps: int, warmup_epochs: NotNegative = 0.0) -> Factor:
    """Keeps the learning rate.

    Args:
        steps_per_epoch: given by the training.
        total_steps: given by the training.
        warmup_epochs: rise in a straight line before.
    """
    del total_steps
    warmup = warmup_epochs * steps_per_epoch
    return lambda step: _warm_up(step, warmup)


def cosine(
    *,
    steps_per_epoch: int,
    total_steps: int,
    warmup_epochs: NotNegative = 0.0,
    final: Share = 0.0,
) -> Factor:
    """Lets the learning rate fall along half a cosine, step by step, until the last one.

    Args:
        steps_per_epoch: given by the training.
        total_steps: given by the training.
        warmup_epochs: rise in a straight line before.
        final: where it ends, as a share of the learning rate.

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts.
    """
    warmup = min(warmup_epochs * steps_per_epoch, float(total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return _warm_up(step, warmup)
        return _half_cosine(1.0, final, (step - warmup) / max(total_steps - warmup, 1))

    return factor


def step(
    *,
    steps_per_epoch: int,
    total_steps: int,
    every: Annotated[int, Field(gt=0)] | None = None,
    milestones: list[int] | None = None,
    factor: Positive = 0.1,
    warmup_epochs: NotNegative = 0.0,
) -> Factor:
    """Multiplies the learning rate by `factor` at the end of some epochs.

    Args:
        steps_per_epoch: given by the training.
        total_steps: given by the training.
        every: after every so many epochs; C3D divides by 10 every 4.
        milestones: or after these numbers of epochs.
        factor: 0.1 in nearly all video papers.
        warmup_epochs: rise in a straight line before.

    Raises:
        ConfigError: unless exactly one of `every` and `milestones` is given.
    """
    del total_steps
    if (every is None) == (milestones is None):
        raise ConfigError(
            "The schedule `step` needs either `every: 4` or `milestones: [10, 20]`, in epochs.",
            code="step_schedule",
        )
    warmup = warmup_epochs * steps_per_epoch

    def scale(at: int) -> float:
        epoch = at // steps_per_epoch
        falls = epoch // every if every else sum(epoch >= m for m in milestones or ())
        return float(_warm_up(at, warmup) * factor**falls)

    return scale


def one_cycle(
    *,
    steps_per_epoch: int,
    total_steps: int,
    rise: Share = 0.3,
    start: Share = 0.04,
    final: Share = 4e-6,
) -> Factor:
    """Lets the learning rate rise to its full height and then fall far below the start.

    Only the learning rate moves, not the momentum. The numbers are those of torch's OneCycleLR.

    Args:
        steps_per_epoch: given by the training.
        total_steps: given by the training.
        rise: share of all steps until the full learning rate.
        start: where it begins, as a share of the learning rate (1 / 25).
        final: where it ends, as a share of the learning rate (1 / 25 / 10,000).

    References:
        Smith and Topin, Super-Convergence, 2019, section 4.
    """
    del steps_per_epoch
    top = rise * total_steps

    def factor(at: int) -> float:
        if at < top:
            return _half_cosine(start, 1.0, at / top)
        return _half_cosine(1.0, final, (at - top) / max(total_steps - top, 1))

    return factor


def plateau(
    *,
    steps_per_epoch: int,
    total_steps: int,
    watch: Watch | None,
    patience: Annotated[int, Field(ge=1)] = 10,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    warmup_epochs: NotNegative = 0.0,
) -> Factor:
    """Multiplies the learning rate by `factor` whenever validation has brought nothing better.

    What counts is `train.monitor`. The rate is computed from the epochs before the step, so it is
    the same after an interruption; it falls with the second step of an epoch, because validation
    comes after the rate of the first one was set.

    Args:
        steps_per_epoch: given by the training.
        total_steps: given by the training.
        watch: given by the training; None without validation.
        patience: epochs without a better one; 10 is torch's default.
        factor: 0.1 in nearly all video papers.
        warmup_epochs: rise in a straight line before.

    Raises:
        ConfigError: without validation.

    References:
        Diba, Fayyaz et al., arXiv 1711.08200, section 4.2, divide by 10 on a plateau.
    """
    del total_steps
    if watch is None:
        raise ConfigError(
            "The schedule `plateau` follows the validation, and there is no validation set. Take "
            "`step` with milestones, or let the splits have validation cases.",
            code="no_validation",
        )
    warmup = warmup_epochs * steps_per_epoch
    return lambda at: float(_warm_up(at, warmup) * factor ** _count_falls(watch(at), patience))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adamw": adamw,
    "adam": adam,
}

SCHEDULES: dict[str, Callable[..., Factor]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
    "one_cycle": one_cycle,
    "plateau": plateau,
}


def build_optimizer(spec: Spec, model: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimizer that a config names, over the trainable parameters of `model`."""
    return build(OPTIMIZERS, spec, "optimizer", model=model)


def check_optimizer(spec: Spec) -> None:
    """Checks a config's optimizer without a model: all but which parameters its patterns fit.

    Raises:
        ConfigError: for an unknown name or option, or a value that cannot be meant.
    """
    options = fill_options(OPTIMIZERS, spec, "optimizer", given=("model",))
    build_optimizer({**options, "rates": None, "decays": None}, nn.Linear(1, 1))


def build_schedule(
    spec: Spec,
    optimizer: torch.optim.Optimizer,
    *,
    steps_per_epoch: int,
    total_steps: int,
    watch: Watch | None = None,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Builds the schedule that a config names; it is to be stepped after every optimizer step."""
    factor = build(
        SCHEDULES,
        spec,
        "schedule",
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        watch=watch,
    )
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def split_parameters(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    decay_norm_and_bias: bool,
    rates: Factors | None = None,
    decays: Factors | None = None,
) -> list[dict[str, Any]]:
    """Returns parameter groups: those that decay, the biases and norms that do not, and others.

    Biases and the scales of norms are the parameters with one axis or none. Pulling them to zero
    does not make a network simpler (Loshchilov's argument is about weights), so they are left out.
    A parameter that a pattern of `decays` names has that share of the weight decay, whatever it is.

    Raises:
        ConfigError: when a pattern fits no parameter.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for option, patterns in (("rates", rates), ("decays", decays)):
        _refuse_unknown(option, patterns or {}, [name for name, _ in model.named_parameters()])
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    plain = (1.0, 1.0)  # first, because history.csv tells the learning rate of the first group
    groups[plain] = []
    for name, parameter in named:
        own = 1.0 if decay_norm_and_bias or weight_decay == 0 or parameter.ndim > 1 else 0.0
        factors = (_find_factor(rates, name, 1.0), _find_factor(decays, name, own))
        groups.setdefault(factors, []).append(parameter)
    return [
        {"params": part, "lr": lr * rate, "weight_decay": weight_decay * decay}
        for (rate, decay), part in groups.items()
        if part
    ]


def _find_factor(factors: Factors | None, name: str, default: float) -> float:
    fitting = (factor for pattern, factor in (factors or {}).items() if fnmatchcase(name, pattern))
    return next(fitting, default)


def _refuse_unknown(option: str, patterns: Factors, names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"`train.optimizer.{option}` names `{pattern}`, which no parameter fits."
                f"{suggest(pattern, names)} There are {', '.join(list_parts(names))}.",
                code="optimizer_unknown",
            )


def _count_falls(values: Sequence[float], patience: int) -> int:
    """Returns how often `patience` epochs in a row brought nothing better."""
    best, waited, falls = -math.inf, 0, 0
    for value in values:
        waited = 0 if value > best else waited + 1
        best = max(best, value) if value == value else best  # NaN is no better than anything
        if waited == patience:
            waited, falls = 0, falls + 1
    return falls


def _warm_up(step: int, warmup: float) -> float:
    return min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0


def _half_cosine(begin: float, end: float, progress: float) -> float:
    return end + (begin - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
