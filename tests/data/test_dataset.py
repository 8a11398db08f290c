"""From records to batches: the right frames, keyed draws, and one code for scans and videos."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medvid.contract import ConfigError, DataError, GeometryError, Record, Sampler
from medvid.data.dataset import ClipDataset, draw_generator, list_items
from medvid.data.labels import LabelSpace, Task, find_label_space
from medvid.data.loader import EpochBatchSampler, balance_weights, build_loader, collate
from medvid.data.sampling import Centered, Dense, Sliding
from medvid.data.store import Store
from medvid.io.write import write_nifti
from medvid.io.write_video import write_video

MakeRecords = Callable[..., list[Record]]

SPACE = LabelSpace(("a", "b"), multilabel=False)


def keep(sample: dict[str, Any], rng: np.random.Generator | None) -> dict[str, Any]:
    """Changes nothing; at the top of the module, so that workers can be sent it."""
    return sample


def add_noise(sample: dict[str, Any], rng: np.random.Generator | None) -> dict[str, Any]:
    if rng is None:
        return sample
    noise = torch.from_numpy(rng.normal(size=sample["clip"].shape).astype(np.float32))
    return {**sample, "clip": sample["clip"] + noise}


def make_dataset(
    records: list[Record],
    folder: Path,
    sampler: Sampler,
    *,
    task: Task = "scan",
    training: bool = False,
    crop: tuple[int, int] | None = None,
    space: LabelSpace = SPACE,
    transform: Any = keep,
) -> ClipDataset:
    items = list_items(records, task, sampler)
    store = Store(folder / "store")
    return ClipDataset(items, store, space, task, sampler, transform, crop, training, seed=3)


def test_a_sample_says_what_it_shows(tmp_path: Path, make_records: MakeRecords) -> None:
    sample = make_dataset(make_records(), tmp_path, Centered(3))[2]
    assert sample["clip"].shape == (1, 3, 6, 6)
    assert sample["clip"].dtype == torch.float32
    assert sample["clip"][0, :, 0, 0].tolist() == [203, 204, 205]
    assert sample["window"].tolist() == [3, 4, 5]
    assert sample["mask"].tolist() == [True] * 3
    assert (sample["label"].item(), sample["case_id"]) == (0, "case_2")


def test_several_clips_add_a_leading_axis(tmp_path: Path, make_records: MakeRecords) -> None:
    dataset = make_dataset(make_records(), tmp_path, Dense(4, test_clips=3))
    batch = next(iter(build_loader(dataset, batch_size=7, workers=0)))
    # A batch counts clips in testing: seven are two items of three.
    assert batch["clip"].shape == (2, 3, 1, 4, 6, 6)
    assert batch["mask"].shape == batch["window"].shape == (2, 3, 4)
    assert batch["label"].shape == (2,)


def test_slices_get_their_own_labels(tmp_path: Path, make_records: MakeRecords) -> None:
    records = [replace(r, label=None, slice_labels={2: "a", 5: "b"}) for r in make_records(2)]
    dataset = make_dataset(records, tmp_path, Centered(3), task="slice")
    assert len(dataset) == 4
    found = [(dataset[k]["frame"], dataset[k]["label"].item()) for k in range(2)]
    assert found == [(2, 0), (5, 1)]
    assert dataset[1]["clip"][0, 1, 0, 0] == 5


def test_dense_slice_labels_mark_unknown_and_padding(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    records = [replace(r, label=None, slice_labels={0: "b", 2: "a"}) for r in make_records(2, 4)]
    dataset = make_dataset(records, tmp_path, Dense(6), task="slice")
    assert dataset[0]["label"].tolist() == [1, -1, 0, -1, -1, -1]


def test_findings_are_vectors_and_padded_batches_keep_them(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    short, long = make_records(1, 3)[0], None
    path = tmp_path / "long.npy"
    np.save(path, np.zeros((5, 6, 6), np.int16))
    long = replace(short, case_id="long", path=str(path), label={"x": 0, "y": 1, "z": 1})
    short = replace(short, label={"x": 1, "y": 0})
    space = find_label_space([short, long])
    dataset = make_dataset([short, long], tmp_path, Dense(), space=space)
    batch = collate([dataset[0], dataset[1]])
    assert batch["clip"].shape == (2, 1, 5, 6, 6)
    assert batch["mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    np.testing.assert_array_equal(batch["label"], [[1, 0, np.nan], [0, 1, 1]])
    assert batch["clip"][0, 0, 3:, 0, 0].tolist() == [2, 2]  # the edge is repeated


def test_a_region_lies_in_the_middle_of_its_crop(tmp_path: Path) -> None:
    volume = np.zeros((9, 20, 20), np.int16)
    volume[6, 12, 3] = 100
    write_nifti(tmp_path / "v.nii.gz", volume, spacing=(2.0, 0.5, 0.5), origin=(10.0, -5.0, 40.0))
    record = Record("r", "p", str(tmp_path / "v.nii.gz"), label="a", center=(11.5, 1.0, 52.0))
    dataset = make_dataset([record], tmp_path, Centered(3), task="region", crop=(7, 9))
    clip = dataset[0]["clip"]
    assert clip.shape == (1, 3, 7, 9)
    assert clip[0, 1, 3, 4] == 100
    assert clip.sum() == 100


def test_a_region_outside_of_its_scan_is_a_sentence(tmp_path: Path) -> None:
    write_nifti(tmp_path / "v.nii.gz", np.zeros((4, 5, 6), np.int16), spacing=(1.0, 1.0, 1.0))
    record = Record("r7", "p", str(tmp_path / "v.nii.gz"), label="a", center=(-90.0, 0.0, 0.0))
    dataset = make_dataset([record], tmp_path, Centered(3), task="region")
    with pytest.raises(GeometryError, match=r"Case r7: .*outside the scan.*sign swap"):
        dataset[0]


@pytest.mark.parametrize(
    ("task", "sampler", "said"),
    [("region", Dense(3), "needs `data.sampler"), ("region", Centered(3), "has no position")],
)
def test_a_task_without_what_it_needs_is_a_sentence(
    task: Task, sampler: Sampler, said: str, make_records: MakeRecords
) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        list_items(make_records(), task, sampler)


def test_draws_depend_on_seed_epoch_and_case_alone(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    records = make_records(6, 30)
    options: dict[str, Any] = {"training": True, "transform": add_noise, "crop": (4, 4)}
    dataset = make_dataset(records, tmp_path, Dense(4), **options)
    turned = make_dataset(records[::-1], tmp_path, Dense(4), **options)
    assert torch.equal(dataset[(5, 0)]["clip"], turned[(5, 5)]["clip"])
    assert not torch.equal(dataset[(5, 0)]["clip"], dataset[(6, 0)]["clip"])
    first = draw_generator(1, 2, "case", None).random()
    assert first == draw_generator(1, 2, "case", None).random()
    others = [(2, 2, "case", None), (1, 3, "case", None), (1, 2, "cas", None), (1, 2, "case", 0)]
    assert all(first != draw_generator(*key).random() for key in others)


def test_the_number_of_workers_does_not_change_the_data(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    dataset = make_dataset(
        make_records(8, 30), tmp_path, Dense(4), training=True, transform=add_noise
    )
    alone, with_two = (
        [batch["clip"] for batch in build_loader(dataset, batch_size=3, workers=number)]
        for number in (0, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(alone, with_two, strict=True))


def test_a_dataset_can_be_sent_to_a_spawned_process(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    dataset = make_dataset(make_records(), tmp_path, Dense(4))
    before = dataset[0]["clip"]  # opens a map, which must stay behind
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0]["clip"], before)


def test_a_length_in_mm_is_refused_for_videos(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", np.zeros((8, 32, 32, 3), np.uint8))
    record = Record("v", "p", str(tmp_path / "v.avi"), label="a")
    with pytest.raises(ConfigError, match="this stack is a video"):
        make_dataset([record], tmp_path, Centered(frames_mm=9.0))[0]


def test_one_dataset_reads_scans_and_videos_alike(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, 32, 32), dtype=np.uint8)
    write_video(tmp_path / "v.mkv", frames, lossless=True)
    write_nifti(tmp_path / "s.nii.gz", frames.astype(np.int16), spacing=(1.0, 1.0, 1.0))
    records = [
        Record(name, name, str(tmp_path / name), label="a") for name in ("v.mkv", "s.nii.gz")
    ]
    dataset = make_dataset(records, tmp_path, Dense(4, test_clips=2), crop=(16, 16))
    video, scan = dataset[0], dataset[1]
    assert video.keys() == scan.keys()
    assert torch.equal(video["window"], scan["window"])
    assert torch.equal(video["clip"][:, :1], scan["clip"])


def test_batches_of_different_sizes_are_a_sentence(tmp_path: Path) -> None:
    records = []
    for side in (6, 7):
        np.save(tmp_path / f"{side}.npy", np.zeros((3, side, side), np.int16))
        records.append(Record(f"c{side}", "p", str(tmp_path / f"{side}.npy"), label="a"))
    dataset = make_dataset(records, tmp_path, Dense(3))
    with pytest.raises(DataError, match=r"different sizes.*crop_or_pad"):
        collate([dataset[0], dataset[1]])


def test_sliding_cases_get_batches_of_their_own(tmp_path: Path, make_records: MakeRecords) -> None:
    dataset = make_dataset(make_records(3, 5), tmp_path, Sliding(2))
    shapes = [batch["clip"].shape[:2] for batch in build_loader(dataset, batch_size=8, workers=0)]
    assert shapes == [(1, 4)] * 3


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_out_an_epoch(shuffle: bool, world_size: int) -> None:
    shards = []
    for rank in range(world_size):
        sampler = EpochBatchSampler(17, 3, seed=1, shuffle=shuffle)
        sampler.set_epoch(4)
        sampler.shard(rank, world_size)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        shards.append(batches)
    drawn = [key for batches in shards for batch in batches for key in batch]
    assert {epoch for epoch, _ in drawn} == {4}
    assert {index for _, index in drawn} == set(range(17))
    if shuffle:
        assert len({len(batches) for batches in shards}) == 1
    else:
        assert len(drawn) == 17


def test_every_epoch_has_another_order_and_repeats_itself() -> None:
    sampler = EpochBatchSampler(50, 5, seed=1, shuffle=True)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([index for batch in sampler for _, index in batch])
    assert orders[0] == orders[2] != orders[1]


def test_balanced_drawing_shows_rare_classes_as_often(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    records = [replace(r, label="a" if k else "b") for k, r in enumerate(make_records(10))]
    weights = balance_weights(make_dataset(records, tmp_path, Dense(2), training=True))
    assert weights[0] == pytest.approx(weights[1:].sum())
