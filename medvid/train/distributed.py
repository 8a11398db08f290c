"""Several processes on one training: who is who, and what they must agree on.

medvid starts no processes by itself: `torchrun --nproc-per-node 4 -m medvid train ...` does, on one
machine or on many. torchrun tells every process its place in environment variables of its own.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch.distributed.rendezvous import rendezvous

from medvid.contract import ConfigError

PATIENCE = timedelta(hours=2)  # the first process may prepare a whole data set meanwhile


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of one training.

    Args:
        rank: 0 writes the files.
        world_size: processes in all.
        local_world_size: processes on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def machines(self) -> int:
        """How many machines take part."""
        return self.world_size // self.local_world_size


def find_place() -> Place:
    """Returns this process's place; alone when torchrun did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    return Place(*(int(os.environ[name]) for name in names))


def share_from_first(key: str, value: str) -> str:
    """Returns the first process's `value` in every process; the others wait for it.

    With it all processes of a training agree on the run folder that one of them made.
    """
    place = find_place()
    if place.world_size == 1:
        return value
    store, _, _ = next(rendezvous("env://"))
    store.set_timeout(PATIENCE)
    if place.rank == 0:
        store.set(f"medvid/{key}", value)
    answer: bytes = store.get(f"medvid/{key}")
    return answer.decode()


def shard_loader(loader: Iterable[Any], place: Place) -> bool:
    """Tells a loader's batch sampler which share of the batches is this process's.

    The batch sampler does the work in `shard(rank, world_size)`: in training every process must
    get the same number of batches, in validation every case exactly one process.

    Returns:
        Whether the loader now gives a share only.
    """
    shard = getattr(getattr(loader, "batch_sampler", None), "shard", None)
    if shard is None:
        return False
    shard(place.rank, place.world_size)
    return place.world_size > 1


def refuse_unsharded(loader: Iterable[Any], place: Place) -> None:
    """Makes sure that processes do not all train on the same batches.

    Raises:
        ConfigError: when the loader cannot be shared out.
    """
    if place.world_size > 1 and not shard_loader(loader, place):
        raise ConfigError(
            f"{place.world_size} processes train together, and the loader's batch sampler has no "
            "method `shard(rank, world_size)`: all would train on the same batches. Take the "
            "loader of medvid.data.",
            code="no_shard",
        )
