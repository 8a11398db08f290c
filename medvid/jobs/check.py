"""`medvid check`: what would go wrong after an hour of training, before the first epoch."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from medvid.config import Config
from medvid.contract import DataError, MedvidError, Record, Stack
from medvid.data.labels import stratum
from medvid.data.splits import Fold
from medvid.io import open_stack
from medvid.io.ordering import natural_key
from medvid.jobs.job import Job, open_job
from medvid.jobs.messages import show_progress
from medvid.jobs.network import build_network, find_model_section
from medvid.jobs.start import find_head, plan_starts, start_network
from medvid.jobs.task import TaskData, choose_cases
from medvid.train.forward import compute_losses
from medvid.train.freeze import freeze_parameters
from medvid.train.losses import build_loss
from medvid.train.predict import choose_device, move_batch

TIMED_STEPS = 3
"""Steps that are timed after a first one, which allocates memory and is slower."""

GIGABYTE = 1e9

CASES_SHOWN = 3
"""Cases named in a message."""


@dataclass
class Findings:
    """What a check found; the first of each pair is the subject, the second what to know.

    Args:
        facts: in the order of their discovery.
        refused: cases that cannot be used, with the reason.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[Record, MedvidError]] = field(default_factory=list)

    def add(self, subject: str, text: str) -> None:
        """Adds one fact."""
        self.facts.append((subject, text))


def check(config: Config, *, console: Console | None = None) -> Findings:
    """Checks a config, every file it names, the splits, and one step forward and backward.

    Every stack is decoded into the store, which training needs anyway; the estimate of disk space
    comes before that.

    Raises:
        ConfigError: for options that cannot be meant.
        DataError: for data that cannot be used, unless quarantined; names what can.
    """
    job = open_job(config)
    findings = Findings()
    _describe_records(job.data, findings)
    stacks, refused = _open_headers(job.data, console)
    _describe_stacks(stacks, findings)
    _estimate_disk(job.data, stacks, findings)
    findings.refused.extend(refused)
    data = job.data.without(refused)
    with show_progress(console, "decoding every scan") as progress:
        data = data.prepare(progress)
    findings.refused = list(data.refused)
    _check_folds(job, data, findings)
    _try_step(job, data, findings)
    return findings


def _describe_records(data: TaskData, findings: Findings) -> None:
    records, space = data.records, data.space
    patients = len({record.patient_id for record in records})
    findings.add("cases", f"{len(records)} of {patients} patients")
    counts = Counter(stratum(record, space) for record in records)
    text = ", ".join(f"{name} {counts[name]}" for name in sorted(counts, key=natural_key))
    findings.add("labels", f"{text} (task: {data.task})")
    if data.missing:
        shown = ", ".join(data.missing[:3])
        findings.add("missing", f"{len(data.missing)} listed items are not on disk: {shown}, ...")


def _open_headers(
    data: TaskData, console: Console | None
) -> tuple[list[Stack], list[tuple[Record, MedvidError]]]:
    """Opens every stack; decodes one frame of the first of each kind, to find a missing codec."""
    stacks: list[Stack] = []
    refused: list[tuple[Record, MedvidError]] = []
    seen: dict[tuple[str, str | None], MedvidError | None] = {}
    kinds: set[tuple[str, str]] = set()
    with show_progress(console, "reading headers") as progress:
        for number, record in enumerate(data.records, start=1):
            source = (record.path, record.series)
            if source not in seen:
                seen[source] = _open_one(data, record, stacks, kinds)
            error = seen[source]
            if error is not None:
                refused.append((record, error))
            progress(number, len(data.records))
    return stacks, refused


def _open_one(
    data: TaskData, record: Record, stacks: list[Stack], kinds: set[tuple[str, str]]
) -> MedvidError | None:
    try:
        stack = open_stack(
            record.path,
            series=record.series,
            plane=data.options["plane"],
            modality=data.options["modality"],
        )
        kind = (Path(record.path).suffix, stack.modality)
        if kind not in kinds:
            stack.read([0])
            kinds.add(kind)
    except MedvidError as error:
        return error
    stacks.append(stack)
    return None


def _describe_stacks(stacks: Sequence[Stack], findings: Findings) -> None:
    if not stacks:
        return
    modalities = Counter(stack.modality for stack in stacks)
    findings.add("modality", ", ".join(f"{name} {n}" for name, n in modalities.most_common()))
    unit = stacks[0].unit
    for name, values in (
        ("frames", [stack.num_frames for stack in stacks]),
        ("height", [stack.height for stack in stacks]),
        ("width", [stack.width for stack in stacks]),
        (f"step in {unit}", [round(stack.spacing[0], 3) for stack in stacks]),
    ):
        findings.add(
            name, f"{min(values)} to {max(values)}" if len(set(values)) > 1 else f"{values[0]}"
        )
    notes = Counter(note for stack in stacks for note in stack.notes)
    for note, number in notes.most_common(5):
        findings.add("note", f"{number} stacks: {note}")


def _estimate_disk(data: TaskData, stacks: Sequence[Stack], findings: Findings) -> None:
    needed = sum(
        stack.channels
        * stack.num_frames
        * stack.height
        * stack.width
        * min(stack.dtype.itemsize, 2)
        for stack in stacks
    )
    root = data.store.root
    existing = next(
        folder for folder in (root.resolve(), *root.resolve().parents) if folder.exists()
    )
    free = shutil.disk_usage(existing).free
    findings.add(
        "disk",
        f"{needed / GIGABYTE:.2f} GB in the store at {root} (before resampling), "
        f"{free / GIGABYTE:.0f} GB free",
    )


def _check_folds(job: Job, data: TaskData, findings: Findings) -> None:
    if job.overfit:
        findings.add("folds", f"none: overfitting {job.overfit} cases")
        return
    folds = data.folds(job.seed)
    sizes = "; ".join(f"{len(fold.train)}/{len(fold.val)}/{len(fold.test)}" for fold in folds[:5])
    findings.add(
        "folds", f"{len(folds)}, cases in train/val/test: {sizes}; no patient on two sides"
    )


def _try_step(job: Job, data: TaskData, findings: Findings) -> None:
    """Trains one batch forward and backward, times it, and estimates the whole."""
    shape = data.clip_shape()
    network = build_network(find_model_section(job.config), data.space, shape, job.seed)
    parameters = sum(weight.numel() for weight in network.parameters())
    findings.add(
        "model",
        f"{type(network).__name__}, {parameters:,} parameters, clips "
        f"{shape.channels} x {' x '.join(map(str, shape.size))}",
    )
    frozen = freeze_parameters(network, job.train.get("freeze", ()))
    if frozen:
        findings.add("frozen", f"{len(frozen)} of {len(list(network.parameters()))} weights")
    folds = [] if job.overfit else data.folds(job.seed)
    cases = folds[0].train if folds else choose_cases(data.records, data.space, job.overfit)
    if job.init is not None:
        planned = folds or [Fold(0, 0, train=tuple(cases), val=(), test=tuple(cases))]
        starts = plan_starts(job.init, dict(enumerate(planned)), data.records)
        head = find_head(find_model_section(job.config), data.space, shape)
        report = start_network(network, job.init, starts[0], data.space, head)
        findings.add("start", f"fold 0 from {starts[0].name()}: {report.summarize()}")
    loader = data.loader(cases, training=True, seed=job.seed)
    device = choose_device("auto")
    network.to(device).train()
    spec = job.train.get("loss")
    counts: Any = [(1, 1) if data.space.multilabel else 1] * len(data.space.classes)
    criterion = build_loss(
        spec,
        num_classes=len(data.space.classes),
        multilabel=data.space.multilabel,
        class_counts=counts,
    ).to(device)
    loss, seconds = time_steps(network, loader, criterion, device, data.space.multilabel)
    findings.add("first step", f"loss {loss:.3f}, forward and backward on {device}")
    step = min(seconds[1:] or seconds)
    epochs = job.config["train"]["epochs"]
    total = step * len(loader) * epochs * max(1, len(folds))
    findings.add(
        "time",
        f"about {total / 60:.0f} minutes: {step * 1000:.0f} ms a step, {len(loader)} steps an "
        f"epoch, {epochs} epochs, {max(1, len(folds))} folds (validation not counted)",
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
