"""`scan_tree`: a row for everything, a reason for what cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from medvid.contract import DataError
from medvid.io import open_stack
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series, write_nifti
from medvid.io.write_video import write_video


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    volume = np.zeros((6, 8, 9), np.int16)
    root = tmp_path / "export"
    write_dicom_series(root / "a/1", volume, spacing=(5.0, 1.0, 1.0), patient_id="SECRET-1")
    write_dicom_series(root / "a/2", volume, spacing=(3.0, 1.0, 1.0), patient_id="SECRET-1")
    write_nifti(root / "v.nii.gz", volume, spacing=(2.0, 1.0, 1.0))
    write_video(root / "v.avi", np.zeros((10, 32, 32, 3), np.uint8))
    (root / "text.dcm").write_text("no DICOM", encoding="utf-8")
    (root / "empty.dcm").touch()
    (root / "cut.nii.gz").write_bytes((root / "v.nii.gz").read_bytes()[:40])
    (root / "labels.csv").write_text("a,b", encoding="utf-8")
    return root


def test_everything_has_a_row(tree: Path) -> None:
    rows = {(Path(row.path).name, row.verdict) for row in scan_tree(tree)}
    assert rows == {
        ("1", "ok"),
        ("2", "ok"),
        ("v.nii.gz", "ok"),
        ("v.avi", "ok"),
        ("text.dcm", "refused"),
        ("empty.dcm", "refused"),
        ("cut.nii.gz", "refused"),
        ("export", "ignored"),
    }


def test_an_ok_row_opens_as_it_says(tree: Path) -> None:
    usable = [row for row in scan_tree(tree) if row.verdict == "ok"]
    assert len(usable) == 4
    for row in usable:
        stack = open_stack(row.path, series=row.series or None)
        assert (stack.num_frames, stack.height, stack.width) == (row.frames, row.height, row.width)
        assert stack.spacing == pytest.approx((row.spacing_t, row.spacing_h, row.spacing_w))


def test_refused_rows_have_a_code_a_sentence_and_files(tree: Path) -> None:
    refused = [row for row in scan_tree(tree) if row.verdict == "refused"]
    assert refused
    assert all(row.code and row.reason.endswith(".") and row.files for row in refused)


def test_one_patient_has_one_token_and_no_name(tree: Path) -> None:
    rows = [row for row in scan_tree(tree) if row.kind == "dicom"]
    assert len({row.patient_id for row in rows}) == 1
    assert "SECRET" not in str(rows)


def test_pixels_find_what_headers_do_not(tree: Path) -> None:
    volume = np.zeros((3, 4, 5), np.float32)
    volume[1, 1, 1] = np.nan
    np.save(tree / "nan.npy", volume)
    codes = {
        pixels: {row.code for row in scan_tree(tree, pixels=pixels)} for pixels in (False, True)
    }
    assert "nan_voxels" in codes[True] - codes[False]


def test_progress_counts_every_file(tree: Path) -> None:
    told: list[tuple[int, int]] = []
    scan_tree(tree, progress=lambda done, total: told.append((done, total)))
    files = sum(path.is_file() for path in tree.rglob("*"))
    assert told[-1] == (files, files)


def test_nothing_at_all_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        scan_tree(tmp_path / "nowhere")
