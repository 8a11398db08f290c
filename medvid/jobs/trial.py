"""A few steps of training, timed: what `check` promises of the hours to come."""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from medvid.contract import DataError
from medvid.jobs.clip_shape import ClipShape
from medvid.jobs.survey import GIGABYTE, Findings
from medvid.train.forward import compute_losses
from medvid.train.predict import choose_device, move_batch

TIMED_STEPS = 3
"""Steps that are timed after a first one, which allocates memory and is slower."""

CASES_SHOWN = 3
"""Cases named in a message."""


def describe_network(network: nn.Module, shape: ClipShape, findings: Findings) -> None:
    """Adds the network's name, its parameters and the size of its clips."""
    parameters = sum(weight.numel() for weight in network.parameters())
    findings.add(
        "model",
        f"{type(network).__name__}, {parameters:,} parameters, clips "
        f"{shape.channels} x {' x '.join(map(str, shape.size))}",
    )


def describe_steps(
    network: nn.Module,
    loader: DataLoader[dict[str, Any]],
    criterion: nn.Module,
    *,
    multilabel: bool,
    epochs: int,
    folds: int,
    findings: Findings,
) -> None:
    """Trains a few batches forward and backward, and adds the loss, the time and the memory.

    Raises:
        DataError: when a loss is not finite; names cases of its batch.
    """
    device = choose_device("auto")
    network.to(device).train()
    loss, seconds = time_steps(network, loader, criterion.to(device), device, multilabel)
    findings.add("first step", f"loss {loss:.3f}, forward and backward on {device}")
    step = min(seconds[1:] or seconds)
    total = step * len(loader) * epochs * folds
    findings.add(
        "time",
        f"about {total / 60:.0f} minutes: {step * 1000:.0f} ms a step, {len(loader)} steps an "
        f"epoch, {epochs} epochs, {folds} folds (validation not counted)",
    )
    findings.add("memory", _describe_memory(device))


def time_steps(
    network: nn.Module,
    loader: Iterable[Any],
    criterion: nn.Module,
    device: torch.device,
    multilabel: bool,
) -> tuple[float, list[float]]:
    """Returns the loss of the first batch, and what each of some batches took in seconds.

    Raises:
        DataError: when a loss is not finite; names cases of its batch.
    """
    losses: list[float] = []
    seconds: list[float] = []
    started = time.perf_counter()
    for batch in loader:
        parts = compute_losses(network, move_batch(batch, device), criterion, multilabel=multilabel)
        loss = torch.stack(list(parts.values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())  # waits for the device, so the time is that of the whole step
        if not math.isfinite(losses[-1]):
            raise _refuse_loss(losses[-1], batch["case_id"])
        now = time.perf_counter()
        seconds.append(now - started)
        started = now
        if len(seconds) > TIMED_STEPS:
            break
    return losses[0], seconds


def _refuse_loss(loss: float, cases: Sequence[str]) -> DataError:
    shown = ", ".join(cases[:CASES_SHOWN]) + (", ..." if len(cases) > CASES_SHOWN else "")
    return DataError(
        f"The loss is {loss} before anything was learned, on the cases {shown}, so training would "
        "not learn. Look for values in them that no scan has, and bring values near 0 and 1 with "
        "a transform such as `window` or `scale`; a lower learning rate cannot mend this.",
        code="loss_not_finite",
    )


def _describe_memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / GIGABYTE:.1f} GB on the GPU at most"
    try:
        import resource
    except ImportError:  # Windows has no such module
        return "not measured on this system"
    # Linux counts in kilobytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"{peak / GIGABYTE:.1f} GB at most so far"
