"""What a study will take, and what its number of cases allows to see, before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medvid.config import Config
from medvid.context.arms import Arm
from medvid.contract import DataError, Record
from medvid.data.labels import LabelSpace, list_labels
from medvid.data.splits import Fold
from medvid.evaluate import plan_comparison
from medvid.evaluate.measure import name_positive
from medvid.jobs.cell import lay_over
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.job import Job
from medvid.jobs.network import build_network, find_model_section
from medvid.jobs.trial import time_steps
from medvid.train.losses import build_loss
from medvid.train.predict import choose_device

MINUTE = 60

UNKNOWN = "How wide the interval of a difference will be is not foretold"

MIN_PATIENTS = 2
"""Of either class; with fewer a difference of AUCs has no variance."""


@dataclass(frozen=True)
class Plan:
    """Cells, time and the interval to expect.

    Args:
        rows: for every arm its name, what it sees, its cells and its minutes on one process.
        minutes: of the whole study, on all processes.
        jobs: processes.
        width: see `expect_width`.
        positive: the class of two that probabilities are of; None for other tasks.
    """

    rows: Sequence[Mapping[str, Any]]
    minutes: float
    jobs: int
    width: Mapping[str, Any]
    positive: str | None = None

    def tell(self) -> list[str]:
        """Returns what is said before a study begins."""
        cells = sum(row["cells"] for row in self.rows)
        return [
            f"{cells} cells in {len(self.rows)} arms, about {self.minutes:.0f} minutes on "
            f"{self.jobs} processes (testing not counted).",
            str(self.width["sentence"]),
            *([f"Positive: {self.positive} (evaluate.positive)."] if self.positive else []),
        ]

    def describe(self) -> dict[str, Any]:
        """Returns it as plain values, for plan.json."""
        return {
            "rows": [dict(row) for row in self.rows],
            "minutes": self.minutes,
            "jobs": self.jobs,
        }


def plan_study(job: Job, arms: Sequence[Arm], config: Config, jobs: int) -> Plan:
    """Times some steps of every different network, and adds up.

    Args:
        job: of the widest window, its data prepared.
        arms: of the study.
        config: of the study, resolved.
        jobs: processes.

    Raises:
        DataError: for a split that tests one class only, or when a network's first loss is no
            number.
    """
    folds = job.data.folds(job.seed)
    _refuse_one_class(job, folds)
    trainings = len(folds) * config["context"]["seeds"]
    seconds: dict[str, float] = {}
    rows = []
    for arm in arms:
        key = str(arm.changes.get("model"))
        if key not in seconds:
            seconds[key] = _time_epoch(job, lay_over(config, arm), folds[0].train)
        epochs = job.config["train"]["epochs"]
        cells = 0 if arm.same_as else trainings
        # Also of a share of the patients, which is trained for as many steps as all.
        minutes = cells * epochs * seconds[key] / MINUTE
        rows.append({"arm": arm.name, "sees": arm.says, "cells": cells, "minutes": minutes})
    total = sum(float(str(row["minutes"])) for row in rows) / max(1, jobs)
    width = expect_width(job.data.records, folds, job.data.space, config)
    positive = name_positive(
        job.data.space.classes, config["evaluate"]["positive"], multilabel=job.data.space.multilabel
    )
    return Plan(rows, total, jobs, width, positive)


def _refuse_one_class(job: Job, folds: Sequence[Fold]) -> None:
    """Stops at a split whose tested cases are all of one class: no arm would have an AUC."""
    space = job.data.space
    cases = {case for fold in folds for case in fold.test}
    labels = [
        label
        for record in job.data.records
        if record.case_id in cases
        for label in list_labels(record)
    ]
    words = {label for label in labels if isinstance(label, str)}
    # Of several findings one is enough that some cases have and others have not.
    findings = [
        {label[name] for label in labels if not isinstance(label, str) and name in label}
        for name in space.classes
    ]
    if len(words) > 1 or any(len(seen) > 1 for seen in findings):
        return
    said = f"all are `{words.pop()}`" if words else "no finding is both present and absent"
    raise DataError(
        f"Of the {len(cases)} tested cases {said}, so that no window would have an AUC. Put "
        "patients of both kinds on the test side of the manifest's column `split` or `fold`, or "
        "let medvid split anew: data.splits.method=grouped.",
        code="single_class",
        files=[job.data.options["manifest"]],
    )


def _time_epoch(job: Job, config: Config, cases: Sequence[str]) -> float:
    """Returns the seconds of an epoch on one thread of the CPU, or on the GPU."""
    data = job.data
    network = build_network(find_model_section(config), data.space, read_clip_shape(data), job.seed)
    loader = data.loader(cases, training=True, seed=job.seed)
    device = choose_device("auto")
    counts: Any = [(1, 1) if data.space.multilabel else 1] * len(data.space.classes)
    criterion = build_loss(
        job.train.get("loss"),
        num_classes=len(data.space.classes),
        multilabel=data.space.multilabel,
        class_counts=counts,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, seconds = time_steps(
            network.to(device).train(), loader, criterion.to(device), device, data.space.multilabel
        )
    finally:
        torch.set_num_threads(threads)
    return min(seconds[1:] or seconds) * len(loader)


def expect_width(
    records: Sequence[Record], folds: Sequence[Fold], space: LabelSpace, config: Config
) -> dict[str, Any]:
    """Returns the width of the interval that the tested patients allow, see `plan_comparison`.

    Where nothing can be foretold it is the `sentence` that says why, alone.

    Args:
        records: all that the folds name.
        folds: of the study; with a fixed split few patients are tested.
        space: the classes.
        config: of the study, resolved.
    """
    positive = name_positive(
        space.classes, config["evaluate"]["positive"], multilabel=space.multilabel
    )
    if positive is None:
        return {"sentence": f"{UNKNOWN}: that is done for two classes only."}
    tested = {case for fold in folds for case in fold.test}
    outcomes: dict[str, list[bool]] = {}
    for record in records:
        if record.case_id in tested and (labels := list_labels(record)):
            outcomes.setdefault(record.patient_id, []).extend(one == positive for one in labels)
    rows = [one for known in outcomes.values() for one in known]
    prevalence = sum(rows) / max(1, len(rows))
    # As if each patient had one row: so many of either class.
    count = round(prevalence * len(outcomes))
    if min(count, len(outcomes) - count) < MIN_PATIENTS:
        return {
            "sentence": f"{UNKNOWN}: at a prevalence of {prevalence:.2f} {len(outcomes)} tested "
            f"patients are {count} with `{positive}` and {len(outcomes) - count} without, and the "
            f"formula needs {MIN_PATIENTS} of either kind."
        }
    return plan_comparison(
        len(outcomes),
        prevalence,
        n_rows=len(rows),
        margin=config["context"]["margin"],
        level=config["evaluate"]["level"],
    )
