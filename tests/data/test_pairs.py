"""Pairs of clips: the same one, or another patient's; keyed draws."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medvid.contract import DataError, Record
from medvid.data.dataset import ClipDataset, list_items
from medvid.data.labels import LabelSpace
from medvid.data.pairs import PairDataset, build_pair_loader
from medvid.data.sampling import Dense
from medvid.data.store import Store

FRAMES = (6, 6, 3, 6, 6, 6)


def make_pairs(folder: Path, *, training: bool = True, seed: int = 0, patients: int = 3) -> Any:
    """Six scans without a label, two a patient, each of its own grey; one is shorter."""
    records = []
    for case, frames in enumerate(FRAMES):
        path = folder / f"{case}.npy"
        if not path.exists():
            np.save(path, np.full((frames, 8, 8), 10 * case, np.int16))
        records.append(Record(f"c{case}", f"p{case % patients}", str(path)))
    sampler = Dense(frames=4, test_clips=3)
    clips = ClipDataset(
        items=list_items(records, "scan", sampler),
        store=Store(folder / "store"),
        space=LabelSpace((), multilabel=False),
        task="scan",
        sampler=sampler,
        transform=lambda sample, rng: sample,
        training=training,
        seed=seed,
    )
    return PairDataset(clips)


@pytest.mark.parametrize("training", [True, False])
def test_every_clip_stands_once_with_itself_and_once_with_another_patient(
    tmp_path: Path, training: bool
) -> None:
    pairs = make_pairs(tmp_path, training=training)
    assert len(pairs) == 2 * len(FRAMES)
    for index in range(len(pairs)):
        pair = pairs[3, index]
        own, shown = pair["case_id"].split(" | ")
        first, second = pair["clip"].unbind()
        assert pair["clip"].shape == (2, 1, 4, 8, 8)
        assert pair["mask"].shape == (2, 4)
        assert own == f"c{index // 2}"
        if int(pair["label"]) == 1:
            assert own == shown
            assert torch.equal(first, second)
        else:
            assert int(own[1]) % 3 != int(shown[1]) % 3
            assert first.max() == 10 * int(own[1])
            assert second.max() == 10 * int(shown[1])
    assert [int(pairs[0, index]["label"]) for index in range(4)] == [1, 0, 1, 0]


def test_partners_are_drawn_by_seed_epoch_and_case(tmp_path: Path) -> None:
    def draw(pairs: Any, epoch: int) -> list[int]:
        return [pairs.find_partner(epoch, item) for item in range(len(FRAMES))]

    first, again = make_pairs(tmp_path), make_pairs(tmp_path)
    assert draw(first, 2) == draw(again, 2)
    assert len({tuple(draw(first, epoch)) for epoch in range(5)}) > 1
    assert len({tuple(draw(make_pairs(tmp_path, seed=s), 0)) for s in range(5)}) > 1
    fixed = make_pairs(tmp_path, training=False)
    assert draw(fixed, 0) == draw(fixed, 7)


def test_a_short_scan_is_padded_and_masked(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path)
    assert pairs[0, 4]["mask"].tolist() == [[True, True, True, False]] * 2


def test_batches_hold_both_answers(tmp_path: Path) -> None:
    loader = build_pair_loader(make_pairs(tmp_path), batch_size=12, workers=0)
    (batch,) = list(loader)
    assert batch["clip"].shape == (12, 2, 1, 4, 8, 8)
    assert sorted(batch["label"].tolist()) == [0] * 6 + [1] * 6
    assert len(set(batch["case_id"])) == 12


def test_one_patient_makes_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="need two patients on every side"):
        make_pairs(tmp_path, patients=1)
