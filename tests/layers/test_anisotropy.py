import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.layers.anisotropy import COARSE, KEPT, Stage, plan_stages, shrink_size

HALVINGS = [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
Millimetres = tuple[float, float, float]
Size = tuple[int, int, int]


def test_five_mm_slices_wait_for_three_in_plane_halvings() -> None:
    stages = plan_stages(HALVINGS, spacing=(5.0, 0.5, 0.5), clip_size=None)
    assert [stage.stride for stage in stages] == [(1, 2, 2)] * 3 + [(2, 2, 2)] * 2
    assert [stage.kernel((3, 3, 3)) for stage in stages] == [(1, 3, 3)] * 3 + [(3, 3, 3)] * 2


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_up_to_twice_the_pixel_size_the_paper_s_strides_stay(spacing: Millimetres | None) -> None:
    stages = plan_stages(HALVINGS, spacing=spacing, clip_size=None)
    assert stages == [Stage(mixes_slices=True, stride=stride) for stride in HALVINGS]


def test_five_slices_of_32_pixels_are_never_halved_below_two() -> None:
    stages = plan_stages(HALVINGS, spacing=None, clip_size=(5, 32, 32))
    assert [stage.stride for stage in stages] == [
        (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_few_slices_leave_rows_and_columns_as_they_are(frames: int) -> None:
    stages = plan_stages(HALVINGS, spacing=(0.6, 0.8, 0.8), clip_size=(frames, 112, 112))
    assert [stage.stride[1:] for stage in stages] == [(2, 2)] * 5
    assert {stage.kernel((3, 3, 3))[1:] for stage in stages} == {(3, 3)}


def test_ceil_mode_keeps_what_does_not_divide() -> None:
    assert shrink_size((16, 112, 112), HALVINGS) == (1, 4, 4)
    assert shrink_size((24, 112, 112), HALVINGS) == (2, 4, 4)


@settings(max_examples=60, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.2, 10.0)] * 3),
    size=st.tuples(*[st.integers(1, 200)] * 3),
)
def test_slices_wait_while_coarse_and_no_axis_falls_below_what_is_kept(
    spacing: Millimetres, size: Size
) -> None:
    distance = list(spacing)
    stages = plan_stages(HALVINGS, spacing=spacing, clip_size=size)
    for stage in stages:
        waits = distance[0] > COARSE * min(distance[1:])
        assert stage.mixes_slices is not waits
        assert stage.stride[0] == 1 or not waits
        distance = [d * step for d, step in zip(distance, stage.stride, strict=True)]
    left = shrink_size(size, [stage.stride for stage in stages])
    assert all(after >= min(before, KEPT) for before, after in zip(size, left, strict=True))
