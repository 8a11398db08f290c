"""Batches of samples, in an order that depends on (seed, epoch) alone."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from medvid.contract import DataError
from medvid.data.dataset import ClipDataset
from medvid.data.labels import UNKNOWN
from medvid.data.sampling import has_own_count

MAX_WORKERS = 8
"""More loading processes than this do not help: clips come out of a memory map."""


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields batches of (epoch, index), shuffled by (seed, epoch).

    Args:
        length: items of the dataset.
        batch_size: items of a batch.
        seed: of the shuffle.
        shuffle: False yields 0, 1, 2, ... every time.
        weights: (length,) how often an item is drawn, relative to the others; an epoch still has
            `length` draws. None draws every item once.
        rank: of this process, for training in several.
        world_size: number of processes; each gets every world_size-th batch. In training a last,
            incomplete round of batches is filled up from the start, so that all take equally many
            steps; in testing every item belongs to exactly one process.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        weights: NDArray[np.float64] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.weights = weights
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration belongs to."""
        self.epoch = epoch

    def shard(self, rank: int, world_size: int) -> None:
        """Gives this process its part of every epoch."""
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(self._turns())

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self._order()
        batches = [
            order[start : start + self.batch_size]
            for start in range(0, self.length, self.batch_size)
        ]
        for number in self._turns():
            yield [(self.epoch, int(index)) for index in batches[number % len(batches)]]

    def _turns(self) -> range:
        """Returns the numbers of this process's batches; those beyond the last start over."""
        batches = -(-self.length // self.batch_size)
        rounds = -(-batches // self.world_size)
        end = rounds * self.world_size if self.shuffle else batches
        return range(self.rank, end, self.world_size)

    def _order(self) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.length, dtype=np.int64)
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.weights is None:
            return rng.permutation(self.length).astype(np.int64)
        share = self.weights / self.weights.sum()
        return rng.choice(self.length, size=self.length, p=share).astype(np.int64)


def balance_weights(dataset: ClipDataset) -> NDArray[np.float64]:
    """Returns (items,) weights under which every class is drawn equally often.

    For multi-label tasks an item counts by its rarest positive finding.

    Raises:
        DataError: for tasks whose items have a label per frame.
    """
    labels = []
    for item in dataset.items:
        given = item.record.label
        if dataset.task == "slice":
            if item.frame is None:
                raise DataError(
                    "`balanced` drawing needs one label an item; use the sampler `centered`.",
                    code="balanced_frames",
                )
            given = (item.record.slice_labels or {}).get(item.frame)
        labels.append(dataset.space.encode(given))
    if dataset.space.multilabel:
        findings = np.nan_to_num(np.array(labels))
        rarity = 1 / np.maximum(findings.sum(axis=0), 1)
        negative = 1 / max(1, int((findings.sum(axis=1) == 0).sum()))
        return np.where(findings.any(axis=1), (findings * rarity).max(axis=1), negative)
    classes = np.array(labels)
    counts = np.bincount(classes[classes != UNKNOWN], minlength=len(dataset.space.classes))
    return np.where(classes == UNKNOWN, 0.0, 1 / np.maximum(counts, 1)[classes])


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stacks samples into a batch; clips of different T are padded by their edge, masked.

    Raises:
        DataError: when the clips differ in C, H or W, or in the number of clips.
    """
    longest = max(sample["mask"].shape[-1] for sample in samples)
    padded = [pad_time(sample, longest) for sample in samples]
    batch: dict[str, Any] = {}
    for key, first in padded[0].items():
        values = [sample[key] for sample in padded]
        if isinstance(first, Tensor):
            if len({value.shape for value in values}) > 1:
                raise _explain_shapes(key, padded)
            batch[key] = torch.stack(values)
        elif isinstance(first, int):
            batch[key] = torch.tensor(values)
        else:
            batch[key] = values
    return batch


def _explain_shapes(key: str, samples: Sequence[dict[str, Any]]) -> DataError:
    sizes = sorted({tuple(sample[key].shape) for sample in samples})
    names = [sample["case_id"] for sample in samples]
    return DataError(
        f"The {key}s of one batch have different sizes, {sizes[0]} and {sizes[-1]} (cases "
        f"{', '.join(names[:4])}, ...). Give all frames one size with `data.crop`, `data.size` or "
        "the transform `resize` or `crop_or_pad`.",
        code="different_sizes",
    )


def pad_time(sample: dict[str, Any], length: int) -> dict[str, Any]:
    """Returns a sample of `length` frames: its edge is repeated, with `mask` False."""
    missing = length - sample["mask"].shape[-1]
    if missing == 0:
        return sample
    old = sample["mask"].shape[-1]
    padded = dict(sample)
    for key, value in sample.items():
        axis = _time_axis(key, value)
        if axis is None:
            continue
        edge = value.narrow(axis, old - 1, 1)
        filler = edge.expand(*(missing if d == axis else n for d, n in enumerate(edge.shape)))
        if key == "mask":
            filler = torch.zeros_like(filler)
        if key == "label":
            filler = torch.full_like(filler, UNKNOWN if not value.is_floating_point() else np.nan)
        padded[key] = torch.cat([value, filler], dim=axis)
    return padded


def _time_axis(key: str, value: Any) -> int | None:
    """Returns the axis of a sample's entry that is T, None when it has none."""
    if not isinstance(value, Tensor) or key == "spacing":
        return None
    if key in ("mask", "positions", "window"):
        return value.ndim - 1
    if key == "label":
        # A class is a number and findings are a vector; one axis more is T.
        plain = 1 if value.is_floating_point() else 0
        return value.ndim - 1 - plain if value.ndim > plain else None
    return value.ndim - 3  # (..., T, H, W)


WITH_VIEWS = 5
"""Axes of an item's clips when it has several: (N, C, T, H, W)."""


def build_loader(
    dataset: ClipDataset,
    *,
    batch_size: int = 16,
    workers: int | Literal["auto"] = "auto",
    balanced: bool = False,
) -> DataLoader[dict[str, Any]]:
    """Builds the loader of a dataset; shuffled in training, in order in testing.

    Args:
        dataset: clips.
        batch_size: items of a batch. In testing it counts clips, so that ten crops of five clips
            need no fifty times the memory; with the sampler `sliding` every case has its own
            number of clips and so its own batch.
        workers: loading processes; `auto` is none on Windows and on small machines, where a memory
            map is read faster than a process is started.
        balanced: draw every class equally often.
    """
    weights = balance_weights(dataset) if balanced else None
    if not dataset.training:
        batch_size = max(1, batch_size // _count_views(dataset))
    batches = EpochBatchSampler(
        len(dataset),
        batch_size,
        seed=dataset.seed,
        shuffle=dataset.training,
        weights=weights,
    )
    number = choose_workers() if workers == "auto" else workers
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=number,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=number > 0,
    )


def _count_views(dataset: ClipDataset) -> int:
    """Returns the clips and crops of an item; more than any batch where items differ."""
    if has_own_count(dataset.sampler):
        return sys.maxsize
    clip = dataset[0]["clip"] if len(dataset) else torch.empty(0)
    return len(clip) if clip.ndim == WITH_VIEWS else 1


def choose_workers() -> int:
    """Returns how many loading processes suit this machine."""
    cores = os.cpu_count() or 1
    if os.name == "nt" or cores <= 4:
        return 0
    return min(MAX_WORKERS, cores // 2)
