"""Does it pay to start a 3D network from a 2D one? Real nodules, few to all patients.

Run: python benchmarks/table_inflation.py --manifest MANIFEST    (an hour on 2 cores)

Four trainings for each share of the training patients: the 2D twin, which has every slice as an
example with its patch's label; the 3D network from it; the 3D network from random weights, for the
same 3D steps; and from random weights for as many steps as twin and 3D network had together. The
number of steps is the same at every share. Five folds grouped by patient, the same ones for all;
the twin of a fold has seen that fold's training patients only. Paired differences of AUC by
patient-cluster bootstrap. Replaces the table in docs/tutorials/inflation.md.

Rates, epochs and `inflate: centre` were chosen with seed 0 at a quarter of the patients; the table
has other seeds.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from results import describe_conditions, format_table, replace_between

from medvid.config import Config, merge, read_config
from medvid.evaluate import compare_predictions, evaluate_predictions, read_predictions
from medvid.jobs.train import train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorials" / "inflation.md"
SHARES = (0.25, 0.5, 1.0)
SEEDS = (1, 2, 3, 4)
TWIN_EPOCHS, EPOCHS = 40, 10
"""At a quarter of the patients; with more patients fewer, so that the steps are as many."""
RATE = 5e-3
SLICES = {"sampler": {"name": "sliding", "frames": 1, "hop": 1, "clips": 5}}
"""All five slices of a patch, each a clip by itself; their predictions are averaged in testing."""
ARMS = ("twin", "inflated", "random", "random-long")
BEGIN, END = "<!-- nodules -->", "<!-- end of nodules -->"


def count_epochs(epochs: int, share: float) -> int:
    """Returns the epochs that have the steps of `epochs` at the smallest share."""
    return max(1, round(epochs * SHARES[0] / share))


def make_config(model: str, manifest: Path, store: Path, share: float, seed: int) -> Config:
    """Returns the config that all arms begin with."""
    config = merge(read_config("data/lidc_patches"), read_config(f"model/{model}_scan"))
    own: dict[str, Any] = {
        "seed": seed,
        "data": {
            "manifest": str(manifest),
            "store": str(store),
            "workers": 0,
            "splits": {"folds": 5, "validation": 0, "train_share": share},
        },
        "train": {
            "optimizer": {"name": "adamw", "lr": RATE, "weight_decay": 0.05},
            "schedule": "one_cycle",
            "epochs": count_epochs(EPOCHS, share),
            "select": "last",
        },
        "evaluate": {"resamples": 200},
    }
    return merge(config, own)


def change_arm(arm: str, share: float, folder: Path) -> Config:
    """Returns what an arm changes in the config."""
    if arm == "twin":
        epochs = count_epochs(TWIN_EPOCHS, share)
        return {"model": {"planar": True}, "data": SLICES, "train": {"epochs": epochs}}
    if arm == "inflated":
        twin = (folder / "twin" / "run.txt").read_text(encoding="utf-8")
        return {"init": {"from": twin, "inflate": "centre"}}
    if arm == "random-long":
        return {"train": {"epochs": count_epochs(TWIN_EPOCHS + EPOCHS, share)}}
    return {}


def train_cell(model: str, manifest: Path, work: Path, share: float, seed: int) -> dict[str, Path]:
    """Trains what is missing of one share and seed; returns the run folders."""
    torch.set_num_threads(1)
    folder = work / f"{model}-{share}-{seed}"
    config = make_config(model, manifest, work / "store", share, seed)
    runs = {}
    for arm in ARMS:
        done = folder / arm / "run.txt"
        if not done.exists():
            options = {"name": arm, **change_arm(arm, share, folder)}
            run = train(merge(config, options), runs=folder / arm)
            done.write_text(str(run.path), encoding="utf-8")
            auc = evaluate_predictions(read_predictions(run.predictions_oof))["metrics"]["auc"]
            print(f"{share:.0%}, seed {seed}, {arm}: AUC {auc['value']:.3f}", flush=True)
        runs[arm] = Path(done.read_text(encoding="utf-8"))
    return runs


def describe_share(share: float, cells: list[dict[str, Path]]) -> list[str]:
    """Returns the row of a share; its seeds are taken together."""
    tables = {
        arm: pd.concat([read_predictions(runs[arm] / "predictions_oof.csv") for runs in cells])
        for arm in ARMS
    }

    def say(arm: str) -> str:
        auc = evaluate_predictions(tables[arm])["metrics"]["auc"]
        return f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"

    def gain(arm: str) -> str:
        found = compare_predictions(tables["inflated"], tables[arm])["metrics"]["auc"]
        return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"

    arms = ("twin", "random", "inflated", "random-long")
    return [f"{share:.0%}", *map(say, arms), *map(gain, ("random", "random-long"))]


def write_table(model: str, seeds: list[int], rows: list[list[str]]) -> None:
    """Replaces the table in docs/tutorials/inflation.md."""
    headers = [
        "training patients",
        "2D twin",
        "3D, random",
        "3D, inflated",
        "3D, random, the twin's steps added",
        "inflated minus random",
        "inflated minus random, the twin's steps added",
    ]
    recipe = (
        f"AUC with 95 % intervals; `{model}_scan`, {TWIN_EPOCHS} epochs of the twin and {EPOCHS} "
        f"of the 3D network at {SHARES[0]:.0%} of the patients and as many steps at the others, "
        f"AdamW at {RATE:g}, `inflate: centre`, seeds {', '.join(map(str, seeds))}. "
        f"`python benchmarks/table_inflation.py`, {describe_conditions()}"
    )
    print(replace_between(PAGE, BEGIN, END, [*format_table(headers, rows), "", recipe]))


def main() -> None:
    """Trains what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", default="c3d")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("table_inflation_work"))
    given = parser.parse_args()
    work, manifest = given.work.resolve(), given.manifest.resolve()
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        futures = {
            (share, seed): pool.submit(train_cell, given.model, manifest, work, share, seed)
            for seed in given.seeds
            for share in SHARES
        }
        cells = {cell: future.result() for cell, future in futures.items()}
    rows = [
        describe_share(share, [runs for (one, _), runs in cells.items() if one == share])
        for share in SHARES
    ]
    write_table(given.model, given.seeds, rows)


if __name__ == "__main__":
    main()
