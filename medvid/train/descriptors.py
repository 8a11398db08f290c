"""The start of models whose first weights are estimated from training clips.

A vocabulary of anchors is found in local descriptors before the first epoch. Models never see data,
and training knows no model by name: a model says that it waits for descriptors, gives those of a
clip, and is given a sample of them (`contract.VideoModel`).
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvid.contract import DataError
from medvid.train.forward import Batch, gather_inputs
from medvid.train.predict import evaluating, move_batch

MOST_FRAMES = 5000
"""Frames that are looked at, as ActionVLAD does; later ones would hardly move a k-means centre."""

PER_FRAME = 20
"""Positions drawn from a frame. 100,000 descriptors in all are 1,500 for each of 64 anchors, and
200 MB at 512 features; all 196 positions of a frame are much alike."""


def awaits_descriptors(model: nn.Module) -> bool:
    """Tells whether a model's start is still to be found in training clips."""
    return bool(getattr(model, "awaits_descriptors", False))


def start_from_data(
    model: nn.Module, batches: Iterable[Batch], *, seed: int, device: torch.device
) -> int:
    """Gives a model that waits for them descriptors of training clips; others are left alone.

    Args:
        model: is back on the CPU afterwards, in its old mode.
        batches: of the fold's training cases and of no other, or the test set has a say.
        seed: of the draw of positions and of the model's own search.
        device: what to compute on.

    Returns:
        How many descriptors the model was given; 0 when it did not wait for any.

    Raises:
        DataError: when a descriptor is not a number.
        ConfigError: when the clips give fewer descriptors than the model needs.
    """
    if not awaits_descriptors(model):
        return 0
    descriptors = collect_descriptors(model, batches, seed=seed, device=device)
    cast("Any", model).initialize_from(descriptors, seed)
    return len(descriptors)


def collect_descriptors(
    model: nn.Module, batches: Iterable[Batch], *, seed: int, device: torch.device
) -> Float[Tensor, "n features"]:
    """Returns local descriptors at random positions of the first frames that the batches show.

    Training batches come in random order, so the first frames are those of random cases.

    Raises:
        DataError: when a descriptor is not a number.
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    frames = 0
    model.to(device)
    with _describing(model), torch.no_grad():
        for batch in batches:
            inputs, mask, _ = gather_inputs(model, move_batch(batch, device))
            maps: Tensor = cast("Any", model).local_descriptors(*inputs, mask=mask)
            sample = _draw_positions(maps.float().cpu()[: MOST_FRAMES - frames], generator)
            if not bool(sample.isfinite().all()):
                raise DataError(
                    "A local descriptor of the cases "
                    f"{', '.join(map(str, batch.get('case_id', ['?'])))} is not a number. Look for "
                    "NaN voxels in them with `medvid check`.",
                    code="descriptor_not_finite",
                )
            found.append(sample.flatten(0, 1))
            frames += len(sample)
            if frames >= MOST_FRAMES:
                break
    model.to("cpu")
    return torch.cat(found)


def _draw_positions(
    maps: Float[Tensor, "frames positions features"], generator: torch.Generator
) -> Float[Tensor, "frames drawn features"]:
    """Returns as many random positions of every frame as are wanted, other ones in each."""
    frames, positions, features = maps.shape
    order = torch.rand(frames, positions, generator=generator).argsort(dim=1)[:, :PER_FRAME]
    return maps.gather(1, order[..., None].expand(-1, -1, features))


@contextlib.contextmanager
def _describing(model: nn.Module) -> Iterator[None]:
    """Puts a model into eval mode, but for batch norms that have not seen a batch yet.

    Those know no statistics: they take the batch's, as they will in the first step of training,
    and are as new afterwards.
    """
    fresh = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.num_batches_tracked is not None
        and int(module.num_batches_tracked) == 0
    ]
    with evaluating(model):
        for norm in fresh:
            norm.train()
        yield
    for norm in fresh:
        norm.reset_running_stats()
