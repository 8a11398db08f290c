"""On real scans and clips, where they lie beside the checkout."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from medvid.io import open_stack
from medvid.io.scan import scan_tree
from medvid.sources import load_adapter

DATA = Path(__file__).parents[2] / "shared" / "data"


def find(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"shared/data/{name} is absent")
    return DATA / name


def test_a_chest_ct_is_voxel_equal_to_simpleitk_in_canonical_axes() -> None:
    folder = find("dicom_ct_chest_cptac")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    # SimpleITK's arrays run z, y, x in LPS: feet to head, front to back, right to left.
    expected = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(reader.Execute(), "LPS"))
    stack = open_stack(folder)
    np.testing.assert_array_equal(stack.read()[0], expected)
    assert stack.spacing[0] == pytest.approx(3.0)


def test_oblique_and_small_series_are_read() -> None:
    oblique = open_stack(find("dicom_mr_brain_tumor_tcia") / "11-T1post-18670")
    assert oblique.num_frames == 22
    assert oblique.spacing[0] == pytest.approx(6.5, abs=0.01)  # along the normal, not along z
    shapes = sorted(
        (row.frames, row.height, row.width)
        for row in scan_tree(find("dicom_mr_hippocrop"))
        if row.verdict == "ok"
    )
    assert [frames for frames, _, _ in shapes] == [32, 35, 40]


def test_hospital_faults_are_not_ok_and_have_their_reason() -> None:
    head = [row for row in scan_tree(find("dicom_ct_head_tilt_ge")) if row.kind == "dicom"]
    assert [(row.verdict, row.code) for row in head] == [("fixable", "uneven_steps")]
    rows = scan_tree(find("dicom_awkward_dicom2nifti"))
    codes = {row.code for row in rows if row.verdict in ("fixable", "refused")}
    assert {"missing_slices", "repeated_positions", "color"} <= codes
    copies = [row for row in rows if "compressed_" in row.path and row.kind == "dicom"]
    assert [(row.verdict, row.frames) for row in copies] == [("ok", 4)] * 4


def test_columns_of_the_nodules_that_mean_nothing_to_medvid_stay_extra() -> None:
    """`slice_mm` there is the distance of slices, and names no slice."""
    records = list(load_adapter("table").records(find("ct_lidc_nodule_vs_vessel")))
    assert {record.label for record in records} == {"nodule", "vessel"}
    assert all(record.slice_labels is None for record in records)
    assert all(record.placed_labels is None for record in records)


def test_ucf101_clips_are_counted_by_decoding() -> None:
    rows = [row for row in scan_tree(find("video_ucf101_mini")) if row.kind == "video"]
    assert len(rows) == 19
    assert all(row.verdict == "ok" for row in rows)
    assert min(row.frames for row in rows) == 88
    assert max(row.frames for row in rows) == 296
