"""`medvid config`: everything that a config says and does not say, without data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medvid.config import list_configs

Cli = Callable[..., Any]

RUNS = [name for name in list_configs() if name.startswith("run/")]


def test_runs_ship() -> None:
    assert RUNS


@pytest.mark.parametrize("name", RUNS)
def test_a_config_that_ships_is_printed_without_a_manifest(run_cli: Cli, name: str) -> None:
    answer = run_cli("config", name)
    assert answer.code == 0, answer.err
    assert yaml.safe_load(answer.out)["model"]["width"] > 0


def test_all_defaults_are_printed_and_can_be_trained(project: Path, run_cli: Cli) -> None:
    answer = run_cli("config", "tiny.yaml", "train.epochs=1")
    assert answer.code == 0, answer.err
    printed = yaml.safe_load(answer.out)
    assert printed["data"]["manifest"] == str(project / "manifest.csv")
    assert printed["model"]["dropout"] is not None
    assert printed["data"]["sampler"]["stride"] == 1
    assert printed["data"]["splits"]["repeats"] == 1
    assert printed["train"]["optimizer"]["weight_decay"] >= 0
    assert printed["train"]["schedule"]["name"] == "cosine"
    assert printed["transforms"]["train"][0]["prob"] == 0.5
    (project / "printed.yaml").write_text(answer.out, encoding="utf-8")
    for name in ("tiny", "printed"):
        done = run_cli("train", f"{name}.yaml", f"name={name}", "train.epochs=1")
        assert done.code == 0, done.err
    first, second = (next((project / "runs").glob(f"{name}-*")) for name in ("tiny", "printed"))
    read = [(run / "predictions_oof.csv").read_bytes() for run in (first, second)]
    assert read[0] == read[1]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.wdith=3", "Did you mean `width`?"),
        ("model.name=c4d", "Did you mean `c3d`?"),
        ("train.epoch=2", "Did you mean `epochs`?"),
        ("train.optimizer={name: adamw, weight_decai: 1}", "Did you mean `weight_decay`?"),
        ("train.schedule=cosin", "Did you mean `cosine`?"),
        ("train.loss=focl", "Did you mean `focal`?"),
        ("transforms.train=[flipp]", "Did you mean `flip`?"),
        ("data.sampler.frame=3", "Did you mean `frames`?"),
        ("data.splits.fold=3", "Did you mean `folds`?"),
        ("evaluate.level=2", "less than 1"),
    ],
)
def test_a_typo_is_told(project: Path, run_cli: Cli, override: str, said: str) -> None:
    answer = run_cli("config", "tiny.yaml", override)
    assert answer.code == 2, answer.out
    assert said in answer.err
