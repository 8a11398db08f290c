"""`on_gap`, `on_bad_images`, `detilt` and `select` from a config to the run and its predictions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml
from pydicom.uid import RLELossless

import medvid.io.dicom_refusals as refusals
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


def tilt(folder: Path) -> None:
    for file in folder.iterdir():
        image = pydicom.dcmread(file)
        angle = np.radians(20.0)
        image.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]
        image.save_as(file)


def add_second_series(folder: Path) -> None:
    volume = np.zeros((3, 16, 16), np.int16)
    spacing = (8.0, 1.0, 1.0)
    write_dicom_series(folder / "thick", volume, spacing=spacing, series_uid="2.25.909")
    for file in sorted((folder / "thick").iterdir()):
        image = pydicom.dcmread(file)
        image.PatientID = "SECRET3"
        image.save_as(file)


def test_every_option_of_reading_is_recorded_in_the_run(hospital: Path, run_cli: Cli) -> None:
    tilt(hospital / "dicom/case 2")
    add_second_series(hospital / "dicom/case 3")
    answer = run_cli("train", "tiny.yaml", "train.epochs=1", "data.on_bad=quarantine")
    assert answer.code == 0, answer.err
    (left,) = (hospital / "runs").iterdir()
    refused = pd.read_csv(left / "refused.csv").set_index("case_id")
    assert refused["code"].to_dict() == {"c0": "missing_slices", "c3": "several_series"}
    assert "`select`" in refused["reason"]["c3"]
    given = {
        "on_gap": "keep",
        "on_bad_images": "quarantine",
        "detilt": True,
        "select": {"prefer": "most_slices", "plane": "axial"},
        "size": [16, 16],
    }
    words = [f"data.{name}={json.dumps(value)}" for name, value in given.items()]
    answer = run_cli("train", "tiny.yaml", "train.epochs=1", "name=options", *words)
    assert answer.code == 0, answer.err
    (run,) = (hospital / "runs").glob("options*")
    recorded = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]
    assert {name: recorded[name] for name in given} == given
    notes = pd.read_csv(run / "notes.csv").groupby("case_id")["note"].agg(" ".join)
    for case, words_of_option in (
        ("c0", "on_gap: keep"),
        ("c1", "on_bad: quarantine"),
        ("c2", "detilt: true"),
        ("c3", "by `select`"),
    ):
        assert words_of_option in notes[case]
    assert pd.read_csv(run / "refused.csv").empty


def test_check_names_the_line_that_installs_a_missing_decoder(
    hospital: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (hospital / "dicom/case 5").iterdir():
        image = pydicom.dcmread(file)
        image.compress(RLELossless, generate_instance_uid=False)
        image.save_as(file)

    class Without:
        is_available = False
        UID = RLELossless

    monkeypatch.setattr(refusals, "get_decoder", lambda _: Without())
    refusals.refuse_syntax.cache_clear()
    options = ["data.on_gap=resample", "data.on_bad_images=quarantine"]
    answer = run_cli("check", "tiny.yaml", *options)
    refusals.refuse_syntax.cache_clear()
    assert answer.code == 3
    said = " ".join(answer.err.split())
    assert "case 5" in said
    assert "is compressed (RLE Lossless), and its decoder is not installed" in said
    assert 'pip install "medvid[codecs]"' in said


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
