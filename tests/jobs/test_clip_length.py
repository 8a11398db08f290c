"""A network that takes one number of frames meets scans of several depths."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvid.config import read_config
from medvid.contract import DataError
from medvid.data.sampling import SAMPLERS, build_sampler
from medvid.jobs.check import check
from medvid.jobs.clip_length import count_frames
from tests.jobs.conftest import Cli

EARLY_FUSION = "model={name: early_fusion, width: 3, stem: small, head: pool, init: he}"
WHOLE = "data.sampler={name: dense}"

SPECS: list[dict[str, Any]] = [
    {"name": "dense"},
    {"name": "dense", "frames": 5, "clips": 2},
    {"name": "dense", "frames_mm": 12.0},
    {"name": "uniform", "frames": 4, "frames_mm": 30.0},
    {"name": "segments", "segments": 3, "frames": 2, "join": True},
    {"name": "centered", "frames_mm": 12.0, "jitter": 2},
    {"name": "sliding", "frames": 4, "hop": 2},
    {"name": "sliding"},
    {"name": "context", "length": 5, "window": 3, "positions": "every"},
]


@pytest.fixture
def uneven(project: Path) -> Path:
    """The project, every third of its scans with 7 slices in place of 5."""
    rng = np.random.default_rng(1)
    for case in range(1, 24, 3):
        volume = rng.normal(80 if case % 2 else 20, 10, (7, 16, 16)).astype(np.int16)
        np.save(project / f"scans/case {case}.npy", volume)
    return project


def test_every_sampler_is_among_those_of_this_file() -> None:
    assert {spec["name"] for spec in SPECS} == set(SAMPLERS)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(
    num_frames=st.integers(1, 40),
    step=st.sampled_from([0.7, 1.0, 5.0]),
    seed=st.integers(0, 9),
    share=st.floats(0, 1, exclude_max=True),
)
def test_no_draw_and_no_target_changes_the_length_of_a_clip(
    spec: dict[str, Any], num_frames: int, step: float, seed: int, share: float
) -> None:
    sampler = build_sampler(spec)
    for rng in (np.random.default_rng(seed), None):
        clips = sampler.windows(num_frames, step, rng=rng, frame=int(share * num_frames))
        told = count_frames(sampler, num_frames, step, training=rng is not None)
        assert clips.frames.shape[1] == told


def test_check_refuses_scans_of_another_depth_than_the_network_was_built_for(
    uneven: Path,
) -> None:
    with pytest.raises(DataError, match="EarlyFusion was built for clips of exactly 5") as refused:
        check(read_config("tiny.yaml", [EARLY_FUSION, WHOLE]))
    assert "8 of 24 cases give others: c1 (7), c4 (7), c7 (7), ..." in refused.value.message
    assert "Set `data.sampler.frames: 5`" in refused.value.message
    assert (refused.value.code, refused.value.exit_code) == ("clip_frames", 3)


def test_training_stops_before_its_first_epoch(uneven: Path, run_cli: Cli) -> None:
    answer = run_cli("train", "tiny.yaml", EARLY_FUSION, WHOLE)
    assert answer.code == 3
    assert "Set `data.sampler.frames: 5`" in answer.err
    assert not list(uneven.rglob("history.csv"))
    assert not (uneven / "runs").exists()


def test_predict_leaves_out_a_scan_of_another_depth_with_the_reason(
    project: Path, run_cli: Cli
) -> None:
    words = (EARLY_FUSION, WHOLE, "train.epochs=1", "data.splits={folds: 2, validation: 0}")
    assert run_cli("train", "tiny.yaml", *words, "train.select=last").code == 0
    (run,) = (project / "runs").iterdir()
    np.save(project / "scans/deep.npy", np.zeros((7, 16, 16), np.int16))
    answer = run_cli("predict", run, "scans/deep.npy", "scans/case 0.npy", "-o", "out.csv")
    assert "a clip of 7 frames, and the network takes exactly 5" in answer.out + answer.err
    assert len((project / "out.csv").read_text(encoding="utf-8").splitlines()) == 2
    alone = run_cli("predict", run, "scans/deep.npy", "-o", "none.csv")
    assert alone.code == 3
    assert "a clip of 7 frames" in alone.err


def test_the_sampler_of_testing_is_named_where_it_alone_gives_another_length(uneven: Path) -> None:
    test_sampler = "data.test_sampler={name: dense, frames: 4}"
    with pytest.raises(DataError, match=r"24 of 24 .* Set `data\.test_sampler\.frames: 5`"):
        check(read_config("tiny.yaml", [EARLY_FUSION, "data.sampler.frames=5", test_sampler]))


def test_clips_below_the_smallest_length_are_refused_as_well(uneven: Path) -> None:
    fstcn = (
        "model={name: fstcn, width: 12, step: 1, distance: 5, head: pool, conv_strides: [1, 1], "
        "padded: true}"
    )
    rows = (uneven / "manifest.csv").read_text(encoding="utf-8").splitlines()
    deep_first = [rows[0], rows[2], rows[1], *rows[3:]]
    (uneven / "manifest.csv").write_text("\n".join(deep_first) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"FSTCN takes clips of at least 6 .* c0 \(5\)") as refused:
        check(read_config("tiny.yaml", [fstcn, WHOLE]))
    assert refused.value.code == "clip_too_small"


@pytest.mark.parametrize(
    "overrides",
    [
        (EARLY_FUSION, "data.sampler={name: dense, frames: 5}"),
        (EARLY_FUSION, WHOLE, "transforms.both=[{name: resize, size: [4, 16, 16]}]"),
        (WHOLE,),
    ],
    ids=["frames", "resize", "slicewise"],
)
def test_what_makes_lengths_equal_or_takes_any_is_not_refused(
    uneven: Path, overrides: tuple[str, ...]
) -> None:
    assert dict(check(read_config("tiny.yaml", list(overrides))).facts)["first step"]
