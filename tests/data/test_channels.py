"""Several scans as channels lie voxel upon voxel, or are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medvid.contract import Channel, ConfigError, DataError, MedvidError, Record
from medvid.data.channels import Reading, name_channels, resample_onto
from medvid.data.fingerprint import fingerprint_records
from medvid.data.manifest import write_manifest
from medvid.data.resample import resample_stack
from medvid.data.store import Store
from medvid.io import open_stack
from medvid.io.write import write_dicom_series, write_nifti
from medvid.sources import load_adapter

SPACING = (5.0, 1.0, 1.0)
SHAPE = (6, 20, 24)


def draw(seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-500, 500, SHAPE).astype(np.int16)


def ramp(
    axis: int, spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Voxels that say their own place along an axis, in tenths of a mm."""
    places = 10 * spacing[axis] * np.arange(shape[axis])
    return np.broadcast_to(places.reshape([-1 if a == axis else 1 for a in range(3)]), shape)


def record_of(folder: Path, *names: str, case: str = "c") -> Record:
    parts = tuple(Channel(name, str(folder / f"{name}.nii.gz")) for name in names)
    return Record(case, case, parts[0].path, channels=parts, label="a")


def store_of(folder: Path, *names: str, align: Any = "refuse", **options: Any) -> Store:
    return Store(folder / "store", channels=Reading(names, align), **options)


def refuse(store: Store, record: Record) -> MedvidError:
    with pytest.raises(MedvidError) as caught:
        store.open(record)
    return caught.value


def test_channels_lie_in_their_order_whatever_axes_their_files_have(tmp_path: Path) -> None:
    write_nifti(tmp_path / "t1.nii.gz", draw(1), spacing=SPACING, orientation="RAS")
    write_nifti(tmp_path / "flair.nii.gz", draw(2), spacing=SPACING, orientation="SPL")
    record = record_of(tmp_path, "t1", "flair")
    stack = store_of(tmp_path, "flair", "t1").open(record)
    assert stack.channels == 2
    assert stack.dtype == np.int16
    np.testing.assert_array_equal(stack.read(), np.stack([draw(2), draw(1)]))
    np.testing.assert_array_equal(store_of(tmp_path, "t1").open(record).read()[0], draw(1))


def test_ct_and_pet_are_both_exact(tmp_path: Path) -> None:
    pet = np.random.default_rng(0).lognormal(0, 1, SHAPE).astype(np.float32)
    pet[3, 4, 5] = 1e6  # the bladder, beside which all else would be one step of 16 bits
    write_nifti(tmp_path / "ct.nii.gz", draw(), spacing=SPACING)
    write_nifti(tmp_path / "pet.nii.gz", pet, spacing=SPACING)
    stack, prepared = store_of(tmp_path, "ct", "pet").open_prepared(
        record_of(tmp_path, "ct", "pet")
    )
    assert stack.dtype == np.float32
    assert (prepared.slope, prepared.intercept) == ((1.0, 1.0), (0.0, 0.0))
    np.testing.assert_array_equal(stack.read()[0], draw())
    np.testing.assert_array_equal(stack.read()[1], pet)


def test_an_even_float_channel_has_its_own_slope_beside_ct(tmp_path: Path) -> None:
    even = np.linspace(0, 1, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    write_nifti(tmp_path / "ct.nii.gz", draw(), spacing=SPACING)
    write_nifti(tmp_path / "map.nii.gz", even, spacing=SPACING)
    stack, prepared = store_of(tmp_path, "ct", "map").open_prepared(
        record_of(tmp_path, "ct", "map")
    )
    assert stack.dtype == np.int16
    np.testing.assert_array_equal(stack.read()[0], draw())
    native = stack.read()[1] * prepared.slope[1] + prepared.intercept[1]
    np.testing.assert_allclose(native, even, atol=1 / 65535)


def test_another_grid_is_refused_with_channel_file_and_way_out(tmp_path: Path) -> None:
    write_nifti(tmp_path / "t1.nii.gz", draw(), spacing=SPACING)
    write_nifti(tmp_path / "flair.nii.gz", draw(), spacing=SPACING, origin=(3.0, 0.0, 4.0))
    error = refuse(store_of(tmp_path, "t1", "flair"), record_of(tmp_path, "t1", "flair"))
    assert error.code == "other_grid"
    for part in ("channel flair", "flair.nii.gz", "up to 5.00 mm apart", "align: resample"):
        assert part in error.message
    write_nifti(tmp_path / "flair.nii.gz", draw()[:5], spacing=SPACING)
    error = refuse(store_of(tmp_path, "t1", "flair"), record_of(tmp_path, "t1", "flair"))
    assert "5 x 20 x 24 voxels against 6 x 20 x 24" in error.message


@pytest.mark.parametrize(("shift", "same"), [(0.09, True), (0.11, False)])
def test_a_tenth_of_a_voxel_is_one_grid(tmp_path: Path, shift: float, same: bool) -> None:
    write_nifti(tmp_path / "a.nii.gz", draw(), spacing=SPACING)
    write_nifti(tmp_path / "b.nii.gz", draw(), spacing=SPACING, origin=(0.0, shift, 0.0))
    store, record = store_of(tmp_path, "a", "b"), record_of(tmp_path, "a", "b")
    if same:
        assert store.open(record).channels == 2
    else:
        assert refuse(store, record).code == "other_grid"


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("orientation", ["RAS", "SPL", "PIR"])
def test_resampled_voxels_are_those_of_the_same_place(
    tmp_path: Path, axis: int, orientation: str
) -> None:
    write_nifti(tmp_path / "first.nii.gz", draw(), spacing=SPACING, origin=(5.0, 7.0, 10.0))
    spacing, shape = (2.0, 1.5, 1.5), (30, 24, 30)
    write_nifti(
        tmp_path / "second.nii.gz",
        ramp(axis, spacing, shape).astype(np.int16),
        spacing=spacing,
        orientation=orientation,
    )
    store = store_of(tmp_path, "first", "second", align="resample")
    stack = store.open(record_of(tmp_path, "first", "second"))
    np.testing.assert_array_equal(stack.read()[0], draw())
    start = (10.0, 7.0, 5.0)[axis]  # mm along (T, H, W) = (z, y, x)
    expected = 10 * start + ramp(axis, SPACING, SHAPE)
    # Averages over a coarser step bend a ramp at its ends alone.
    inner = (slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(stack.read()[1:][inner], expected[None][inner], atol=1)


def test_a_scan_on_the_same_grid_is_resampled_onto_itself(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", draw(), spacing=SPACING)
    stack = open_stack(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(resample_onto(stack, stack).read([4, 1]), stack.read([4, 1]))


def test_where_a_channel_does_not_reach_there_is_air(tmp_path: Path) -> None:
    write_nifti(tmp_path / "mr.nii.gz", draw(), spacing=SPACING)
    part = np.full((4, 20, 24), 300, np.int16)
    write_dicom_series(tmp_path / "ct", part, spacing=SPACING, origin=(0.0, 0.0, 10.0))
    parts = (Channel("mr", str(tmp_path / "mr.nii.gz")), Channel("ct", str(tmp_path / "ct")))
    record = Record("c", "c", parts[0].path, channels=parts)
    stack = store_of(tmp_path, "mr", "ct", align="resample").open(record)
    assert stack.read()[1, :, 0, 0].tolist() == [-1024, -1024, 300, 300, 300, 300]
    assert any("ct: resampled" in note and "covers" in note for note in stack.notes)


def write_gappy(folder: Path, lacking: int | None) -> Path:
    """Writes eight slices whose values are ten times their place in mm, and takes one out."""
    volume = ramp(0, SPACING, (8, 20, 24)).astype(np.int16)
    write_dicom_series(folder, volume, spacing=SPACING)
    if lacking is not None:
        sorted(folder.glob("*.dcm"))[lacking].unlink()
    return folder


def gappy_record(folder: Path, **lacking: int | None) -> Record:
    parts = tuple(
        Channel(name, str(write_gappy(folder / name, place))) for name, place in lacking.items()
    )
    return Record("c", "c", parts[0].path, channels=parts, label="a")


def test_channels_that_lack_other_slices_are_another_grid(tmp_path: Path) -> None:
    record = gappy_record(tmp_path, a=2, b=5)
    error = refuse(store_of(tmp_path, "a", "b", on_gap="keep"), record)
    assert (error.code, "up to 5.00 mm apart" in error.message) == ("other_grid", True)
    record = gappy_record(tmp_path / "alike", a=2, b=2)
    stack = store_of(tmp_path, "a", "b", on_gap="keep").open(record)
    np.testing.assert_array_equal(stack.read()[0], stack.read()[1])


@pytest.mark.parametrize("lacking", [(2, 5), (2, None), (None, 2), (1, 6)])
def test_kept_gaps_are_resampled_at_true_positions(
    tmp_path: Path, lacking: tuple[int | None, int | None]
) -> None:
    record = gappy_record(tmp_path, a=lacking[0], b=lacking[1])
    stack = store_of(tmp_path, "a", "b", align="resample", on_gap="keep").open(record)
    np.testing.assert_allclose(stack.read()[0, :, 0, 0], 10 * stack.positions)
    np.testing.assert_allclose(stack.read()[1], stack.read()[0])


def test_a_finer_channel_with_a_gap_is_not_averaged_across_it(tmp_path: Path) -> None:
    fine = tmp_path / "fine"
    volume = ramp(0, (1.0, 1.0, 1.0), (36, 20, 24)).astype(np.int16)
    write_dicom_series(fine, volume, spacing=(1.0, 1.0, 1.0))
    for file in sorted(fine.glob("*.dcm"))[3:9]:
        file.unlink()
    write_gappy(tmp_path / "first", None)
    parts = tuple(Channel(name, str(tmp_path / name)) for name in ("first", "fine"))
    record = Record("c", "c", parts[0].path, channels=parts, label="a")
    store = store_of(tmp_path, "first", "fine", align="resample", on_gap="keep")
    stack = store.open(record)
    np.testing.assert_allclose(stack.read()[1], stack.read()[0])


def test_a_resampled_stack_with_a_gap_finds_positions(tmp_path: Path) -> None:
    kept = open_stack(write_gappy(tmp_path / "a", 1), on_gap="keep")
    stack = resample_stack(kept, spacing=(10.0, 0.0, 0.0))
    assert stack.affine is not None
    for frame, position in enumerate(stack.positions):
        x, y = stack.affine[:2] @ [frame, 3, 4, 1]
        assert stack.locate((x, y, position)) == pytest.approx((frame, 3, 4))


def test_scans_of_other_body_parts_are_not_resampled(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", draw(), spacing=SPACING)
    write_nifti(tmp_path / "b.nii.gz", draw(), spacing=SPACING, origin=(0.0, 0.0, 20.0))
    store = store_of(tmp_path, "a", "b", align="resample")
    error = refuse(store, record_of(tmp_path, "a", "b"))
    assert error.code == "no_overlap"
    assert "channel b" in error.message


def test_arrays_without_a_place_must_have_one_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", draw())
    np.save(tmp_path / "b.npy", draw()[:, :10])
    parts = tuple(Channel(name, str(tmp_path / f"{name}.npy")) for name in "ab")
    store = store_of(tmp_path, "a", "b", align="resample")
    error = refuse(store, Record("c", "c", parts[0].path, channels=parts))
    assert "they cannot be put onto it" in error.message


def test_a_broken_channel_is_named(tmp_path: Path) -> None:
    write_nifti(tmp_path / "t1.nii.gz", draw(), spacing=SPACING)
    (tmp_path / "flair.nii.gz").write_bytes(b"no volume")
    error = refuse(store_of(tmp_path, "t1", "flair"), record_of(tmp_path, "t1", "flair"))
    assert error.message.startswith("channel flair: ")
    assert "flair.nii.gz" in error.message


def test_a_lacking_channel_is_named_with_the_columns(tmp_path: Path) -> None:
    write_nifti(tmp_path / "t1.nii.gz", draw(), spacing=SPACING)
    error = refuse(store_of(tmp_path, "t1", "t2"), record_of(tmp_path, "t1"))
    assert "no channel `t2`" in error.message
    assert "path_t1, path_t2" in error.message
    with pytest.raises(DataError, match="has the channels t1"):
        Store(tmp_path / "store").open(record_of(tmp_path, "t1"))


def test_a_changed_channel_gets_an_entry_and_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", draw(), spacing=SPACING)
    record = record_of(tmp_path, "a", "b")
    first = store_of(tmp_path, "a", "b").prepare(record)
    before = fingerprint_records([record])
    write_nifti(tmp_path / "b.nii.gz", draw(3), spacing=SPACING)
    assert store_of(tmp_path, "a", "b").prepare(record) != first
    assert fingerprint_records([record]) != before
    assert store_of(tmp_path, "b", "a").prepare(record) != store_of(tmp_path, "a", "b").prepare(
        record
    )


def test_the_manifest_brings_channels_back(tmp_path: Path) -> None:
    table = load_adapter("table")
    for name in ("t1", "flair"):
        write_nifti(tmp_path / f"{name}.nii.gz", draw(), spacing=SPACING)
    parts = (
        Channel("t1", str(tmp_path / "t1.nii.gz")),
        Channel("flair", str(tmp_path / "flair.nii.gz"), "ab12"),
    )
    record = Record("1", "p", parts[0].path, channels=parts, label="x", extra={"age": "64"})
    write_manifest(tmp_path / "manifest.csv", [record])
    head = (tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()[0]
    assert head == "case_id,patient_id,path_t1,path_flair,series_flair,label,age"
    assert list(table.records(tmp_path / "manifest.csv")) == [record]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("case_id,patient_id,path_a,path_b\n1,p,a.npy,\n", "line 2 has no `path_b`"),
        ("case_id,patient_id,path,path_a\n1,p,a.npy,a.npy\n", "fills `path` or `series`"),
        ("case_id,patient_id,path_a,path_b\n1,p,a.npy,b.npy\n", "1 of 2 files"),
    ],
)
def test_a_wrong_table_of_channels_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.npy").touch()
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(MedvidError, match=sentence):
        list(load_adapter("table").records(tmp_path / "labels.csv"))


def test_options_that_name_what_is_not_there_are_refused(tmp_path: Path) -> None:
    records = [record_of(tmp_path, "t1", "flair")]
    assert name_channels(None, records)["names"] == ["t1", "flair"]
    with pytest.raises(ConfigError, match="names `t2`, and the manifest has the channels t1"):
        name_channels({"names": ["t2"]}, records)
    with pytest.raises(ConfigError, match="this one has `path`"):
        name_channels({"align": "resample"}, [Record("c", "c", "x")])
