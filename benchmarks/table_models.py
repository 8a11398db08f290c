"""Every network on the same task with the same budget: the tables of docs/models.md.

Run: python benchmarks/table_models.py phantom                      (about half an hour on 2 cores)
     python benchmarks/table_models.py nodules --manifest MANIFEST  (the nodules of docs/tutorials)

Each network has its scan preset, the same optimizer, epochs, clips and seeds. A finished training
is kept below --work and not repeated. The rows of the networks that were asked for are replaced in
the section of the task in docs/models.md; the others stay, with the commit that they came from.
"""

import argparse
import json
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from results import describe_conditions, format_table, read_commit, replace_between

from medvid.config import Config, merge, read_config
from medvid.data.phantoms import write_phantom
from medvid.evaluate import evaluate_predictions, read_predictions
from medvid.jobs.train import train
from medvid.models import build_model, describe_model
from medvid.train.checkpoint import load_checkpoint

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"

ARMS: dict[str, dict[str, Any]] = {
    "single_frame": {"extends": "model/single_frame_scan"},
    "slicewise, centre slice": {"extends": "model/slicewise", "frames": 1},
    "slicewise": {"extends": "model/slicewise"},
    "slicewise, mean": {"extends": "model/slicewise", "model": {"pool": "mean"}},
    "late_fusion": {"extends": "model/late_fusion_scan"},
    "early_fusion": {"extends": "model/early_fusion_scan"},
    "slow_fusion": {"extends": "model/slow_fusion_scan"},
    "ji3dcnn": {"extends": "model/ji3dcnn_scan"},
    "conv_pooling": {"extends": "model/conv_pooling_scan"},
    "late_pooling": {"extends": "model/late_pooling_scan"},
    "slow_pooling": {"extends": "model/slow_pooling_scan"},
    "local_pooling": {"extends": "model/local_pooling_scan"},
    "time_conv": {"extends": "model/time_conv_scan"},
    "lstm": {"extends": "model/lstm_scan"},
    "lrcn": {"extends": "model/lrcn_scan"},
    "c3d": {"extends": "model/c3d_scan"},
    "ltc": {"extends": "model/ltc_scan"},
    "res3d": {"extends": "model/res3d_scan"},
    "res3d, factorised": {"extends": "model/res3d_scan", "model": {"factorised": True}},
    "fstcn": {"extends": "model/fstcn_scan"},
    "i3d": {"extends": "model/i3d_scan"},
    "densenet3d": {"extends": "model/densenet3d_scan"},
    "t3d": {"extends": "model/t3d_scan"},
    "actionvlad": {"extends": "model/actionvlad_scan"},
}
"""What stands in the tables: a shipped config, options over it, and frames where not the task's."""


@dataclass(frozen=True)
class Task:
    """One table.

    Args:
        title: its heading.
        config: data and transforms.
        frames: T of a clip, where an arm has no other.
        side: H and W of a clip.
        epochs: of every training.
        rate: learning rate of every training.
        seeds: one training each.
        note: what is above the table.
    """

    title: str
    config: str
    frames: int
    side: int
    epochs: int
    rate: float
    seeds: tuple[int, ...]
    note: str


TASKS = {
    "phantom": Task(
        title="The made-up nodules",
        config="data/phantom_nodule",
        frames=17,
        side=28,
        epochs=12,
        rate=2e-3,
        seeds=(0, 1, 2),
        note=(
            "`medvid phantom nodule`: patches of 28 x 28 from scans of 28 slices, clips of the 17 "
            "middle ones. Nodules and vessels look alike in the centre slice by construction, so "
            "`single_frame` has to guess. 120 scans to train on, 80 others of other patients to "
            "test; the table is the mean of three seeds."
        ),
    ),
    "nodules": Task(
        title="Real nodules against vessels",
        config="data/lidc_patches",
        frames=5,
        side=32,
        epochs=10,
        rate=5e-3,
        seeds=(0,),
        note=(
            "574 patches of 5 x 32 x 32 from 260 patients, see "
            "[the tutorial](tutorials/nodules.md); five folds grouped by patient, every patch "
            "predicted once by a network that never saw its patient. One seed, and a "
            "sixth of the tutorial's epochs: a table of networks, not of what each can reach."
        ),
    ),
}


def make_config(task: Task, arm: str, seed: int, manifest: Path, store: Path) -> Config:
    """Returns the config of one training."""
    options = ARMS[arm]
    config = merge(read_config(task.config), read_config(options["extends"]))
    config["model"] = {**config["model"], **options.get("model", {})}
    frames = options.get("frames", task.frames)
    config = merge(
        config,
        {
            "name": re.sub(r"\W+", "-", arm),
            "seed": seed,
            "data": {
                "manifest": str(manifest),
                "store": str(store),
                "workers": 0,
                "sampler": {"name": "centered", "frames": frames},
            },
            "train": {
                **config.get("train", {}),
                "optimizer": {"name": "adamw", "lr": task.rate, "weight_decay": 0.05},
                "schedule": "one_cycle",
                "epochs": task.epochs,
                "select": "last",
            },
            "evaluate": {"resamples": 200},
        },
    )
    config["data"]["splits"] = (
        {"method": "columns", "validation": 0}
        if task is TASKS["phantom"]
        else {"folds": 5, "validation": 0}
    )
    return config


def train_cell(name: str, arm: str, seed: int, manifest: Path, work: Path) -> Path:
    """Trains one arm with one seed; returns the folder of its predictions."""
    torch.set_num_threads(1)
    folder = work / name / f"{re.sub(r'[^a-z0-9]+', '-', arm)}-{seed}"
    done = folder / "run.txt"
    if not done.exists():
        config = make_config(TASKS[name], arm, seed, manifest, work / "store")
        run = train(config, runs=folder)
        (run.path.parent / "commit.txt").write_text(read_commit(), encoding="utf-8")
        done.write_text(str(run.path), encoding="utf-8")
        auc = json.loads(run.metrics.read_text(encoding="utf-8"))["metrics"]["auc"]["value"]
        print(f"{arm}, seed {seed}: AUC {auc:.3f}", flush=True)
    return Path(done.read_text(encoding="utf-8"))


def write_split_phantom(work: Path) -> Path:
    """Writes 200 scans with a column `split`: 80 of whole patients are the test."""
    folder = work / "phantom_data"
    manifest = folder / "split.csv"
    if not manifest.exists():
        table = pd.read_csv(write_phantom("nodule", folder, cases=200, format="npy", seed=1))
        patients = sorted(table["patient_id"].unique())
        sizes = table.groupby("patient_id").size()
        taken = sizes[patients].cumsum() <= 80
        test = {patient for patient in patients if taken[patient]}
        table["split"] = ["test" if p in test else "train" for p in table["patient_id"]]
        table.to_csv(manifest, index=False)
    return manifest


def describe_arm(name: str, arm: str, runs: list[Path]) -> list[str]:
    """Returns the row of an arm: AUC with interval, parameters, operations, seconds, commit."""
    task, options = TASKS[name], ARMS[arm]
    table = pd.concat([read_predictions(run / "predictions_oof.csv") for run in runs])
    auc = evaluate_predictions(table)["metrics"]["auc"]
    size = (options.get("frames", task.frames), task.side, task.side)
    config = make_config(task, arm, 0, Path(), Path())
    clip = load_checkpoint(runs[0] / "fold_0" / "best.ckpt")["medvid"]["clip"]
    with torch.device("meta"):
        model = build_model(
            config["model"],
            in_channels=1,
            num_classes=2,
            clip_size=size,
            spacing=clip["spacing"] and tuple(clip["spacing"]),
        )
    row = describe_model(model, size, 1)
    histories = [pd.read_csv(path) for run in runs for path in run.glob("fold_*/history.csv")]
    seconds = pd.concat(histories)["seconds"].median()
    interval = "" if auc["low"] is None else f" ({auc['low']:.3f} to {auc['high']:.3f})"
    return [
        f"`{arm}`",
        f"{auc['value']:.3f}{interval}",
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['flops'] / 1e9:.{2 if row['flops'] >= 1e7 else 4}f}",  # one net has 4 MFLOP
        f"{seconds:.1f}",
        row["through_plane"],
        ", ".join(sorted({(run.parent / "commit.txt").read_text("utf-8") for run in runs})),
    ]


def keep_rows(name: str, page: str, fresh: dict[str, list[str]]) -> list[list[str]]:
    """Returns fresh rows and those of the page in the order of `ARMS`; what is no arm is left."""
    section = page.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:3] == "| `"]
    kept = {row[0].strip("`"): row for row in cells}
    return [(kept | fresh)[arm] for arm in ARMS if arm in kept or arm in fresh]


def write_table(name: str, fresh: dict[str, list[str]]) -> None:
    """Replaces the rows of some arms in the section of a task in docs/models.md."""
    task = TASKS[name]
    page = PAGE.read_text(encoding="utf-8")
    rows = keep_rows(name, page, fresh)
    headers = [
        "network",
        "AUC (95 % interval)",
        "M parameters",
        "GFLOP a clip",
        "s an epoch",
        "through-plane",
        "commit",
    ]
    recipe = (
        f"{task.epochs} epochs of AdamW at {task.rate:g}, one cycle, weight decay 0.05, batches of "
        f"16, last epoch; seconds on one thread of a busy machine; each row with the commit that "
        f"trained it. `python benchmarks/table_models.py {name}`, {describe_conditions()}"
    )
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    lines = [f"## {task.title}", "", task.note, "", *format_table(headers, rows), "", recipe]
    replace_between(PAGE, begin, end, lines)


def main() -> None:
    """Trains what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--work", type=Path, default=Path("table_models_work"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    given = parser.parse_args()
    work = given.work.resolve()
    if given.task != "phantom" and given.manifest is None:
        parser.error(f"{given.task} needs --manifest")
    manifest = write_split_phantom(work) if given.task == "phantom" else given.manifest.resolve()
    cells = [(arm, seed) for seed in TASKS[given.task].seeds for arm in given.arms]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        futures = {
            (arm, seed): pool.submit(train_cell, given.task, arm, seed, manifest, work)
            for arm, seed in cells
        }
        runs = {cell: future.result() for cell, future in futures.items()}
    rows = {
        arm: describe_arm(given.task, arm, [run for (a, _), run in runs.items() if a == arm])
        for arm in given.arms
    }
    print(json.dumps(rows, indent=1))
    write_table(given.task, rows)


if __name__ == "__main__":
    main()
