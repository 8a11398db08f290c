"""MedMNIST3D's rows are read out of the .npz, each with its own label and side."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from medvid.config import read_config
from medvid.contract import DataError, SourceError
from medvid.data.manifest import write_manifest
from medvid.data.store import Store
from medvid.io import open_stack
from medvid.models import build_model
from medvid.sources import load_adapter

medmnist3d = load_adapter("medmnist3d")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    medmnist3d.imitate(tmp_path)
    return tmp_path


def rewrite(path: Path, **changed: Any) -> None:
    with np.load(path) as archive:
        arrays = {**archive, **changed}
    np.savez_compressed(
        path, **{name: array for name, array in arrays.items() if array is not None}
    )


def test_a_record_is_its_row(root: Path) -> None:
    with np.load(root / "nodulemnist3d.npz") as archive:
        arrays = dict(archive)
    records = list(medmnist3d.records(root))
    assert len(records) == 8
    for record in records:
        row = int(record.case_id.rpartition("-")[2])
        volume = arrays[f"{record.split}_images"][row]
        stack = open_stack(record.path, series=record.series)
        assert np.array_equal(stack.read()[0], volume)
        assert stack.affine is None
        number = arrays[f"{record.split}_labels"][row, 0]
        assert record.label == ("benign", "malignant")[number]


def test_the_official_split_is_kept(root: Path) -> None:
    splits = [record.split for record in medmnist3d.records(root)]
    assert splits == ["train"] * 4 + ["val"] * 2 + ["test"] * 2


def test_the_size_is_chosen(root: Path) -> None:
    for size in (28, 64):
        record = next(iter(medmnist3d.records(root, size=size)))
        stack = open_stack(record.path, series=record.series)
        assert (stack.num_frames, stack.height, stack.width) == (size, size, size)


def test_one_file_may_be_given_by_its_path(root: Path) -> None:
    records = list(medmnist3d.records(root / "nodulemnist3d_64.npz"))
    assert {Path(record.path).name for record in records} == {"nodulemnist3d_64.npz"}


def test_a_manifest_brings_every_row_back(root: Path) -> None:
    records = list(medmnist3d.records(root))
    write_manifest(root / "manifest.csv", records)
    assert list(load_adapter("table").records(root)) == records


def test_rows_of_one_file_do_not_mix_in_the_store(root: Path, tmp_path: Path) -> None:
    records = list(medmnist3d.records(root))
    store = Store(tmp_path / "store")
    assert store.prepare_all(records) == []
    for record in records:
        wanted = open_stack(record.path, series=record.series).read()
        assert np.array_equal(store.open(record).read(), wanted)


def test_several_sets_need_a_choice(root: Path) -> None:
    (root / "nodulemnist3d.npz").rename(root / "vesselmnist3d.npz")
    with pytest.raises(SourceError, match=r"several sets: nodulemnist3d, vesselmnist3d\. Choose"):
        list(medmnist3d.records(root))
    records = list(medmnist3d.records(root, name="vesselmnist3d"))
    assert {record.label for record in records} == {"vessel", "aneurysm"}


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no organmnist3d_64\.npz. There are: nodulemnist"):
        list(medmnist3d.records(root, name="organmnist3d", size=64))
    with pytest.raises(SourceError, match="none of the files of MedMNIST3D"):
        list(medmnist3d.records(root / "nowhere"))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"val_labels": None}, "holds no array `val_labels`"),
        ({"val_labels": np.array([[0], [2]])}, "row 1 of `val_labels` the number 2; nodulemnist3d"),
        ({"val_labels": np.array([[0]])}, "holds 2 volumes in `val_images` and 1 labels"),
        ({"val_labels": np.array([[0, 1], [1, 1]])}, "a row should have one whole number"),
        (
            {"val_labels": np.array([[0.0], [1.0]])},
            r"the shape \(2, 1\) and the type float64; a row",
        ),
        (
            {"val_images": np.zeros((2, 64, 64, 64), np.uint8)},
            r"`val_images` of the shape \(2, 64, 64, 64\) .* should hold volumes of 28 x 28 x 28",
        ),
        ({"val_images": np.zeros((2, 28, 28, 28))}, "and the type float64, and by its name should"),
        ({"train_images": np.zeros((4, 28, 28), np.uint8)}, r"sets of pictures \(2D\) have no"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(
    root: Path, changed: dict[str, Any], sentence: str
) -> None:
    rewrite(root / "nodulemnist3d.npz", **changed)
    with pytest.raises(SourceError, match=sentence):
        list(medmnist3d.records(root, size=28))


def test_a_file_cut_short_is_refused(root: Path) -> None:
    path = root / "nodulemnist3d.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match=r"cut short or damaged\. Download it again"):
        list(medmnist3d.records(root, size=28))


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (
            "train_images[4]",
            r"holds no `train_images\[4\]`: its array `train_images` has the shape",
        ),
        ("test[0]", "holds no array `test`; it holds train_images, train_labels"),
        (None, r"column `series`: `train_images`, `train_images\[0\]`"),
    ],
)
def test_a_row_that_is_not_there_is_refused(root: Path, item: str | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        open_stack(root / "nodulemnist3d.npz", series=item)


def test_an_array_of_its_own_has_no_items(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(
        DataError, match=r"is one array, and no archive \(\.npz\) that holds `x\[0\]`"
    ):
        open_stack(tmp_path / "one.npy", series="x[0]")


def test_the_published_baseline_has_a_preset_with_its_network_and_its_recipe() -> None:
    config = read_config("run/medmnist3d_resnet18")
    with torch.device("meta"):
        network = build_model(config["model"], in_channels=1, num_classes=2, clip_size=(28, 28, 28))
    assert sum(parameter.numel() for parameter in network.parameters()) == 33_140_802
    maps, _ = cast("Any", network).trunk(torch.empty(1, 1, 28, 28, 28, device="meta"), None)
    assert maps.shape == (1, 512, 4, 4, 4)
    training = config["train"]
    assert (training["optimizer"]["name"], training["optimizer"]["lr"]) == ("adam", 1e-3)
    assert (training["schedule"]["milestones"], training["epochs"]) == ([50, 75], 100)
    assert config["data"]["batch_size"] == 32
