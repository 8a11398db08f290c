"""Does it pay to start a 3D network from a 2D one? Real nodules, few to all patients.

Run: python benchmarks/table_inflation.py --manifest MANIFEST    (about half an hour on 2 cores)

Three trainings for each share of the training patients: the 2D twin slice by slice, the 3D network
from it, and the 3D network from random weights, once for the same 3D epochs and once for as many
epochs as twin and 3D network had together. Five folds grouped by patient, the same ones for all;
the twin of a fold has seen that fold's training patients only. Paired differences of AUC by
patient-cluster bootstrap. Replaces the table in docs/tutorials/inflation.md.
"""

import argparse
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from results import describe_conditions

from medvid.config import Config, merge, read_config
from medvid.evaluate import compare_predictions, evaluate_predictions, read_predictions
from medvid.jobs.train import train

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorials" / "inflation.md"
SHARES = (0.25, 0.5, 1.0)
EPOCHS = 10
RATE = 2e-3
BEGIN, END = "<!-- nodules -->", "<!-- end of nodules -->"


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
            "epochs": EPOCHS,
            "select": "last",
        },
        "evaluate": {"resamples": 200},
    }
    return merge(config, own)


def train_arm(folder: Path, config: Config) -> Path:
    """Trains unless it was done before; returns the run folder."""
    done = folder / "run.txt"
    if not done.exists():
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(str(train(config, runs=folder).path), encoding="utf-8")
    return Path(done.read_text(encoding="utf-8"))


def train_share(model: str, manifest: Path, work: Path, share: float, seed: int) -> dict[str, Path]:
    """Trains all arms of one share; returns the run folders."""
    torch.set_num_threads(1)
    folder = work / f"{model}-{share}-{seed}"
    config = make_config(model, manifest, work / "store", share, seed)
    twin = train_arm(folder / "twin", merge(config, {"name": "twin", "model": {"planar": True}}))
    arms: dict[str, Config] = {
        "inflated": {"name": "inflated", "init": {"from": str(twin)}},
        "random": {"name": "random"},
        "random, twice the epochs": {"name": "random-long", "train": {"epochs": 2 * EPOCHS}},
    }
    runs = {
        name: train_arm(folder / options["name"], merge(config, options))
        for name, options in arms.items()
    }
    print(f"{model}, {share:.0%} of the patients, seed {seed}: done", flush=True)
    return {"twin": twin, **runs}


def describe_share(share: float, runs: dict[str, Path]) -> list[str]:
    """Returns the row of a share."""
    tables = {name: read_predictions(run / "predictions_oof.csv") for name, run in runs.items()}

    def say(name: str) -> str:
        auc = evaluate_predictions(tables[name])["metrics"]["auc"]
        return f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"

    def gain(name: str) -> str:
        found = compare_predictions(tables["inflated"], tables[name])["metrics"]["auc"]
        return f"{found['difference']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"

    return [
        f"{share:.0%}",
        *map(say, ("twin", "random", "random, twice the epochs", "inflated")),
        *map(gain, ("random", "random, twice the epochs")),
    ]


def main() -> None:
    """Trains what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", default="res3d", choices=["res3d", "i3d", "densenet3d", "t3d"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("table_inflation_work"))
    given = parser.parse_args()
    work, manifest = given.work.resolve(), given.manifest.resolve()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        futures = {
            share: pool.submit(train_share, given.model, manifest, work, share, given.seed)
            for share in sorted(SHARES, reverse=True)  # the longest first
        }
        rows = [describe_share(share, futures[share].result()) for share in SHARES]
    headers = [
        "training patients",
        "2D twin",
        "3D, random",
        "3D, random, twice the epochs",
        "3D, inflated",
        "inflated minus random",
        "inflated minus random, twice the epochs",
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (headers, ["---"] * len(headers), *rows)]
    recipe = (
        f"AUC with 95 % intervals; `{given.model}_scan`, {EPOCHS} epochs each, AdamW at {RATE:g}, "
        f"seed {given.seed}. `python benchmarks/table_inflation.py`, {describe_conditions()}"
    )
    section = "\n".join([BEGIN, *lines, "", recipe, END])
    print(section)
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(pattern.sub(lambda _: section, page), encoding="utf-8")


if __name__ == "__main__":
    main()
