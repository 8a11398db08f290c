"""Labels of slices reach their frames, from a table to the samples that are trained on."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medvid.config import Config
from medvid.contract import ConfigError, DataError
from medvid.data.manifest import write_manifest
from medvid.io import open_stack
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series, write_nifti
from medvid.jobs.find import make_manifest
from medvid.jobs.task import TaskData, open_data

SLICES = 6
BLEEDING = 300
"""Slices of this value and above are labelled as bleeding."""


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Three series whose slices are 100, 200, ...: as usual, reversed, and with shuffled names."""
    values = np.arange(100, 100 * (SLICES + 1), 100, dtype=np.int16)
    for case in range(3):
        write_dicom_series(
            tmp_path / f"c{case}",
            values[:, None, None] + np.full((SLICES, 8, 8), case, np.int16),
            spacing=(5.0, 1.0, 1.0),
            patient_id=f"P{case}",
            reverse=case > 0,
            shuffle_names=case > 1,
            origin=(0.0, 0.0, -40.0 + case),
        )
    return tmp_path


def label_images(folder: Path, column: str) -> Path:
    """Writes a table that labels each image by what it shows, naming it by `column`."""
    lines = [f"case_id,patient_id,path,label,{column}"]
    for case in range(3):
        for file in sorted((folder / f"c{case}").iterdir()):
            image = pydicom.dcmread(file)
            value = int(image.pixel_array[0, 0]) + int(image.RescaleIntercept)
            place = {
                "sop_uid": str(image.SOPInstanceUID),
                "slice_at": f"{float(image.ImagePositionPatient[2]):.1f}",
            }[column]
            word = "bleeding" if value >= BLEEDING else "none"
            lines.append(f"c{case},p{case},c{case},{word},{place}")
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def open_slices(manifest: Path, **options: object) -> TaskData:
    config: Config = {
        "data": {
            "manifest": str(manifest),
            "store": str(manifest.parent / "store"),
            "task": "slice",
            "sampler": {"name": "centered", "frames": 3},
            **options,
        }
    }
    return open_data(config)


@pytest.mark.parametrize("column", ["sop_uid", "slice_at"])
@pytest.mark.parametrize("plane", ["auto", "axial"])
def test_every_sample_shows_what_its_label_says(series: Path, column: str, plane: str) -> None:
    data = open_slices(label_images(series, column), plane=plane).prepare()
    dataset = data.dataset(["c0", "c1", "c2"], training=False, seed=0)
    assert len(dataset) == 3 * SLICES
    for index in range(len(dataset)):
        sample = dataset[index]
        middle = float(sample["clip"][0, 1].mean())
        shown = "bleeding" if middle >= BLEEDING else "none"
        assert data.space.classes[int(sample["label"])] == shown


def test_no_uid_leaves_with_the_manifest(series: Path) -> None:
    labels = label_images(series, "sop_uid")
    told = make_manifest("table", labels, series / "manifest.csv", [])
    assert told
    text = (series / "manifest.csv").read_text(encoding="utf-8")
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in series.glob("c*/*.dcm")]
    assert len(uids) == 3 * SLICES
    assert not any(uid in text for uid in uids)
    by_token = open_slices(series / "manifest.csv").prepare().records
    assert by_token[1].slice_labels == open_slices(labels).prepare().records[1].slice_labels


def test_a_label_of_an_image_that_is_not_there_can_be_quarantined(series: Path) -> None:
    path = label_images(series, "sop_uid")
    (series / "c0/IM_0003.dcm").rename(series / "c0.dcm")
    (series / "c0/IM_0004.dcm").unlink()
    (series / "c0/IM_0005.dcm").unlink()
    (series / "c0/IM_0006.dcm").unlink()
    with pytest.raises(DataError, match=r"Case c0 .*not among its slices"):
        open_slices(path).prepare()
    kept = open_slices(path, on_bad="quarantine").prepare()
    assert [record.case_id for record in kept.records] == ["c1", "c2"]
    assert [(record.case_id, error.code) for record, error in kept.refused] == [
        ("c0", "unknown_slice")
    ]


def number_slices(folder: Path) -> Path:
    """Writes a table that labels the slices of c0 by their number, lowest first."""
    words = ["bleeding" if 100 * (slice_ + 1) >= BLEEDING else "none" for slice_ in range(5)]
    rows = [f"c0,p0,c0,{word},{number}" for number, word in enumerate(words)]
    rows += [f"c1,p1,c1,{word},{number}" for number, word in enumerate(reversed(words))]
    path = folder / "labels.csv"
    path.write_text("\n".join(["case_id,patient_id,path,label,slice", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("kept_bytes", "options"),
    [(0, {}), (-10, {"on_bad_images": "quarantine"})],
    ids=["empty", "truncated"],
)
def test_numbers_are_refused_where_an_image_was_left_out(
    series: Path, kept_bytes: int, options: dict[str, str]
) -> None:
    lowest = min((series / "c0").iterdir())
    content = lowest.read_bytes()
    uids = label_images(series, "sop_uid").read_text(encoding="utf-8").splitlines()
    table = number_slices(series)
    assert open_slices(table, **options).prepare().records
    lowest.write_bytes(content[:kept_bytes])
    with pytest.raises(DataError, match=r"1 file beside them .* `sop_uid` or `slice_at`") as caught:
        open_slices(table, **options).prepare()
    assert caught.value.code == "slices_left_out"
    # Once more, from the store; and names are not moved by what was left out.
    with pytest.raises(DataError, match="numbers may have moved"):
        open_slices(table, **options).prepare()
    table.write_text("\n".join(uids[:1] + uids[2:]) + "\n", encoding="utf-8")
    placed = open_slices(table, **options).prepare().records[0].slice_labels
    assert placed == {frame: "bleeding" if frame >= 1 else "none" for frame in range(5)}


def test_an_image_without_its_series_number_is_left_out_of_the_count(series: Path) -> None:
    (row,) = scan_tree(series / "c0")
    lowest = min((series / "c0").iterdir())
    lowest.write_bytes(lowest.read_bytes()[:300])
    assert open_stack(series / "c0", series=row.series).left_out == 1


@pytest.mark.parametrize("name", ["key.jpg", "mask.nii.gz", "Segmentation.nrrd", "seg.npy"])
def test_pictures_and_masks_beside_the_slices_move_no_number(series: Path, name: str) -> None:
    (series / "c0" / name).write_bytes(b"no DICOM")
    placed = open_slices(number_slices(series)).prepare().records[0].slice_labels
    assert placed == {frame: "bleeding" if frame >= 2 else "none" for frame in range(5)}


def test_a_run_that_left_an_image_out_is_noted_as_its_slices_were_named(series: Path) -> None:
    table = label_images(series, "sop_uid")
    (series / "c0/lost.dcm").write_bytes(b"no DICOM")
    prepared = open_slices(table).prepare()
    assert prepared.records[0].slice_labels is not None
    write_manifest(series / "manifest.csv", prepared.as_given())
    again = open_slices(series / "manifest.csv").prepare()
    assert [r.slice_labels for r in again.records] == [r.slice_labels for r in prepared.records]


def test_a_copy_of_an_image_moves_no_number(series: Path) -> None:
    lowest = min((series / "c0").iterdir())
    (series / "c0/copy.dcm").write_bytes(lowest.read_bytes())
    placed = open_slices(number_slices(series)).prepare().records[0].slice_labels
    assert placed == {frame: "bleeding" if frame >= 2 else "none" for frame in range(5)}


def test_an_index_of_the_file_is_turned_with_its_axis(tmp_path: Path) -> None:
    values = np.arange(100, 700, 100, dtype=np.int16)[:, None, None] + np.zeros((6, 8, 8), np.int16)
    lines = ["case_id,patient_id,path,label,slice_file"]
    for case, code in enumerate(("RAS", "LPI", "SAR")):
        name = f"{code}.nii.gz"
        write_nifti(tmp_path / name, values, spacing=(5.0, 1.0, 1.0), orientation=code)
        for index in range(6):
            value = values[5 - index if "I" in code else index, 0, 0]
            word = "bleeding" if value >= BLEEDING else "none"
            lines.append(f"c{case},p{case},{name},{word},{index}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = open_slices(tmp_path / "labels.csv").prepare()
    expected = {frame: "bleeding" if frame >= 2 else "none" for frame in range(6)}
    assert [record.slice_labels for record in data.records] == [expected] * 3


def test_slices_that_are_resampled_cannot_be_labelled(series: Path) -> None:
    path = label_images(series, "slice_at")
    with pytest.raises(ConfigError, match="Set its first number to 0"):
        open_slices(path, spacing=[10.0, 0.0, 0.0])
    assert open_slices(path, spacing=[0.0, 2.0, 2.0]).prepare().records[0].slice_labels


def test_samples_of_labels_without_a_frame_are_refused(series: Path) -> None:
    data = open_slices(label_images(series, "sop_uid"))
    with pytest.raises(DataError, match="whose frames were not looked up"):
        data.dataset(["c0"], training=False, seed=0)


def test_no_labelled_slice_is_dropped_in_testing(series: Path) -> None:
    labels = label_images(series, "sop_uid")
    sliding = {"name": "sliding", "frames": 4, "hop": 4}
    assert open_slices(labels, test_sampler=sliding).prepare().records
    with pytest.raises(ConfigError, match="every labelled slice is to be predicted"):
        open_slices(labels, test_sampler={**sliding, "end": "drop"})
