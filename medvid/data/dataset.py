"""One dataset class for scans and videos, and for the tasks `scan`, `slice` and `region`.

An item is a window: a stack, frame indices, perhaps a rectangle in plane, and a target. Every
random draw is keyed by (seed, epoch, case, frame), so that neither the number of workers nor the
order of a batch changes the data.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from medvid.contract import ConfigError, DataError, MedvidError, Record, Sampler, Stack, Windows
from medvid.data.entries import Prepared
from medvid.data.labels import UNKNOWN, LabelSpace, Task
from medvid.data.place import show_place
from medvid.data.sampling import looks_at_target
from medvid.data.store import Store

Transform = Callable[[dict[str, Any], np.random.Generator | None], dict[str, Any]]


@dataclass(frozen=True)
class Item:
    """What one index of the dataset stands for.

    Args:
        record: the case.
        frame: the frame that the label belongs to; None when it belongs to the stack or to every
            frame of the clip.
    """

    record: Record
    frame: int | None = None


def list_items(
    records: Sequence[Record],
    task: Task,
    sampler: Sampler,
    count_frames: Callable[[Record], int] | None = None,
) -> list[Item]:
    """Lists the items of a task.

    * `scan`: one per record.
    * `slice`: one per labelled frame with the sampler `centered`, and one per frame of a record
      without labels, which is to be predicted; with any other sampler one per record, with a label
      for every frame of the clip (for models with `frame_logits`).
    * `region`: one per record, around its centre.

    Args:
        records: the cases.
        task: what is labelled.
        sampler: which frames make a clip.
        count_frames: tells the number of frames of a record; None leaves out unlabelled ones.

    Raises:
        DataError: when the records lack what the task needs.
        ConfigError: for a region task without the sampler `centered`.
    """
    if task == "scan":
        return [Item(record) for record in records]
    unplaced = next((record for record in records if record.placed_labels is not None), None)
    if task == "slice" and unplaced is not None:
        raise DataError(
            f"Case {unplaced.case_id} has labels of slices whose frames were not looked up. Pass "
            "its stack and labels through `medvid.io.slice_truth.place_labels` first.",
            code="unplaced_slices",
        )
    if task == "region":
        if not looks_at_target(sampler):
            raise ConfigError("A region task needs `data.sampler: {name: centered, ...}`.")
        without = next((record for record in records if record.center is None), None)
        if without is not None:
            raise DataError(
                f"Case {without.case_id} has no position. A region task needs the manifest "
                "columns x_mm, y_mm and z_mm.",
                code="no_center",
            )
        return [Item(record) for record in records]
    if not looks_at_target(sampler):
        return [Item(record) for record in records]
    return [
        Item(record, frame) for record in records for frame in _list_frames(record, count_frames)
    ]


def _list_frames(record: Record, count_frames: Callable[[Record], int] | None) -> Sequence[int]:
    if record.slice_labels is None and count_frames is not None:
        return range(count_frames(record))
    return sorted(record.slice_labels or {})


def draw_generator(seed: int, epoch: int, case_id: str, frame: int | None) -> np.random.Generator:
    """Returns the random generator of one draw: the same for the same four arguments, anywhere."""
    key = f"{seed}|{epoch}|{'' if frame is None else frame}|{case_id}"
    # numpy's documentation allows any ISeedSequence here; its annotations lag behind.
    seed_words = cast("Any", _Digest(hashlib.sha256(key.encode()).digest()))
    return np.random.Generator(np.random.PCG64(seed_words))


class _Digest(ISeedSequence):
    """A sha256 as the seed of a generator: as well mixed as numpy's SeedSequence, and cheaper."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[Any]:
        """Returns `n_words` of the digest; a PCG64 asks for 4 of 64 bits, all there are."""
        return np.frombuffer(self.digest, dtype)[:n_words]


@dataclass(frozen=True)
class ClipDataset(Dataset[dict[str, Any]]):
    """Cuts clips out of stored stacks.

    Args:
        items: see `list_items`.
        store: opens the stacks.
        space: the classes.
        task: `scan`, `slice` or `region`.
        sampler: chooses the frames.
        transform: called with each clip's sample and the generator of the draw.
        crop: (H, W) in pixels cut from every frame before anything else: around the centre of a
            region, at random in training, in the middle in testing. None takes whole frames.
        training: draw at random; otherwise everything is fixed.
        seed: of all draws.
        pixels: False shows where a clip lies and nothing else, see `show_place`.
    """

    items: Sequence[Item]
    store: Store
    space: LabelSpace
    task: Task
    sampler: Sampler
    transform: Transform
    crop: tuple[int, int] | None = None
    training: bool = False
    seed: int = 0
    pixels: bool = True

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """Returns the Sample of an item; the key is an index, or (epoch, index).

        Raises:
            MedvidError: when the stack cannot be read; the message names the case.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        item = self.items[index]
        try:
            return self._read_item(item, epoch)
        except MedvidError as error:
            raise type(error)(
                f"Case {item.record.case_id}: {error.message}", code=error.code, files=error.files
            ) from error

    def _read_item(self, item: Item, epoch: int) -> dict[str, Any]:
        record = item.record
        rng = (
            draw_generator(self.seed, epoch, record.case_id, item.frame) if self.training else None
        )
        stack, prepared = self.store.open_prepared(record)
        if getattr(self.sampler, "frames_mm", None) is not None and stack.unit != "mm":
            raise ConfigError(
                "`frames_mm` is a length in mm, and this stack is a video. Use `frames`.",
                code="mm_on_video",
            )
        frame, centre = self._target(item, stack)
        windows = self.sampler.windows(stack.num_frames, stack.spacing[0], rng=rng, frame=frame)
        corner = self._choose_corner(stack, centre, rng)
        clips = [
            self._cut(record, stack, prepared, windows[clip], corner, centre, rng)
            for clip in range(len(windows.frames))
        ]
        sample = _join(clips)
        sample["label"] = self._encode(item, sample)
        sample["case_id"] = record.case_id
        sample["patient_id"] = record.patient_id
        sample["frame"] = -1 if item.frame is None else item.frame
        return sample

    def _target(self, item: Item, stack: Stack) -> tuple[int | None, tuple[float, float] | None]:
        if self.task != "region" or item.record.center is None:
            return item.frame, None
        t, h, w = stack.locate(item.record.center)
        return min(max(round(t), 0), stack.num_frames - 1), (h, w)

    def _choose_corner(
        self,
        stack: Stack,
        centre: tuple[float, float] | None,
        rng: np.random.Generator | None,
    ) -> tuple[int, int] | None:
        """Returns the first row and column of the crop; may lie outside around a region."""
        if self.crop is None:
            return None
        size = (stack.height, stack.width)
        if centre is not None:
            return (
                round(centre[0] - (self.crop[0] - 1) / 2),
                round(centre[1] - (self.crop[1] - 1) / 2),
            )
        room = [length - cut for length, cut in zip(size, self.crop, strict=True)]
        if rng is None or min(room) < 0:
            return room[0] // 2, room[1] // 2
        return int(rng.integers(0, room[0] + 1)), int(rng.integers(0, room[1] + 1))

    def _cut(
        self,
        record: Record,
        stack: Stack,
        prepared: Prepared,
        window: Windows,
        corner: tuple[int, int] | None,
        centre: tuple[float, float] | None,
        rng: np.random.Generator | None,
    ) -> dict[str, Any]:
        frames = window.frames[0]
        voxels = _read_rectangle(stack, frames, corner, self.crop)
        clip = torch.from_numpy(voxels.astype(np.float32))
        if any(slope != 1.0 for slope in prepared.slope) or any(prepared.intercept):
            slope, intercept = (
                torch.tensor(numbers).reshape(-1, 1, 1, 1)
                for numbers in (prepared.slope, prepared.intercept)
            )
            clip = clip * slope + intercept
        sample: dict[str, Any] = {
            "clip": clip,
            "mask": torch.from_numpy(window.mask[0].copy()),
            "positions": torch.from_numpy(stack.positions[frames].astype(np.float32)),
            "spacing": torch.from_numpy(np.array(stack.spacing, dtype=np.float32)),
            "window": torch.from_numpy(frames.copy()),
            "modality": stack.modality,
            "case_id": record.case_id,
        }
        if self.store.channels is not None:
            sample["channels"] = self.store.channels.names
        made = self.transform(sample, rng)
        return made if self.pixels else show_place(made, stack, centre)

    def _encode(self, item: Item, sample: Mapping[str, Any]) -> Tensor:
        if self.task != "slice":
            return torch.as_tensor(self.space.encode(item.record.label))
        known = item.record.slice_labels or {}
        if item.frame is not None:
            return torch.as_tensor(self.space.encode(known.get(item.frame)))
        # A transform may have reversed or resampled T: the sample's own window tells the frames.
        window, mask = sample["window"], sample["mask"]
        labels = [self.space.encode(known.get(int(frame))) for frame in window.reshape(-1)]
        array = torch.from_numpy(np.array(labels)).reshape(*window.shape, -1)
        array[~mask] = np.nan if self.space.multilabel else UNKNOWN  # padding has no label
        return array if self.space.multilabel else array[..., 0]


def _read_rectangle(
    stack: Stack,
    frames: NDArray[np.int64],
    corner: tuple[int, int] | None,
    size: tuple[int, int] | None,
) -> NDArray[Any]:
    """Reads a rectangle of the frames; what lies outside the image repeats its edge."""
    if corner is None or size is None:
        return stack.read(frames.tolist())
    spans = []
    margins = []
    for start, length, limit in zip(corner, size, (stack.height, stack.width), strict=True):
        first, last = min(max(start, 0), limit - 1), min(max(start + length, 1), limit)
        spans.append(slice(first, last))
        margins.append((first - start, start + length - last))
    voxels = stack.read(frames.tolist(), *spans)
    if any(before or after for before, after in margins):
        voxels = np.pad(voxels, ((0, 0), (0, 0), *margins), mode="edge")
    return voxels


def _join(clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Joins the clips of an item along a leading axis N, also those that a test crop made.

    One clip alone, not cropped several times, has no axis N.
    """
    per_clip = ("mask", "positions", "window")
    crops = [clip["clip"].shape[0] if clip["clip"].ndim == 5 else 0 for clip in clips]
    joined = dict(clips[0])
    if len(clips) == 1 and not crops[0]:
        return joined
    for key, value in clips[0].items():
        if not isinstance(value, Tensor) or key in ("spacing", "label"):
            continue
        parts = []
        for clip, count in zip(clips, crops, strict=True):
            part = clip[key]
            if key in per_clip:
                part = part.expand(max(1, count), *part.shape)
            elif not count:
                part = part[None]
            parts.append(part)
        joined[key] = torch.cat(parts)
    return joined
