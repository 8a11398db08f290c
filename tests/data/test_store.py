"""The store: same voxels, small types, whole or absent, safe among processes."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medvid.contract import ConfigError, DataError, Record
from medvid.data import entries
from medvid.data import store as store_module
from medvid.data.fingerprint import fingerprint
from medvid.data.store import Store
from medvid.io.write import write_nifti


def record_of(path: Path, name: str = "c") -> Record:
    return Record(name, name, str(path), label="a")


def save(path: Path, array: NDArray[Any]) -> Record:
    np.save(path, array)
    return record_of(path)


def test_stored_voxels_are_the_read_ones(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-1000, 2000, (5, 6, 7)).astype(np.int16)
    record = save(tmp_path / "v.npy", volume)
    stack = Store(tmp_path / "store").open(record)
    np.testing.assert_array_equal(stack.read()[0], volume)
    np.testing.assert_array_equal(stack.read([4, 0, 0])[0], volume[[4, 0, 0]])
    np.testing.assert_array_equal(
        stack.read([1], slice(2, 5), slice(0, 3))[0], volume[1:2, 2:5, :3]
    )
    assert stack.dtype == np.int16


def test_geometry_survives_the_store(tmp_path: Path) -> None:
    volume = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    write_nifti(tmp_path / "v.nii.gz", volume, spacing=(5.0, 0.7, 0.8), origin=(1.0, 2.0, 3.0))
    stack = Store(tmp_path / "store").open(record_of(tmp_path / "v.nii.gz"))
    assert stack.spacing == pytest.approx((5.0, 0.7, 0.8))
    np.testing.assert_allclose(stack.positions, [3, 8, 13, 18], atol=1e-4)
    assert stack.locate((1.0 + 2 * 0.8, 2.0 + 0.7, 8.0)) == pytest.approx((1, 1, 2), abs=1e-4)


def test_the_second_opening_reads_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = save(tmp_path / "v.npy", np.zeros((2, 3, 4), np.int16))
    Store(tmp_path / "store").open(record)
    monkeypatch.setattr(store_module, "open_stack", lambda *_, **__: pytest.fail("read again"))
    assert Store(tmp_path / "store").open(record).num_frames == 2


def test_what_lies_beside_the_slices_makes_no_other_scan_of_them(tmp_path: Path) -> None:
    (tmp_path / "0001.dcm").write_bytes(b"x")
    before = fingerprint(tmp_path)
    (tmp_path / "manifest.csv").write_text("case_id\n")
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "figure.png").write_bytes(b"y")
    (tmp_path / "medvid_store").mkdir()
    (tmp_path / "medvid_store" / "a.raw").write_bytes(b"z")
    assert fingerprint(tmp_path) == before
    (tmp_path / "0002.dcm").symlink_to(tmp_path / "nowhere")
    assert fingerprint(tmp_path) != before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [cut, Path.unlink])
@pytest.mark.parametrize("ending", [".raw", ".json"])
def test_a_damaged_entry_is_made_anew(tmp_path: Path, ending: str, damage: Any) -> None:
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    record = save(tmp_path / "v.npy", volume)
    sidecar = Store(tmp_path / "store").prepare(record)
    damage(sidecar.with_suffix(ending))
    np.testing.assert_array_equal(Store(tmp_path / "store").open(record).read()[0], volume)


def test_a_wrong_option_is_not_the_fault_of_a_case(tmp_path: Path) -> None:
    record = save(tmp_path / "v.npy", np.zeros((2, 3, 4), np.int16))
    store = Store(tmp_path / "store", spacing=(-1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="mm above 0"):
        store.prepare_all([record])


def test_a_changed_file_or_option_gets_an_entry_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    store = Store(tmp_path / "store")
    first = store.prepare(save(path, np.zeros((2, 3, 4), np.int16)))
    changed = Store(tmp_path / "store").prepare(save(path, np.ones((3, 3, 4), np.int16)))
    resized = Store(tmp_path / "store", size=(6, 6)).prepare(record_of(path))
    assert len({first, changed, resized}) == 3


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([[[0.0, 7.0, -3.0]]], np.float32), np.int16),  # whole numbers
        (np.linspace(0, 1, 4000, dtype=np.float32).reshape(1, 40, 100), np.int16),
        (np.array([[[0, 40000]]], np.int32), np.float32),  # too few levels would be left
        (np.array([[[0, 200]]], np.uint8), np.uint8),
    ],
)
def test_voxels_are_kept_small(tmp_path: Path, values: NDArray[Any], dtype: type[Any]) -> None:
    stack, prepared = Store(tmp_path / "store").open_prepared(save(tmp_path / "v.npy", values))
    assert stack.dtype == dtype or values.dtype == np.int32
    native = stack.read()[0] * prepared.slope[0] + prepared.intercept[0]
    step = float(np.ptp(values.astype(np.float64))) / 65535
    np.testing.assert_allclose(native, values, atol=step)


def test_a_heavy_tailed_volume_keeps_its_precision(tmp_path: Path) -> None:
    body = np.random.default_rng(0).normal(1000, 100, (1, 50, 50)).astype(np.float32)
    body[0, 0, 0] = 1.7e6  # one spike, as in a real MR set
    stack, prepared = Store(tmp_path / "store").open_prepared(save(tmp_path / "v.npy", body))
    native = stack.read()[0] * prepared.slope[0] + prepared.intercept[0]
    np.testing.assert_allclose(native, body, rtol=1e-6)


def test_nan_voxels_are_refused_with_their_number(tmp_path: Path) -> None:
    volume = np.zeros((2, 3, 4), np.float32)
    volume[0, 0, :2] = np.nan
    record = save(tmp_path / "broken.npy", volume)
    with pytest.raises(DataError, match=r"broken.npy holds 2 voxels that are NaN") as caught:
        Store(tmp_path / "store").open(record)
    assert caught.value.code == "nan_voxels"
    assert not list((tmp_path / "store").rglob("*.json"))


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = save(tmp_path / "v.npy", np.zeros((2, 3, 4), np.int16))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(entries, "_reserve", full)
    with pytest.raises(DataError, match=r"disk is full.*data\.store=FOLDER") as caught:
        Store(tmp_path / "store").open(record)
    assert caught.value.exit_code == 3
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []
    monkeypatch.undo()
    assert Store(tmp_path / "store").open(record).num_frames == 2


def test_a_full_disk_ends_the_preparation_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [save(tmp_path / f"{k}.npy", np.zeros((2, 3, 4), np.int16)) for k in range(3)]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(entries, "_reserve", full)
    with pytest.raises(DataError, match="disk is full"):
        Store(tmp_path / "store").prepare_all(records)


def test_unreadable_cases_are_listed_with_their_reason(tmp_path: Path) -> None:
    good = save(tmp_path / "good.npy", np.zeros((2, 3, 4), np.int16))
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    bad, gone = record_of(tmp_path / "bad.npy", "bad"), record_of(tmp_path / "gone.npy", "gone")
    refused = Store(tmp_path / "store").prepare_all([bad, good, gone])
    assert [record.case_id for record, _ in refused] == ["bad", "gone"]
    assert "bad.npy" in refused[0][1].message
    assert refused[1][1].code == "missing_file"


def test_two_processes_may_build_the_same_entry(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 99, (40, 64, 64)).astype(np.int16)
    record = save(tmp_path / "v.npy", volume)
    code = (
        "import sys; from pathlib import Path; from medvid.contract import Record;"
        "from medvid.data.store import Store;"
        "record = Record('c', 'c', sys.argv[1]);"
        "print(Store(Path(sys.argv[2])).open(record).read().sum())"
    )
    command = [sys.executable, "-c", code, record.path, str(tmp_path / "store")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=120)[0].strip() for process in running}
    assert answers == {str(volume.sum())}
    assert not list((tmp_path / "store").rglob("*.part"))


def test_identical_pixels_have_the_same_hash_under_any_name(tmp_path: Path) -> None:
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    store = Store(tmp_path / "store")
    one = store.open_prepared(save(tmp_path / "one.npy", volume))[1].pixels
    two = store.open_prepared(save(tmp_path / "two.npy", volume))[1].pixels
    other = store.open_prepared(save(tmp_path / "three.npy", volume + 1))[1].pixels
    assert one == two != other


def test_no_path_and_no_name_is_in_the_store(tmp_path: Path) -> None:
    write_nifti(
        tmp_path / "Mueller_Anna.nii.gz", np.zeros((3, 4, 5), np.int16), spacing=(1.0, 1.0, 1.0)
    )
    sidecar = Store(tmp_path / "store").prepare(record_of(tmp_path / "Mueller_Anna.nii.gz"))
    assert "Mueller" not in sidecar.read_text(encoding="utf-8")
    assert json.loads(sidecar.read_text(encoding="utf-8"))["shape"] == [1, 3, 4, 5]


def test_resampling_keeps_extent_and_mean(tmp_path: Path) -> None:
    t, h, w = np.meshgrid(np.arange(8), np.arange(20), np.arange(20), indexing="ij")
    volume = (10 * t + 2 * h + w).astype(np.int16)
    write_nifti(tmp_path / "v.nii.gz", volume, spacing=(2.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))
    record = record_of(tmp_path / "v.nii.gz")
    stack = Store(tmp_path / "store", spacing=(4.0, 2.0, 2.0)).open(record)
    assert (stack.num_frames, stack.height, stack.width) == (4, 10, 10)
    assert stack.spacing == pytest.approx((4.0, 2.0, 2.0))
    np.testing.assert_allclose(stack.positions, [1, 5, 9, 13], atol=1e-4)
    inner = stack.read()[0, 1:-1, 1:-1, 1:-1].astype(float)
    centre = np.array(stack.affine)[:3, 3]  # of voxel 0, in mm: x along w, y along h, z along t
    np.testing.assert_allclose(centre, [0.5, 0.5, 1.0], atol=1e-4)
    want = (
        5 * (1 + 4 * np.arange(4))[1:-1, None, None]
        + 2 * (0.5 + 2 * np.arange(10))[None, 1:-1, None]
        + (0.5 + 2 * np.arange(10))[None, None, 1:-1]
    )
    np.testing.assert_allclose(inner, want, atol=1.0)


def test_a_spacing_in_mm_is_refused_for_frames_without_mm(tmp_path: Path) -> None:
    from medvid.io.write_video import write_video

    write_video(tmp_path / "v.avi", np.zeros((8, 32, 32, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"Use `data.size"):
        Store(tmp_path / "store", spacing=(1.0, 1.0, 1.0)).open(record_of(tmp_path / "v.avi"))
    stack = Store(tmp_path / "store", size=(16, 20)).open(record_of(tmp_path / "v.avi"))
    assert (stack.height, stack.width, stack.channels) == (16, 20, 3)
    assert stack.dtype == np.uint8
