"""`on_gap`, `on_bad_images`, `detilt` and `select` from a config to the run and its predictions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.contract import Record
from medvid.data.store import Store
from medvid.io.write import write_dicom_series

Cli = Callable[..., Any]


@pytest.fixture
def hospital(project: Path) -> Path:
    """The project with its scans as DICOM: c0 lacks a slice, c1 has a broken one at its end."""
    for case in range(24):
        volume = np.load(project / f"scans/case {case}.npy")
        folder = project / f"dicom/case {case}"
        write_dicom_series(folder, volume, spacing=(5.0, 1.0, 1.0), patient_id=f"SECRET{case}")
    (project / "dicom/case 0/IM_0003.dcm").unlink()
    broken = project / "dicom/case 1/IM_0005.dcm"
    broken.write_bytes(broken.read_bytes()[:-40])
    text = (project / "manifest.csv").read_text(encoding="utf-8")
    mended = text.replace("scans/", "dicom/").replace(".npy", "")
    (project / "manifest.csv").write_text(mended, encoding="utf-8")
    return project


def test_a_run_records_what_was_mended_and_predicts_alike(hospital: Path, run_cli: Cli) -> None:
    refused = run_cli("train", "tiny.yaml", "train.epochs=1")
    assert refused.code == 3
    assert "`on_gap: resample`" in refused.err
    options = ["data.on_gap=resample", "data.on_bad_images=quarantine"]
    answer = run_cli("train", "tiny.yaml", "train.epochs=1", "data.store=store", *options)
    assert answer.code == 0, answer.err
    (run,) = (hospital / "runs").iterdir()
    notes = pd.read_csv(run / "notes.csv").set_index("case_id")["note"]
    assert "1 of 5 frames was interpolated" in notes["c0"]
    assert "IM_0005.dcm; on_bad: quarantine" in notes["c1"]
    assert set(notes.index) == {"c0", "c1"}
    resumed = run_cli("train", "--resume", run)
    assert resumed.code == 0, resumed.err
    predicted = run_cli("predict", run, "dicom/case 0", "dicom/case 1", "-o", "p.csv")
    assert predicted.code == 0, predicted.err
    assert len(pd.read_csv("p.csv")) == 2
    for file in [*run.rglob("*.csv"), *run.rglob("*.json"), *run.rglob("*.yaml")]:
        assert "SECRET" not in file.read_text(encoding="utf-8")


def test_a_case_that_needs_an_option_is_quarantined_with_its_reason(
    hospital: Path, run_cli: Cli
) -> None:
    answer = run_cli("train", "tiny.yaml", "train.epochs=1", "data.on_bad=quarantine")
    assert answer.code == 0, answer.err
    (run,) = (hospital / "runs").iterdir()
    refused = pd.read_csv(run / "refused.csv")
    # A broken image is left out as a broken case is, unless `on_bad_images` says otherwise.
    assert list(zip(refused["case_id"], refused["code"], strict=True)) == [("c0", "missing_slices")]
    assert "`on_gap: resample`" in refused["reason"][0]


def test_a_selection_that_cannot_be_meant_is_told_before_anything_is_read(
    hospital: Path, run_cli: Cli
) -> None:
    answer = run_cli("check", "tiny.yaml", "data.select={kernal: B30}")
    assert answer.code == 2
    assert "`select` has no key `kernal`" in answer.err


@pytest.mark.parametrize(
    "options",
    [
        {"on_gap": "keep"},
        {"on_bad": "quarantine"},
        {"detilt": True},
        {"select": {"modality": "CT"}},
        {"select": {"modality": "MR"}},
    ],
)
def test_every_option_has_an_entry_of_its_own_in_the_store(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    write_dicom_series(tmp_path / "ct", np.zeros((4, 6, 5), np.int16), spacing=(5.0, 1.0, 1.0))
    record = Record("c", "p", str(tmp_path / "ct"))
    plain, other = Store(tmp_path / "s"), Store(tmp_path / "s", **options)
    assert plain._sidecar(record) != other._sidecar(record)
    assert other._sidecar(record) == Store(tmp_path / "s", **options)._sidecar(record)


def test_scan_says_which_option_reads_a_series(hospital: Path, run_cli: Cli) -> None:
    answer = run_cli("scan", "dicom", "--workers", "1", "-o", "found.csv")
    assert answer.code == 0
    assert "22 of 24 can be used as they are." in answer.out
    assert "1 fixable: missing_slices, read with on_gap=resample" in answer.out
    assert "1 fixable: truncated, read with on_bad=quarantine" in answer.out
    assert "2 of them can be read with the options in its column `fix`" in answer.out
    assert len(pd.read_csv("found.csv")) == 22
    refused = pd.read_csv("found_refused.csv")
    assert sorted(refused["fix"]) == ["on_bad=quarantine", "on_gap=resample"]


def test_scan_as_json_has_every_column(hospital: Path, run_cli: Cli) -> None:
    answer = run_cli("scan", "dicom/case 0", "--json")
    (row,) = json.loads(answer.out)
    assert (row["verdict"], row["fix"]) == ("fixable", "on_gap=resample")
    assert row["files"] == ["IM_0002.dcm", "IM_0004.dcm"]
    assert (row["thickness"], row["modality"]) == (5.0, "CT")
