"""What a check sees of the data before anything is trained: labels, headers, sizes, disk space."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from medvid.contract import MedvidError, Record, Stack
from medvid.data.fingerprint import Source, name_source
from medvid.data.labels import stratum
from medvid.data.splits import Fold
from medvid.io.ordering import natural_key
from medvid.jobs.messages import show_progress
from medvid.jobs.task import TaskData

GIGABYTE = 1e9


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


def survey(data: TaskData, findings: Findings, console: Console | None) -> TaskData:
    """Opens and decodes every stack, and says what there is; refused ones are left out.

    Decoding fills the store, which training needs anyway; the disk space is told before that.

    Raises:
        DataError: for data that cannot be used, unless quarantined; names what can.
    """
    _describe_records(data, findings)
    stacks, refused = _open_headers(data, console)
    _describe_stacks(stacks, findings)
    _estimate_disk(data, stacks, findings)
    findings.refused.extend(refused)
    data = data.without(refused)
    with show_progress(console, "decoding every scan") as progress:
        data = data.prepare(progress)
    findings.refused = list(data.refused)
    return data


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
    seen: dict[Source, MedvidError | None] = {}
    kinds: set[tuple[str, str]] = set()
    with show_progress(console, "reading headers") as progress:
        for number, record in enumerate(data.records, start=1):
            source = name_source(record)
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
        stack = data.store.open_source(record)
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


def describe_folds(folds: Sequence[Fold], findings: Findings) -> None:
    """Adds how many cases the sides of the folds have."""
    sizes = "; ".join(f"{len(fold.train)}/{len(fold.val)}/{len(fold.test)}" for fold in folds[:5])
    findings.add(
        "folds", f"{len(folds)}, cases in train/val/test: {sizes}; no patient on two sides"
    )
