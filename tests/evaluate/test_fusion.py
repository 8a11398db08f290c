"""Fusion of crops and clips by the sparsity concentration index."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medvid.evaluate.fusion import fuse_clips, fuse_crops, measure_concentration

CROPS = 18
"""The paper's: nine places, mirrored."""


def draw_scores(*shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(5).dirichlet(np.ones(shape[-1]), size=shape[:-1])


def test_one_class_alone_is_1_and_all_alike_are_0() -> None:
    for classes in (2, 3, 101):
        assert measure_concentration(np.eye(classes)).tolist() == [1.0] * classes
        assert measure_concentration(np.full(classes, 1 / classes)) == pytest.approx(0, abs=1e-12)


def test_of_two_classes_it_is_the_distance_from_a_half() -> None:
    p = np.linspace(0, 1, 11)
    index = measure_concentration(np.stack([p, 1 - p], axis=1))
    np.testing.assert_allclose(index, np.abs(2 * p - 1), atol=1e-12)


def test_it_does_not_depend_on_the_sum_of_the_scores() -> None:
    scores = draw_scores(6, 4)
    np.testing.assert_allclose(measure_concentration(7 * scores), measure_concentration(scores))


@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=20))
def test_it_lies_between_0_and_1(scores: list[float]) -> None:
    assert 0 <= measure_concentration(np.array(scores)) <= 1


def test_it_is_not_entropy() -> None:
    """The same highest score gives the same index, whatever the others are."""
    index = measure_concentration(np.array([[0.6, 0.4, 0.0], [0.6, 0.2, 0.2]]))
    assert index[0] == index[1] == pytest.approx((3 * 0.6 - 1) / 2)


def test_a_sure_crop_among_unsure_ones_is_the_answer() -> None:
    scores = np.full((CROPS, 4), 0.25)
    scores[7] = [0, 0, 1, 0]
    np.testing.assert_allclose(fuse_crops(scores), [0, 0, 1, 0], atol=1e-12)


def test_where_no_crop_is_sure_of_anything_all_count_alike() -> None:
    np.testing.assert_allclose(fuse_crops(np.full((CROPS, 4), 0.25)), [0.25] * 4)


def test_one_clip_of_unsure_crops_does_not_disturb_another() -> None:
    scores = draw_scores(2, CROPS, 4)
    alone = fuse_crops(scores[1])
    scores[0] = 0.25
    fused = fuse_crops(scores)
    np.testing.assert_allclose(fused[0], 0.25)
    np.testing.assert_allclose(fused[1], alone)


def test_it_is_the_formula() -> None:
    """Against a direct evaluation, sum by sum."""
    clips, crops, classes = 5, CROPS, 6
    scores = draw_scores(clips, crops, classes)
    highest = [0.0] * classes
    for clip in scores:
        weights = [(classes * max(p) / sum(p) - 1) / (classes - 1) for p in clip]
        for j in range(classes):
            mean = sum(w * p[j] for w, p in zip(weights, clip, strict=True)) / sum(weights)
            highest[j] = max(highest[j], mean)
    np.testing.assert_allclose(fuse_clips(scores), highest, rtol=1e-12)


def test_crops_that_sum_to_1_give_a_sum_of_1_and_clips_more() -> None:
    scores = draw_scores(5, CROPS, 4)
    np.testing.assert_allclose(fuse_crops(scores).sum(axis=1), 1)
    assert fuse_clips(scores).sum() > 1


def test_the_clip_that_shows_the_finding_is_not_outvoted() -> None:
    scores = np.tile([0.65, 0.35], (5, CROPS, 1))
    scores[2] = [0.02, 0.98]
    assert fuse_clips(scores).argmax() == 1
    assert scores.mean(axis=(0, 1)).argmax() == 0


def test_clips_may_have_different_numbers_of_crops() -> None:
    scores = draw_scores(1, CROPS, 3)[0]
    wanted = np.maximum(fuse_crops(scores[:4]), fuse_crops(scores[4:]))
    np.testing.assert_allclose(fuse_clips([scores[:4], scores[4:]]), wanted)


def test_a_single_clip_of_a_single_crop_is_itself() -> None:
    np.testing.assert_allclose(fuse_clips(np.array([[[0.3, 0.7]]])), [0.3, 0.7])


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([[[1.0]]], "two classes or more; there are 1"),
        ([[[2.0, -1.0]]], "probabilities, not logits"),
        ([[[np.nan, 1.0]]], "negative or missing"),
        ([[[0.0, 0.0]]], "nothing but zeros"),
        ([[0.5, 0.5]], r"the clips have \[\(2,\)\]"),
        (np.zeros((0, 1, 2)), r"the clips have no number"),
        (np.zeros((1, 0, 2)), r"these are \(0, 2\)"),
    ],
)
def test_scores_that_cannot_be_meant_are_refused(scores: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fuse_clips(np.asarray(scores))
