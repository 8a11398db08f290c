"""Laws of the samplers: inside the stack, in order, masked where padded, the same when asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.contract import ConfigError, Sampler
from medvid.data.sampling import (
    SAMPLERS,
    Centered,
    Dense,
    Segments,
    Sliding,
    Uniform,
    build_sampler,
    measure_extent,
)

lengths = st.integers(1, 40)


@st.composite
def samplers(draw: st.DrawFn) -> Sampler:
    frames, stride, clips = draw(st.integers(1, 20)), draw(st.integers(1, 4)), draw(lengths)
    mm = draw(st.one_of(st.none(), st.floats(0.5, 80)))
    # `context` shows copies inside a clip, so it has laws of its own: test_sight.py
    kind = draw(st.sampled_from(sorted(set(SAMPLERS) - {"context"})))
    if kind == "dense":
        return Dense(frames, mm, stride, clips, test_clips=draw(st.integers(1, 5)))
    if kind == "uniform":
        return Uniform(frames, mm, stride, clips)
    if kind == "segments":
        return Segments(draw(st.integers(1, 10)), draw(st.integers(1, 5)), join=draw(st.booleans()))
    if kind == "centered":
        return Centered(frames, mm, stride, jitter=draw(st.integers(0, 3)))
    hop, drawn = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    return Sliding(frames, mm, stride, hop, drawn, end=draw(st.sampled_from(["flush", "drop"])))


@settings(deadline=None, max_examples=300)
@given(samplers(), lengths, st.floats(0.3, 6), st.one_of(st.none(), st.integers(0, 99)))
def test_frames_lie_inside_and_rise_and_padding_repeats_the_edge(
    sampler: Sampler, num_frames: int, step: float, seed: int | None
) -> None:
    rng = None if seed is None else np.random.default_rng(seed)
    windows = sampler.windows(num_frames, step, rng=rng, frame=num_frames // 3)
    assert windows.frames.min() >= 0
    assert windows.frames.max() < num_frames
    assert windows.mask.any()
    for frames, mask in zip(windows.frames, windows.mask, strict=True):
        if isinstance(sampler, Segments) and sampler.frames > 1 and sampler.join:
            continue  # snippets may overlap where the stack is short
        assert (np.diff(frames) >= 0).all()
        padding = frames[~mask]
        assert np.isin(padding, [0, num_frames - 1, frames[mask].max(initial=0)]).all()


@settings(deadline=None, max_examples=100)
@given(samplers(), lengths, st.integers(0, 99))
def test_the_same_generator_gives_the_same_frames(
    sampler: Sampler, num_frames: int, seed: int
) -> None:
    first = sampler.windows(num_frames, 1.0, rng=np.random.default_rng(seed))
    again = sampler.windows(num_frames, 1.0, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(first.frames, again.frames)
    fixed, repeated = (sampler.windows(num_frames, 1.0, rng=None).frames for _ in range(2))
    np.testing.assert_array_equal(fixed, repeated)


@settings(deadline=None)
@given(lengths, st.integers(1, 20), st.integers(1, 7))
def test_sliding_windows_show_every_frame_when_testing(
    num_frames: int, frames: int, hop: int
) -> None:
    windows = Sliding(frames, hop=min(hop, frames)).windows(num_frames, 1.0, rng=None)
    assert set(windows.frames[windows.mask]) == set(range(num_frames))


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 32), st.integers(1, 4))
def test_windows_side_by_side_are_as_many_as_whole_blocks(
    num_frames: int, frames: int, stride: int
) -> None:
    block = frames * stride
    sampler = Sliding(frames, stride=stride, hop=block, end="drop")
    windows = sampler.windows(num_frames, 1.0, rng=None)
    assert len(windows.frames) == max(1, num_frames // block)
    np.testing.assert_array_equal(windows.frames[:, 0], np.arange(len(windows.frames)) * block)
    shown = windows.frames[windows.mask]
    assert len(set(shown)) == len(shown)  # no frame counts twice
    assert windows.mask.all() or num_frames < block


@settings(deadline=None)
@given(lengths, st.integers(1, 20), st.integers(1, 7))
def test_windows_that_overlap_are_those_of_flush_without_its_last(
    num_frames: int, frames: int, hop: int
) -> None:
    hop = min(hop, frames)
    flush = Sliding(frames, hop=hop).windows(num_frames, 1.0, rng=None).frames[:, 0]
    drop = Sliding(frames, hop=hop, end="drop").windows(num_frames, 1.0, rng=None).frames[:, 0]
    np.testing.assert_array_equal(drop, [start for start in flush if start % hop == 0])


def test_training_draws_from_whole_windows_only() -> None:
    sampler = Sliding(4, hop=4, clips=50, end="drop")
    windows = sampler.windows(11, 1.0, rng=np.random.default_rng(0))
    assert set(windows.frames[:, 0]) == {0, 4}


def test_an_end_that_is_none_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="'flush' or 'drop'"):
        build_sampler({"name": "sliding", "frames": 4, "end": "loop"})


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 59), st.integers(1, 21))
def test_a_centred_window_has_its_target_in_the_middle(
    num_frames: int, target: int, frames: int
) -> None:
    target = target % num_frames
    windows = Centered(frames).windows(num_frames, 1.0, rng=None, frame=target)
    assert windows.frames[0, frames // 2] == target
    assert windows.mask[0, frames // 2]


@given(st.integers(2, 60), st.integers(1, 10))
def test_segments_take_one_frame_from_each_equal_part(num_frames: int, segments: int) -> None:
    sampler = Segments(segments, join=True)
    windows = sampler.windows(num_frames, 1.0, rng=np.random.default_rng(0))
    used = min(segments, num_frames)
    parts = windows.frames[0, :used] * used // num_frames
    assert abs(parts - np.arange(used)).max() <= 1
    assert windows.mask[0, :used].all()
    assert not windows.mask[0, used:].any()


@given(st.integers(1, 9), st.integers(1, 10), st.integers(1, 3))
def test_segments_as_clips_of_their_own_are_never_empty(
    num_frames: int, segments: int, frames: int
) -> None:
    windows = Segments(segments, frames).windows(num_frames, 1.0, rng=np.random.default_rng(0))
    assert windows.frames.shape == (segments, frames)
    assert windows.mask[:, 0].all()
    assert (np.diff(windows.frames[:, 0]) >= 0).all()


def test_a_length_in_mm_is_the_same_anatomy_in_thin_and_thick_slices() -> None:
    thin = Centered(frames_mm=40.0).windows(200, 1.0, rng=None).frames.shape[1]
    thick = Centered(frames_mm=40.0).windows(200, 5.0, rng=None).frames.shape[1]
    assert (thin, thick) == (41, 9)


def test_frames_spread_over_mm_are_symmetric_about_the_target() -> None:
    extent = measure_extent(100, 2.5, frames=5, frames_mm=50.0, stride=1)
    np.testing.assert_array_equal(extent.offsets - extent.offsets[2], [-8, -4, 0, 4, 8])


def test_a_short_stack_is_padded_at_its_edge_and_never_looped() -> None:
    windows = Dense(frames=6).windows(4, 1.0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(windows.frames, [[0, 1, 2, 3, 3, 3]])
    np.testing.assert_array_equal(windows.mask, [[1, 1, 1, 1, 0, 0]])


def test_without_a_length_the_whole_stack_is_one_clip() -> None:
    windows = build_sampler("dense").windows(7, 1.0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(windows.frames, [np.arange(7)])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "dens"}, "Did you mean `dense`?"),
        ({"name": "dense", "frame": 3}, "Did you mean `frames`?"),
        ({"name": "dense", "frames": 0}, "must be above 0"),
        ({"name": "centered"}, "needs `frames` or `frames_mm`"),
        ({"name": "dense", "frames": "many"}, "cannot use it"),
    ],
)
def test_a_sampler_that_cannot_be_meant_is_a_sentence(spec: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        build_sampler(spec)


def test_every_sampler_of_the_table_is_documented() -> None:
    assert SAMPLERS
    assert all("Args:" in (sampler.__doc__ or "") for sampler in SAMPLERS.values())
