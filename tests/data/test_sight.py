"""Laws of the sampler `context`: what is in the window is real, the rest are copies."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.contract import ConfigError, DataError, Record
from medvid.data.dataset import ClipDataset, list_items
from medvid.data.labels import LabelSpace, list_labels, permute_labels
from medvid.data.loader import build_loader
from medvid.data.sampling import build_sampler
from medvid.data.sight import Context
from medvid.data.store import Store

MakeRecords = Callable[..., list[Record]]

halves = st.integers(0, 6)
stacks = st.integers(1, 40)


@settings(deadline=None, max_examples=200)
@given(halves, halves, stacks, st.data())
def test_frames_in_the_window_are_neighbours_and_the_others_copies(
    half: int, reach: int, num_frames: int, data: st.DataObject
) -> None:
    reach = min(half, reach)
    target = data.draw(st.integers(0, num_frames - 1))
    sampler = Context(2 * half + 1, window=2 * reach + 1)
    windows = sampler.windows(num_frames, 1.0, rng=None, frame=target)
    frames, mask = windows.frames[0], windows.mask[0]
    for offset in range(-half, half + 1):
        place = target + offset
        if abs(offset) > reach:
            assert (frames[half + offset], mask[half + offset]) == (target, True)
        elif 0 <= place < num_frames:
            assert (frames[half + offset], mask[half + offset]) == (place, True)
        else:
            assert not mask[half + offset]


@settings(deadline=None, max_examples=100)
@given(halves, stacks, st.integers(0, 99), st.data())
def test_changed_orders_show_the_same_frames_around_the_same_target(
    half: int, num_frames: int, seed: int, data: st.DataObject
) -> None:
    target = data.draw(st.integers(0, num_frames - 1))
    kept, shuffled, turned = (
        Context(2 * half + 1, order=order).windows(
            num_frames, 1.0, rng=np.random.default_rng(seed), frame=target
        )
        for order in ("kept", "shuffled", "reversed")
    )
    assert sorted(shuffled.frames[0]) == sorted(kept.frames[0])
    assert shuffled.frames[0, half] == turned.frames[0, half] == target
    np.testing.assert_array_equal(turned.frames[0], kept.frames[0, ::-1])


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 5), st.integers(14, 40), st.integers(0, 99), st.data())
def test_far_frames_lie_outside_of_every_window_around_the_target(
    half: int, num_frames: int, seed: int, data: st.DataObject
) -> None:
    target = data.draw(st.integers(0, num_frames - 1))
    sampler = Context(2 * half + 1, neighbours="far")
    frames = sampler.windows(num_frames, 1.0, rng=np.random.default_rng(seed), frame=target).frames[
        0
    ]
    distance = np.abs(np.delete(frames, half) - target)
    assert frames[half] == target
    assert (distance > half).all()


def test_far_frames_of_a_stack_without_any_are_refused() -> None:
    with pytest.raises(DataError, match="covers the whole stack of 5") as refused:
        Context(5, neighbours="far").windows(5, 1.0, rng=None, frame=2)
    assert refused.value.code == "no_far_slices"


def test_a_window_in_mm_follows_the_distance_of_the_slices() -> None:
    sampler = Context(9, window_mm=10.0)
    assert [sampler.reach(step) for step in (10.0, 5.0, 2.5, 1.0)] == [0, 1, 2, 4]
    assert Context(9, window_mm=0.0).reach(2.5) == 0


def test_a_window_in_mm_is_not_cut_where_slices_lie_closer_than_the_clip_is_long() -> None:
    sampler = Context(5, window_mm=20.0)
    assert sampler.windows(60, 5.0, rng=None, frame=30).frames[0].tolist() == [28, 29, 30, 31, 32]
    with pytest.raises(DataError, match="holds 21 slices where they lie 1 mm apart") as cut:
        sampler.windows(60, 1.0, rng=None, frame=30)
    assert cut.value.code == "short_length"
    sampler.windows(3, 1.0, rng=None, frame=1)  # there are no more slices to be cut off


def test_all_arms_leave_the_generator_in_the_same_state() -> None:
    arms = [
        Context(5, window=1),
        Context(5),
        Context(5, order="shuffled"),
        Context(5, neighbours="far"),
        Context(5, positions="every"),
    ]
    after = []
    for arm in arms:
        rng = np.random.default_rng(7)
        arm.windows(20, 1.0, rng=rng, frame=None)
        after.append(rng.random())
    assert len(set(after)) == 1


def test_every_position_is_tested_once_and_one_is_drawn_in_training() -> None:
    sampler = Context(5, window=3, positions="every")
    tested = sampler.windows(7, 1.0, rng=None)
    assert tested.frames[:, 2].tolist() == list(range(7))
    drawn = {
        int(sampler.windows(7, 1.0, rng=np.random.default_rng(seed)).frames[0, 2])
        for seed in range(100)
    }
    assert drawn == set(range(7))


def test_a_shuffle_is_drawn_anew_in_training_and_fixed_in_testing() -> None:
    sampler = Context(9, order="shuffled")
    rng = np.random.default_rng(0)
    drawn = {tuple(sampler.windows(30, 1.0, rng=rng, frame=15).frames[0]) for _ in range(5)}
    tested = {tuple(sampler.windows(30, 1.0, rng=None, frame=15).frames[0]) for _ in range(5)}
    assert len(drawn) == 5
    assert len(tested) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 4}, "it is odd"),
        ({"length": 5, "window": 2}, "it is odd"),
        ({"length": 5, "window": 7}, "does not fit"),
        ({"length": 5, "window": 3, "window_mm": 4.0}, "not both"),
        ({"length": 5, "window_mm": -1.0}, "window_mm: -1.0"),
    ],
)
def test_windows_that_cannot_be_meant_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_sampler({"name": "context", **options})


def _dataset(records: list[Record], folder: Path, sampler: Context, *, pixels: bool) -> ClipDataset:
    return ClipDataset(
        items=list_items(records, "scan", sampler),
        store=Store(folder / "store"),
        space=LabelSpace(("a", "b"), multilabel=False),
        task="scan",
        sampler=sampler,
        transform=lambda sample, rng: sample,
        pixels=pixels,
    )


def test_without_pixels_a_clip_says_where_it_lies_and_nothing_else(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    dataset = _dataset(make_records(), tmp_path, Context(3), pixels=False)
    first, second = dataset[0]["clip"], dataset[1]["clip"]
    assert torch.equal(first, second)  # the cases differ by their pixels only
    # The middle three of eight frames, as fractions of the way from the first to the last.
    expected = torch.tensor([3, 4, 5]) / 7 - 0.5
    torch.testing.assert_close(first[0, :, 0, 0], expected)


def test_stacks_of_any_depth_make_batches_of_all_their_positions(
    tmp_path: Path, make_records: MakeRecords
) -> None:
    dataset = _dataset(make_records(3), tmp_path, Context(5, positions="every"), pixels=True)
    batches = list(build_loader(dataset, batch_size=16, workers=0))
    assert [tuple(batch["clip"].shape) for batch in batches] == [(1, 8, 1, 5, 6, 6)] * 3


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=30), st.integers(0, 99))
def test_dealt_labels_are_the_same_labels(labels: list[str], seed: int) -> None:
    scans = [Record(str(k), str(k), "x", label=label) for k, label in enumerate(labels)]
    slices = [
        replace(scan, label=None, slice_labels={4: scan.label or "", 7: "a"}) for scan in scans
    ]
    for records in (scans, slices):
        dealt = permute_labels(records, seed)
        assert sorted(map(str, (v for r in dealt for v in list_labels(r)))) == sorted(
            map(str, (v for r in records for v in list_labels(r)))
        )
        assert [r.case_id for r in dealt] == [r.case_id for r in records]
        assert permute_labels(records, seed) == dealt
