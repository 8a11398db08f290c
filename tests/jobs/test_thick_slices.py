"""Scans of 5 mm slices through presets whose kernels and strides follow the spacing."""

from pathlib import Path

import numpy as np
import pytest

from medvid.io.write import write_nifti
from medvid.jobs.network import load_network
from tests.jobs.conftest import Cli

SPACING = (5.0, 0.7, 0.7)

CONFIG = """\
extends: model/{preset}
name: thick
data:
  manifest: manifest.csv
  sampler: {{name: centered, frames: 8}}
  batch_size: 4
  workers: 0
  splits: {{folds: 2, validation: 0}}
transforms:
  both:
    - {{name: scale, divide_by: 100}}
model: {{width: {width}}}
train: {{epochs: 1, max_steps: 2, select: last}}
evaluate: {{resamples: 50}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight scans of twelve slices, a constant value in each: rising in one class, else falling."""
    lines = ["case_id,patient_id,path,label"]
    for case in range(8):
        values = np.arange(12) if case % 2 else np.arange(12)[::-1]
        volume = np.broadcast_to(10 * values[:, None, None] + case, (12, 32, 32)).astype(np.int16)
        write_nifti(tmp_path / f"scans/{case}.nii.gz", volume, spacing=SPACING)
        lines.append(f"c{case},p{case},scans/{case}.nii.gz,{'rises' if case % 2 else 'falls'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("preset", "width", "depths"),
    [
        (
            "c3d_scan",
            4,
            {"trunk.convs.conv1a": 1, "trunk.convs.conv2a": 1, "trunk.convs.conv5b": 3},
        ),
        ("res3d_scan", 4, {"stem": 1, "blocks.res2a.conv1": 1, "blocks.res5b.conv2": 3}),
    ],
)
def test_a_network_is_built_trained_and_read_for_thick_slices(
    project: Path, run_cli: Cli, preset: str, width: int, depths: dict[str, int]
) -> None:
    (project / "thick.yaml").write_text(CONFIG.format(preset=preset, width=width), encoding="utf-8")
    answer = run_cli("train", "thick.yaml", "--fold", "0")
    assert answer.code == 0, answer.err
    (run,) = (project / "runs").iterdir()
    network, meta = load_network(run / "fold_0/best.ckpt")
    assert meta["clip"]["spacing"] == pytest.approx(SPACING)
    built = {name: network.get_parameter(f"{name}.weight").shape[2] for name in depths}
    assert built == depths
    answer = run_cli("predict", run, project / "scans/0.nii.gz", "-o", "out.csv")
    assert answer.code == 0, answer.err
