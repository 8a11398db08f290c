"""A scan in several processes finds what one process finds, and outlives a reader that crashes."""

import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import medvid.io.scan as scan_module
from medvid.io.scan import scan_tree
from medvid.io.scan_pool import start_pool
from medvid.io.write import write_dicom_series, write_nifti
from medvid.io.write_video import write_video


def test_several_processes_find_what_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = np.zeros((6, 8, 9), np.int16)
    for number in range(3):
        write_dicom_series(tmp_path / f"s{number}", volume, spacing=(5.0, 1.0, 1.0))
    (tmp_path / "s1/IM_0003.dcm").unlink()
    write_nifti(tmp_path / "v.nii.gz", volume, spacing=(2.0, 1.0, 1.0))
    write_video(tmp_path / "v.avi", np.zeros((10, 32, 32, 3), np.uint8))
    (tmp_path / "text.dcm").write_text("no DICOM", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    monkeypatch.setattr(scan_module, "PARALLEL_FROM", 1)
    monkeypatch.setattr(scan_module, "CHUNK", 4)
    told: list[tuple[int, int]] = []
    for pixels in (False, True):
        alone = scan_tree(tmp_path, pixels=pixels)
        together = scan_tree(
            tmp_path, pixels=pixels, workers=2, progress=lambda *done: told.append(done)
        )
        assert together == alone
    assert len(alone) == 7
    assert told[-1] == (21, 21)


def describe(number: int) -> str:
    return f"crashed on {number}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal 0")
def test_a_process_that_dies_takes_only_its_own_task_along() -> None:
    deadly = int(signal.SIGKILL)
    tasks = [0] * 5 + [deadly] + [0] * 5
    with start_pool(2) as pool:
        results = list(pool(signal.raise_signal, tasks, describe))
        again = list(pool(abs, [-3, -4], abs))
    assert sorted(task for task, _ in results) == sorted(tasks)
    assert [result for task, result in results if task] == [f"crashed on {deadly}"]
    assert sorted(again) == [(-4, 4), (-3, 3)]


def test_headers_that_say_the_same_share_it(tmp_path: Path) -> None:
    from medvid.io.dicom import read_headers

    write_dicom_series(tmp_path / "ct", np.zeros((6, 8, 9), np.int16), spacing=(5.0, 1.0, 1.0))
    headers, _ = read_headers(sorted((tmp_path / "ct").iterdir()))
    for name in ("uid", "orientation", "splitting", "image_type", "patient"):
        assert len({id(getattr(header, name)) for header in headers}) == 1
    assert len({header.instance for header in headers}) == 6
    assert "2.25" not in repr(headers)  # no UID in what a debugger or a log prints
