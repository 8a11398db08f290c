"""The made-up tasks of the abdomen: the order of slices decides, or the number of lesions."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from medvid.data.abdomen import FEW, MANY
from medvid.data.anatomy import Phantom
from medvid.data.phantoms import make_phantom

CASES = 300
# The AUC of a feature without information has s.d. sqrt((n + 1) / 3) / n for n cases, half of them
# positive: 0.0334. Three of them.
CHANCE = 0.1
# Level of every Kolmogorov-Smirnov test: with about 30 of them, one false alarm in 30 data sets.
LEVEL = 0.001
MIDDLE = 8


@pytest.fixture(scope="module")
def aortas() -> list[Phantom]:
    return [make_phantom("direction", index) for index in range(CASES)]


@pytest.fixture(scope="module")
def livers() -> list[Phantom]:
    return [make_phantom("count", index) for index in range(CASES)]


def measure_auc(phantoms: list[Phantom], values: NDArray[np.float64]) -> float:
    return float(roc_auc_score([p.label in ("rising", "many") for p in phantoms], values))


def follow_contrast(phantom: Phantom) -> NDArray[np.float64]:
    """Returns the mean HU of the artery in every slice."""
    return phantom.volume[:, 12:16, 12:16].mean(axis=(1, 2))


def measure_trend(phantom: Phantom, window: int) -> float:
    """Returns the slope of the contrast in a window around the middle."""
    near = follow_contrast(phantom)[MIDDLE - window // 2 : MIDDLE + window // 2 + 1]
    return float(np.polyfit(np.arange(window), near, 1)[0])


def count_lesions(phantom: Phantom, window: int) -> float:
    """Returns how many dark spots a window around the middle shows."""
    near = phantom.volume[MIDDLE - window // 2 : MIDDLE + window // 2 + 1].astype(float)
    smooth = ndimage.gaussian_filter(near, (0, 1, 1))
    return float(ndimage.label(smooth < np.median(near) - 28)[1])


@pytest.mark.parametrize(("depth", "middle"), [(17, (8,)), (16, (7, 8)), (9, (4,))])
def test_middle_slices_of_rising_and_falling_are_the_same_voxels(
    depth: int, middle: tuple[int, ...]
) -> None:
    for index in range(10):
        pair = [
            make_phantom("direction", index, size=(depth, 28, 28), label=label).volume.astype(float)
            for label in ("rising", "falling")
        ]
        apart = (pair[0] - pair[1])[:, 12:16, 12:16].mean(axis=(1, 2))
        assert not np.abs(pair[0] - pair[1])[list(middle)].any()
        assert apart[-1] > 40
        assert apart[0] < -40


def describe_middle(phantom: Phantom) -> dict[str, float]:
    image = phantom.volume[MIDDLE].astype(float)
    h, w = np.mgrid[:28, :28]
    artery = (image > 120) & (np.hypot(h - 13.5, w - 13.5) < 8)
    return {
        "area": float(artery.sum()),
        "contrast": float(image[12:16, 12:16].mean()),
        "row": float(h[artery].mean()),
        "column": float(w[artery].mean()),
        "mean": float(image.mean()),
        "noise": float(image[12:16, 12:16].std()),
        "slice_mm": phantom.spacing[0],
        "pixel_mm": phantom.spacing[1],
    }


def test_no_measure_of_the_middle_slice_tells_the_direction(aortas: list[Phantom]) -> None:
    rows = [describe_middle(phantom) for phantom in aortas]
    rising = np.array([phantom.label == "rising" for phantom in aortas])
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        assert values.std() > 0
        assert ks_2samp(values[rising], values[~rising]).pvalue > LEVEL, name
        assert measure_auc(aortas, values) == pytest.approx(0.5, abs=CHANCE), name


def test_a_classifier_of_the_middle_slice_does_not_tell_the_direction(
    aortas: list[Phantom],
) -> None:
    images = np.array([phantom.volume[MIDDLE, 4:24, 4:24].ravel() for phantom in aortas])
    labels = np.array([phantom.label == "rising" for phantom in aortas])
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0, n_jobs=1)
    scores = cross_val_predict(forest, images, labels, cv=5, method="predict_proba")[:, 1]
    assert roc_auc_score(labels, scores) == pytest.approx(0.5, abs=CHANCE)


def test_the_order_of_slices_tells_the_direction(aortas: list[Phantom]) -> None:
    aucs = [
        measure_auc(aortas, np.array([measure_trend(phantom, window) for phantom in aortas]))
        for window in (3, 5, 9, 17)
    ]
    assert aucs[0] < 0.75
    assert aucs[0] + 0.05 < aucs[1] < aucs[2]
    assert min(aucs[2:]) > 0.99


def test_without_their_order_the_slices_do_not_tell_the_direction(aortas: list[Phantom]) -> None:
    # Sorted by contrast, which forgets the order of slices and keeps everything else.
    levels = np.array([np.sort(follow_contrast(phantom)) for phantom in aortas])
    labels = np.array([phantom.label == "rising" for phantom in aortas])
    for values in (*levels.T, levels.mean(axis=1), levels.std(axis=1)):
        assert ks_2samp(values[labels], values[~labels]).pvalue > LEVEL
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0, n_jobs=1)
    scores = cross_val_predict(forest, levels, labels, cv=5, method="predict_proba")[:, 1]
    assert roc_auc_score(labels, scores) == pytest.approx(0.5, abs=CHANCE)


def test_many_and_few_differ_by_the_further_lesions_alone() -> None:
    for index in range(10):
        many, few = (
            make_phantom("count", index, label=label).volume.astype(float)
            for label in ("many", "few")
        )
        assert (many <= few + 1).all()
        _, found = ndimage.label(few - many > 20)
        assert found == MANY - FEW


def test_every_slice_that_is_left_out_costs_the_count_something(livers: list[Phantom]) -> None:
    aucs = [
        measure_auc(livers, np.array([count_lesions(phantom, window) for phantom in livers]))
        for window in (1, 5, 9, 13, 17)
    ]
    assert all(wide - narrow > 0.04 for narrow, wide in pairwise(aucs))
    assert aucs[0] < 0.65
    assert aucs[-1] > 0.97


def test_lesions_lie_in_all_slices_alike() -> None:
    shown = np.zeros(17)
    for index in range(100):
        many, few = (make_phantom("count", index, label=label).volume for label in ("many", "few"))
        shown += (few.astype(float) - many > 20).any(axis=(1, 2))
    # Two further lesions, each in 1 slice or 2; at the ends the one of them may lie outside.
    assert shown.min() > 0.4 * shown.mean()
    assert shown.max() < 1.6 * shown.mean()


def test_what_is_not_the_answer_is_alike_in_both_classes(livers: list[Phantom]) -> None:
    many = np.array([phantom.label == "many" for phantom in livers])
    measures = {
        "liver": [float(np.median(phantom.volume)) for phantom in livers],
        "brightest": [float(np.percentile(phantom.volume, 99)) for phantom in livers],
        "slice_mm": [phantom.spacing[0] for phantom in livers],
        "pixel_mm": [phantom.spacing[1] for phantom in livers],
    }
    for name, values in measures.items():
        measured = np.array(values)
        assert ks_2samp(measured[many], measured[~many]).pvalue > LEVEL, name
        assert measure_auc(livers, measured) == pytest.approx(0.5, abs=CHANCE), name


def test_tissues_of_the_abdomen_have_their_hu(aortas: list[Phantom], livers: list[Phantom]) -> None:
    levels = np.array([follow_contrast(phantom)[MIDDLE] for phantom in aortas])
    assert 150 < levels.min() < levels.max() < 370
    assert np.median([np.percentile(p.volume, 5) for p in aortas]) == pytest.approx(-110, abs=20)
    medians = np.array([np.median(phantom.volume) for phantom in livers])
    assert 90 < medians.min() < medians.max() < 130
