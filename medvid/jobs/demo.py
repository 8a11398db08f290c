"""`medvid demo`: two studies of slice context on made-up scans, whose answers are known.

Fresh blood in a head shows in one slice: one slice must do. A nodule is told from an artery only by
its neighbouring slices, in the middle slice the two are the same picture: one slice must not do,
nor must copies of it. Anything else would be a fault of the program, and the demo says so.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from medvid.config import read_config
from medvid.contract import ConfigError
from medvid.data.phantoms import write_phantom
from medvid.data.rendering import Size
from medvid.jobs.context import study_context
from medvid.jobs.find import scan_folder
from medvid.jobs.messages import say, show_progress

SEEDS = 1
"""Of a study; three would be nearer to a real one, and take three times as long."""


@dataclass(frozen=True)
class Known:
    """A made-up task and the answer that is known.

    Args:
        task: of `medvid phantom`.
        config: of the study.
        manifest: in the folder of the scans.
        overrides: of the config: fewer arms than a study of its own would have.
        cases: made-up scans.
        size: of a scan, (T, H, W).
        truth: what the answer must be, in words.
        holds: tells of a result whether it is.
    """

    task: str
    config: str
    manifest: str
    overrides: Sequence[str]
    cases: int
    size: Size
    truth: str
    holds: Callable[[Mapping[str, Any]], bool]


def _one_slice_does(result: Mapping[str, Any]) -> bool:
    return bool(result["answer"]["window"] == 1)


def _neighbours_are_needed(result: Mapping[str, Any]) -> bool:
    repeat = result["arms"]["repeat"]["metrics"]["auc"]
    window = result["answer"]["window"]
    # networks that score all scans alike have an AUC of 0.5 and no interval
    low, high = (repeat["value"] if repeat[end] is None else repeat[end] for end in ("low", "high"))
    return window is not None and window > 1 and low <= 0.5 <= high


KNOWN = (
    Known(
        "haemorrhage",
        "run/study_haemorrhage",
        "slices.csv",
        ("context.windows=[1, 5]", "context.controls=[repeat]"),
        100,
        (12, 32, 32),
        "one slice is enough",
        _one_slice_does,
    ),
    Known(
        "nodule",
        "run/study_nodule",
        "manifest.csv",
        ("context.controls=[repeat, permuted_labels]",),
        240,
        (28, 28, 28),
        "one slice is not enough, and copies of it are at 0.5",
        _neighbours_are_needed,
    ),
)
"""The demo's tasks, in its order."""


def run_demo(
    out: Path, *, jobs: int | None = None, console: Console | None = None
) -> dict[str, Path]:
    """Writes made-up DICOM scans and studies how much slice context their tasks need.

    Args:
        out: a new or empty folder for scans and studies.
        jobs: trainings side by side; None chooses.
        console: where progress is shown.

    Returns:
        The folder of every task's study.

    Raises:
        ConfigError: when the folder holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(
            f"{out} is not empty. Give another folder, or delete it: medvid demo NEW_FOLDER.",
            code="folder_taken",
        )
    studies, told = {}, []
    for known in KNOWN:
        folder = _study(known, out, jobs, console)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        right = "as it must be" if known.holds(result) else "WRONG: please report it"
        told.append(f"{known.task}: {result['answer']['sentence']} Known: {known.truth}; {right}.")
        studies[known.task] = folder
    for line in told:
        say(console, line)
    for folder in studies.values():
        say(console, f"Report: {folder / 'report.html'}")
    say(console, "Next: medvid scan YOUR_DICOM_FOLDER -o manifest.csv")
    return studies


def _study(known: Known, out: Path, jobs: int | None, console: Console | None) -> Path:
    data = out / known.task
    say(console, f"Made-up scans: medvid phantom {known.task} {data}")
    with show_progress(console, "writing DICOM") as progress:
        write_phantom(known.task, data, cases=known.cases, size=known.size, progress=progress)
    say(console, f"What lies there? medvid scan {data}")
    series = [row for row in scan_folder(data, console=console) if row.kind == "dicom"]
    usable = sum(row.verdict == "ok" for row in series)
    say(console, f"{usable} of {len(series)} series can be used as they are.")
    say(console, f"How much context? medvid context {known.config}")
    config = read_config(
        known.config,
        [
            f"data.manifest={data / known.manifest}",
            f"data.store={out / 'store'}",
            f"context.seeds={SEEDS}",
            *known.overrides,
        ],
    )
    return study_context(
        config, runs=out / "studies", jobs=jobs, command=["medvid", "demo"], console=console
    )
