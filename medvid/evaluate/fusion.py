"""Joins the scores of several crops and clips of one video or scan, weighted by how sure each is.

A clip of five that shows the finding should not be outvoted by four that show none of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def measure_concentration(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the sparsity concentration index: 1 for one class alone, 0 for all classes alike.

    SCI(p) = (N max p / |p|_1 - 1) / (N - 1). For two classes it is |2p - 1|. It is no entropy, and
    it is one of probabilities, not of logits.

    Args:
        probabilities: not negative; a row need not sum to 1.

    Shape:
        (..., N) -> (...), N at least 2.

    Raises:
        ValueError: for a single class, a negative or missing number, or a row of zeros.

    References:
        Wright et al., Robust face recognition via sparse representation, TPAMI 2009, section 3.1.
        Sun et al., Human action recognition using factorized spatio-temporal convolutional
        networks, ICCV 2015, section 3.4.
    """
    scores: NDArray[np.float64] = np.asarray(probabilities, dtype=np.float64)
    classes = scores.shape[-1] if scores.ndim else 0
    if classes < 2:
        raise ValueError(f"How sure a score is needs two classes or more; there are {classes}.")
    if not (scores >= 0).all() or not np.isfinite(scores).all():  # NaN is not >= 0 either
        raise ValueError(
            "The scores hold negative or missing numbers; give probabilities, not logits."
        )
    total = scores.sum(axis=-1)
    if not (total > 0).all():
        raise ValueError("A row of scores is nothing but zeros; it names no class.")
    index: NDArray[np.float64] = (classes * scores.max(axis=-1) / total - 1) / (classes - 1)
    # Rounding may leave 1e-16 below 0, where a weight has no meaning.
    return np.asarray(np.clip(index, 0.0, 1.0))


def fuse_crops(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean over crops, each weighted by its concentration.

    When no crop leans to any class, all count alike. Rows that sum to 1 give one that does.

    Args:
        probabilities: of every crop of a clip.

    Shape:
        (..., crops, N) -> (..., N).

    Raises:
        ValueError: see `measure_concentration`; and for a clip without crops.

    References:
        Sun et al., ICCV 2015, section 3.4, the first of the two steps.
    """
    scores: NDArray[np.float64] = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim < 2 or not scores.shape[-2]:
        raise ValueError(f"Scores (..., crops, classes) are needed; these are {scores.shape}.")
    weights = measure_concentration(scores)
    total = weights.sum(axis=-1, keepdims=True)
    shares = np.where(total > 0, weights, 1 / scores.shape[-2]) / np.where(total > 0, total, 1)
    fused: NDArray[np.float64] = np.einsum("...kn,...k->...n", scores, shares)
    return fused


def fuse_clips(
    probabilities: Sequence[NDArray[np.float64]] | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Returns the scores of a video or scan: over clips, each class's highest fused score.

    They say which class it is, but do not sum to 1; divide by their sum where that is needed.

    Args:
        probabilities: of every clip those of its crops; clips may have different numbers of them,
            and one crop a clip leaves the maximum alone.

    Shape:
        clips times (crops, N) -> (N,).

    Raises:
        ValueError: see `fuse_crops`; and for other axes or no clip.

    References:
        Sun et al., ICCV 2015, section 3.4.
    """
    shapes = [np.shape(clip) for clip in probabilities]
    if not shapes or any(len(shape) != 2 for shape in shapes):
        raise ValueError(
            f"Scores (clips, crops, classes) are needed; the clips have {shapes or 'no number'}."
        )
    fused = np.stack([fuse_crops(clip) for clip in probabilities])
    highest: NDArray[np.float64] = fused.max(axis=0)
    return highest
