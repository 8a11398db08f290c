"""Cases of two channels go through every verb, and errors name the channel and its file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medvid.io.write import write_nifti
from tests.jobs.conftest import Cli

CONFIG = """\
name: two
data:
  manifest: manifest.csv
  sampler: {name: centered, frames: 3}
  batch_size: 8
  workers: 0
  splits: {folds: 2, validation: 0}
transforms:
  both:
    - {name: window, windows: brain, channel: ct}
    - {name: zscore, body: all, channel: mr}
model: {name: slicewise, width: 4, depths: [1]}
train: {epochs: 1, select: last, optimizer: {name: adamw, lr: 1e-2}}
evaluate: {resamples: 50}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve patients with a CT and an MR on one grid."""
    rng = np.random.default_rng(0)
    lines = ["case_id,patient_id,path_ct,path_mr,label"]
    for case in range(12):
        for name in ("ct", "mr"):
            volume = rng.normal(40 if case % 2 else 20, 10, (5, 16, 16)).astype(np.int16)
            path = tmp_path / f"scans/{name}_{case}.nii.gz"
            write_nifti(path, volume, spacing=(5.0, 1.0, 1.0))
        lines.append(f"c{case},p{case},scans/ct_{case}.nii.gz,scans/mr_{case}.nii.gz,l{case % 2}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "two.yaml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_channels_are_checked_trained_predicted_and_tested(run_cli: Cli, project: Path) -> None:
    checked = run_cli("check", "two.yaml")
    assert checked.code == 0, checked.err
    assert "clips 2 x 3 x 16 x 16" in checked.out
    trained = run_cli("train", "two.yaml")
    assert trained.code == 0, trained.err
    (run,) = (project / "runs").iterdir()
    weights = torch.load(run / "fold_0/best.ckpt", weights_only=True)["medvid"]
    assert weights["data"]["channels"]["names"] == ["ct", "mr"]
    assert weights["clip"]["channels"] == 2

    # Columns in another order and without labels: the run knows its channels by name.
    table = pd.read_csv(project / "manifest.csv", dtype=str)
    swapped = table[["case_id", "patient_id", "path_mr", "path_ct"]]
    swapped.to_csv(project / "new.csv", index=False)
    answer = run_cli("predict", run, "new.csv")
    assert answer.code == 0, answer.err
    new = pd.read_csv("predictions.csv").set_index("case_id")["prob_l1"]
    assert run_cli("test", run, "--manifest", "manifest.csv").code == 0
    own = pd.read_csv(run / "test_manifest/predictions.csv").set_index("case_id")["prob_l1"]
    pd.testing.assert_series_equal(new.sort_index(), own.sort_index(), rtol=1e-6)

    bare = run_cli("predict", run, "scans")
    assert bare.code == 3
    assert "reads the channels ct, mr" in bare.err
    assert f"medvid predict {run} TABLE.csv" in bare.err

    (project / "scans/mr_3.nii.gz").write_bytes(b"damaged")
    resumed = run_cli("train", "--resume", run)
    assert resumed.code == 3
    assert "c3" in resumed.err
    broken = run_cli("predict", run, "new.csv")
    assert broken.code == 3
    assert "channel mr: " in broken.err
    assert "mr_3.nii.gz" in broken.err
    assert len(pd.read_csv("predictions.csv")) == 11


def test_a_channel_on_another_grid_is_quarantined_or_resampled(run_cli: Cli, project: Path) -> None:
    write_nifti(
        project / "scans/mr_4.nii.gz", np.ones((5, 8, 8), np.int16), spacing=(5.0, 2.0, 2.0)
    )
    refused = run_cli("check", "two.yaml")
    assert refused.code == 3
    for part in ("c4", "channel mr", "mr_4.nii.gz", "5 x 8 x 8 voxels against 5 x 16 x 16"):
        assert part in refused.err
    left = run_cli("check", "two.yaml", "data.on_bad=quarantine")
    assert left.code == 0
    assert "left out: c4 (other_grid)" in left.out
    assert run_cli("check", "two.yaml", "data.channels={align: resample}").code == 0


def test_one_modality_for_all_channels_is_refused(run_cli: Cli, project: Path) -> None:
    answer = run_cli("check", "two.yaml", "data.modality=CT")
    assert answer.code == 2
    assert "data.channels: {modality:" in answer.err
    right = run_cli("check", "two.yaml", "data.channels={modality: {ct: CT, mr: MR}}")
    assert right.code == 0
    assert "CT/MR" in right.out
