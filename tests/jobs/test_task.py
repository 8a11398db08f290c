"""From a config's data section to records that can be used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvid.config import Config
from medvid.contract import DataError
from medvid.data.sampling import Sliding
from medvid.io.write import write_nifti
from medvid.jobs.clip_shape import read_clip_shape
from medvid.jobs.task import TaskData, open_data

FRAMES = 6


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Four volumes of 6 x 8 x 8 with 2 mm slices and 1 mm pixels."""
    for case in range(4):
        voxels = np.full((FRAMES, 8, 8), case, dtype=np.int16)
        write_nifti(tmp_path / f"c{case}.nii.gz", voxels, spacing=(2.0 + case, 1.0, 1.0))
    return tmp_path


def open_table(folder: Path, columns: str, rows: list[str], **options: object) -> TaskData:
    lines = [f"case_id,patient_id,path,{columns}"]
    lines += [f"c{k},p{k},c{k}.nii.gz,{row}" for k, row in enumerate(rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config: Config = {
        "data": {"manifest": str(folder / "manifest.csv"), "store": str(folder / "s"), **options}
    }
    return open_data(config)


def test_a_label_on_a_slice_that_is_not_there_is_named(volumes: Path) -> None:
    data = open_table(
        volumes,
        "slice,label",
        ["0,a", "5,b", "6,a"],
        task="slice",
        sampler={"name": "centered", "frames": 3},
    )
    with pytest.raises(DataError, match=r"Case c2 .*slice 6 has a label.*6 slices"):
        data.prepare()
    kept = replace(data, options={**data.options, "on_bad": "quarantine"}).prepare()
    assert [record.case_id for record in kept.records] == ["c0", "c1"]


def test_a_position_outside_the_scan_is_named_before_training(volumes: Path) -> None:
    data = open_table(
        volumes,
        "x_mm,y_mm,z_mm,label",
        ["1,1,1,a", "1,1,1,b", "500,1,1,a"],
        task="region",
        sampler={"name": "centered", "frames": 3},
    )
    with pytest.raises(DataError, match=r"Case c2 .*outside the scan"):
        data.prepare()


def test_unlabelled_cases_are_listed_and_not_trained_on(volumes: Path) -> None:
    data = open_table(volumes, "label", ["a", "b", ""])
    assert [record.case_id for record in data.records] == ["c0", "c1"]
    ((record, reason),) = data.refused
    assert record.case_id == "c2"
    assert reason.code == "no_label"


def test_every_labelled_slice_is_tested_where_runs_are_trained_on(volumes: Path) -> None:
    data = open_table(
        volumes, "slice,label", ["0,a", "5,b"], task="slice", sampler={"name": "dense", "frames": 4}
    )
    assert isinstance(data.test_sampler, Sliding)
    sample = data.prepare().dataset(["c1"], training=False, seed=0)[0]
    assert set(sample["window"].flatten().tolist()) == set(range(FRAMES))


def test_the_network_is_built_for_the_median_spacing(volumes: Path) -> None:
    data = open_table(
        volumes, "label", ["a", "b", "a", "b"], sampler={"name": "dense", "frames": 4}
    )
    assert read_clip_shape(data.prepare()).spacing == pytest.approx((3.5, 1.0, 1.0))


def test_a_case_of_the_split_that_is_gone_is_named(volumes: Path) -> None:
    data = open_table(volumes, "label", ["a", "b"])
    with pytest.raises(DataError, match=r"no longer have.*c9"):
        data.dataset(["c0", "c9"], training=True, seed=0)


def test_a_scan_without_slice_labels_is_predicted_slice_by_slice(volumes: Path) -> None:
    data = open_table(
        volumes,
        "slice,label",
        ["0,a", "5,b"],
        task="slice",
        sampler={"name": "centered", "frames": 3},
    ).prepare()
    bare = replace(data, records=tuple(replace(r, slice_labels=None) for r in data.records))
    assert len(bare.dataset(["c0", "c1"], training=False, seed=0)) == 2 * FRAMES
