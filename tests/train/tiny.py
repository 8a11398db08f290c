"""A tiny model and made-up batches that it learns in a few steps."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler


class Blobs(Dataset[dict[str, Any]]):
    """Clips whose mean says their class; deterministic from the index."""

    def __init__(self, length: int, *, clips: int | None = None, multilabel: bool = False) -> None:
        self.length = length
        self.clips = clips
        self.multilabel = multilabel

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        lead = () if self.clips is None else (self.clips,)
        label = index % 2
        clip = torch.randn(*lead, 1, 3, 4, 4, generator=generator) + label
        findings = torch.tensor([float(label), float(index % 3 == 0)])
        return {
            "clip": clip,
            "mask": torch.ones(*lead, 3, dtype=torch.bool),
            "positions": torch.arange(3.0).expand(*lead, 3),
            "spacing": torch.ones(3),
            "label": findings if self.multilabel else torch.tensor(label),
            "case_id": f"case{index}",
            "patient_id": f"patient{index // 2}",
            "frame": -1,
            "window": torch.arange(3).expand(*lead, 3),
        }


class EpochBatches(Sampler[list[int]]):
    """Shuffles by (seed, epoch), as the loader of medvid.data."""

    def __init__(self, length: int, size: int, *, shuffle: bool) -> None:
        self.length = length
        self.size = size
        self.shuffle = shuffle
        self.epoch = 0
        self.rank = 0
        self.world_size = 1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def shard(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size

    def _batches(self) -> list[list[int]]:
        order = list(range(self.length))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.epoch)
            order = torch.randperm(self.length, generator=generator).tolist()
        batches = [order[i : i + self.size] for i in range(0, self.length, self.size)]
        if self.shuffle:  # in training all processes take equally many steps
            batches += batches[: -len(batches) % self.world_size]
        return batches[self.rank :: self.world_size]

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Any:
        return iter(self._batches())


class TinyNet(nn.Module):
    """Averages a clip; with dropout and a norm, so that random numbers and buffers matter."""

    modalities = ("clip",)
    smallest = (1, 1, 1)

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(4, num_classes)

    def features(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.norm(self.conv(clip)).relu().mean(dim=(2, 3, 4))

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(self.dropout(self.features(clip)))


class FrameNet(TinyNet):
    """Scores every frame by itself."""

    def frame_logits(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        frames = self.norm(self.conv(clip)).relu().mean(dim=(3, 4))
        return self.head(frames.transpose(1, 2))


def build_net(seed: int = 0, num_classes: int = 2) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet(num_classes)


def build_loader(length: int, *, shuffle: bool, **options: Any) -> DataLoader[dict[str, Any]]:
    batches = EpochBatches(length, 4, shuffle=shuffle)
    return DataLoader(Blobs(length, **options), batch_sampler=batches)
