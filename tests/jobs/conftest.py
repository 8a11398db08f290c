"""A tiny data set, a tiny config, and the command line called in this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from medvid import cli


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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 24 small scans of 18 patients, a manifest and a config; the current one."""
    folder = tmp_path / "mein Projekt ü"
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
    monkeypatch.chdir(folder)
    return folder
