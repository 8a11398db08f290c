"""Pairs of clips for a pre-training without labels: the same clip twice, or two patients' clips.

Every clip of a data set stands in two pairs an epoch, once with itself and once with a clip of
another patient, so that guessing is right half of the time. Another patient, not only another
scan: two scans of one patient, or two regions of one scan, may well show the same thing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from medvid.contract import DataError
from medvid.data.dataset import ClipDataset, draw_generator
from medvid.data.loader import EpochBatchSampler, choose_workers, collate, pad_time

ANSWERS = ("other", "same")
"""The two classes: the second clip is of another patient, or is the first one."""

STACKED = ("clip", "mask", "positions", "window")
"""What both clips of a pair have of their own; they lie one behind the other along N."""


@dataclass(frozen=True)
class PairDataset(Dataset[dict[str, Any]]):
    """Two pairs for every clip: item 2k is clip k with itself, 2k + 1 with another patient's.

    In training the other patient is drawn anew in every epoch, keyed by (seed, epoch, case); in
    testing it is always the same.

    Args:
        clips: what is paired. Of an item with several clips the middle one is taken.

    Raises:
        DataError: when all clips are of one patient.
    """

    clips: ClipDataset
    patients: NDArray[np.str_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = np.array([item.record.patient_id for item in self.clips.items], dtype=np.str_)
        object.__setattr__(self, "patients", names)
        if len(np.unique(names)) < 2:
            raise DataError(
                "Pairs of clips of different patients need two patients on every side of a split, "
                f"and one side has {len(self.clips)} clip(s) of fewer. Use fewer folds, a larger "
                "`data.splits.validation`, or more patients.",
                code="too_few_patients",
            )

    def __len__(self) -> int:
        return 2 * len(self.clips)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Returns the Sample of a pair; the key is an index, or (epoch, index).

        Its clips are (2, C, T, H, W), its label an index of `ANSWERS`, and its case_id names both.

        Raises:
            MedvidError: when a stack cannot be read; the message names the case.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        item, other = divmod(index, 2)
        own = _take_middle(self.clips[epoch, item])
        shown = _take_middle(self.clips[epoch, self.find_partner(epoch, item)]) if other else own
        longest = max(sample["mask"].shape[-1] for sample in (own, shown))
        first, second = pad_time(own, longest), pad_time(shown, longest)
        if first["clip"].shape != second["clip"].shape:
            # The sentence about sizes, and how to make them one, is the loader's.
            collate([_only_clip(first), _only_clip(second)])
        pair: dict[str, Any] = {key: torch.stack([first[key], second[key]]) for key in STACKED}
        return pair | {
            "spacing": own["spacing"],
            "label": torch.tensor(1 - other),
            "case_id": f"{own['case_id']} | {shown['case_id']}",
            "patient_id": own["patient_id"],
            "frame": own["frame"],
        }

    def find_partner(self, epoch: int, item: int) -> int:
        """Returns the item of another patient that is shown in place of `item`."""
        own = self.clips.items[item]
        turn = epoch if self.clips.training else 0
        rng = draw_generator(self.clips.seed, turn, f"partner|{own.record.case_id}", own.frame)
        return int(rng.choice(np.flatnonzero(self.patients != self.patients[item])))


def build_pair_loader(
    pairs: PairDataset, *, batch_size: int, workers: int | Literal["auto"] = "auto"
) -> DataLoader[dict[str, Any]]:
    """Builds the loader of a data set of pairs; shuffled in training, in order in testing.

    Args:
        pairs: what to load.
        batch_size: pairs of a batch.
        workers: loading processes, as in `medvid.data.loader.build_loader`.
    """
    batches = EpochBatchSampler(
        len(pairs), batch_size, seed=pairs.clips.seed, shuffle=pairs.clips.training
    )
    number = choose_workers() if workers == "auto" else workers
    return DataLoader(
        pairs,
        batch_sampler=batches,
        num_workers=number,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=number > 0,
    )


def _take_middle(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Returns one clip of a sample; the label is left out, as T no longer is what it was for."""
    single = {key: value for key, value in sample.items() if key != "label"}
    if sample["clip"].ndim == 5:
        middle = len(sample["clip"]) // 2
        single |= {key: sample[key][middle] for key in STACKED}
    return single


def _only_clip(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {key: sample[key] for key in ("clip", "mask", "case_id")}
