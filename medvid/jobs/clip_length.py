"""Whether all cases give clips of a length that the network takes, told before it is trained.

Some networks are built for one number of frames, and learn which from the first case. Batches are
padded to their longest clip, so that a shorter scan passes beside a longer one and stops the run
when it stands alone, after hours. The sampler says from the size of a stack how long its clips are:
no voxel is read.

Nothing is padded to the network's length unasked: the length is that of the first case by chance,
and a longer scan would still not fit. `frames` of the sampler does both, where the user sees it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import numpy as np
from torch import nn

from medvid.contract import DataError, Sampler
from medvid.data.sight import Context
from medvid.data.splits import Fold
from medvid.io.ordering import natural_key
from medvid.jobs.task import TaskData
from medvid.transforms import build_pipeline
from medvid.transforms.resample import Resize

CASES_SHOWN = 3
"""Cases named in a message."""


def refuse_lengths(
    network: nn.Module, data: TaskData, folds: Iterable[Fold], *, augment: bool = True
) -> None:
    """Stops before training when a case's clips have another length than the network takes.

    Args:
        network: a `VideoModel`.
        data: prepared.
        folds: whose cases are trained on and predicted.
        augment: whether training has transforms of its own.

    Raises:
        DataError: when it does; names the first cases and the remedy.
    """
    folds = tuple(folds)
    trained = {case for fold in folds for case in fold.train}
    predicted = {case for fold in folds for case in (*fold.val, *fold.test)}
    in_training = find_unfit(network, data, trained, training=True, augment=augment)
    in_testing = find_unfit(network, data, predicted, training=False)
    if in_training or (in_testing and not data.options["test_sampler"]):
        unfit = in_training | in_testing
        raise _explain_unfit(network, unfit, len(trained | predicted), "data.sampler")
    if in_testing:
        raise _explain_unfit(network, in_testing, len(predicted), "data.test_sampler")


def leave_out_unfit(network: nn.Module, data: TaskData) -> TaskData:
    """Returns the data without the cases whose clips a trained network does not take.

    Raises:
        DataError: when none would be left.
    """
    cases = [record.case_id for record in data.records]
    unfit = find_unfit(network, data, cases, training=False)
    takes, code = _name_limits(network)
    return data.without(
        [
            (
                record,
                DataError(
                    f"It gives a clip of {unfit[record.case_id]} frames, and the network takes "
                    f"{takes}.",
                    code=code,
                ),
            )
            for record in data.records
            if record.case_id in unfit
        ]
    )


def find_unfit(
    network: nn.Module,
    data: TaskData,
    cases: Collection[str],
    *,
    training: bool,
    augment: bool = True,
) -> dict[str, int]:
    """Returns the cases whose clips have a length that the network does not take, with that T.

    Args:
        network: a `VideoModel`.
        data: prepared.
        cases: their ids.
        training: whether their clips are those of training or of testing.
        augment: whether training has transforms of its own.
    """
    exact, least = _find_limits(network)
    if exact is None and least <= 1:
        return {}
    sampler = data.sampler if training else data.test_sampler
    pipeline = build_pipeline(data.transforms, training=training and augment)
    made = [
        step.size[0]
        for step in pipeline.transforms
        if isinstance(step, Resize) and step.size is not None and len(step.size) == 3
    ]
    unfit = {}
    for record in data.records:
        if record.case_id in cases:
            stack = data.store.open(record)
            frames = count_frames(sampler, stack.num_frames, stack.spacing[0], training=training)
            frames = made[-1] if made else frames
            if frames < least or exact not in (None, frames):
                unfit[record.case_id] = frames
    return unfit


def count_frames(sampler: Sampler, num_frames: int, step: float, *, training: bool) -> int:
    """Returns T of the clips that a sampler cuts out of a stack.

    Args:
        sampler: which frames make a clip.
        num_frames: of the stack.
        step: distance of neighbouring frames, in mm.
        training: whether it draws; where a clip lies does not change its length.
    """
    if isinstance(sampler, Context):
        return sampler.length
    rng = np.random.default_rng(0) if training else None
    return sampler.windows(num_frames, step, rng=rng).frames.shape[1]


def _find_limits(network: nn.Module) -> tuple[int | None, int]:
    """Returns the only T that the network takes, if there is one, and the smallest."""
    surface = cast("Any", network)
    return getattr(network, "exact_frames", None), int(surface.smallest[0])


def _name_limits(network: nn.Module) -> tuple[str, str]:
    """Returns how many frames it takes in words, and the reason code of clips of others."""
    exact, least = _find_limits(network)
    if exact is None:
        return f"at least {least}", "clip_too_small"
    return f"exactly {exact}", "clip_frames"


def _explain_unfit(
    network: nn.Module, unfit: Mapping[str, int], total: int, option: str
) -> DataError:
    exact, least = _find_limits(network)
    first = sorted(unfit, key=natural_key)[:CASES_SHOWN]
    shown = ", ".join(f"{case} ({unfit[case]})" for case in first)
    more = ", ..." if len(unfit) > CASES_SHOWN else ""
    takes, code = _name_limits(network)
    verb = "takes" if exact is None else "was built for"
    return DataError(
        f"{type(network).__name__} {verb} clips of {takes} frames, and {len(unfit)} of {total} "
        f"cases give others: {shown}{more}. Set `{option}.frames: {exact or least}`, which pads "
        "shorter scans and takes a part of longer ones, or choose a model that takes any number; "
        "`medvid models` says which do.",
        code=code,
    )
