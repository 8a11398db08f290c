"""A tiny data set, a tiny config, and the command line called in this process."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from medvid import cli
from medvid.config import read_config
from medvid.jobs.train import train


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]

CONFIG = """\
name: tiny
data:
  manifest: manifest.csv
  sampler: {name: centered, frames: 3}
  batch_size: 8
  workers: 0
  splits: {folds: 3, validation: 0.2}
transforms:
  both:
    - {name: scale, divide_by: 100}
  train:
    - {name: flip, axes: [W]}
model: {name: slicewise, width: 4, depths: [1]}
train: {epochs: 2, optimizer: {name: adamw, lr: 1e-2}}
evaluate: {resamples: 50}
"""


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Returns a function that calls `medvid WORDS...`."""

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["medvid", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return call


def make_project(folder: Path) -> Path:
    """Writes 24 small scans of 18 patients, a manifest and a config."""
    (folder / "scans").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["case_id,patient_id,path,label"]
    for case in range(24):
        label = "bright" if case % 2 else "dark"
        volume = rng.normal(80 if case % 2 else 20, 10, (5, 16, 16)).astype(np.int16)
        np.save(folder / f"scans/case {case}.npy", volume)
        patient = case if case < 18 else case - 18
        lines.append(f"c{case},p{patient},scans/case {case}.npy,{label}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of `make_project`; the current folder."""
    folder = make_project(tmp_path / "mein Projekt ü")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a finished run in `run`, of 2 folds without validation; `bright`, the
    first class, is positive."""
    folder = make_project(tmp_path_factory.mktemp("trained") / "project")
    overrides = [
        f"data.store={folder / 'store'}",
        "data.splits={folds: 2, validation: 0}",
        "train={epochs: 2, select: last, optimizer: {name: adamw, lr: 1e-2}}",
        "evaluate={resamples: 50, positive: bright, operating_point: {sensitivity: 0.9}}",
    ]
    run = train(read_config(folder / "tiny.yaml", overrides), runs=folder / "runs")
    run.path.rename(folder / "run")
    return folder


@pytest.fixture
def finished(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `trained`; the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(trained, folder, copy_function=shutil.copy2)
    monkeypatch.chdir(folder)
    return folder
