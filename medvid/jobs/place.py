"""Finds the place of every label in its opened stack: the frame of a slice, the voxel of a region.

Only an open stack knows how many slices it has and what each is called, so this comes after the
stacks are prepared and before anything is drawn from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from medvid.contract import ConfigError, DataError, MedvidError, Record
from medvid.data.labels import Task
from medvid.data.store import Store
from medvid.io.slice_truth import place_labels
from medvid.io.wording import agree, count


def refuse_resampled_slices(options: Mapping[str, Any]) -> None:
    """Stops when labelled slices would be resampled along T, where they are no more.

    Raises:
        ConfigError: when they would.
    """
    spacing = options["spacing"]
    if options["task"] == "slice" and spacing is not None and spacing[0] > 0:
        raise ConfigError(
            f"`data.spacing: {list(spacing)}` resamples through the slices, and a slice task "
            "labels them as they were acquired. Set its first number to 0, which keeps them.",
            code="slices_resampled",
        )


def place_records(
    records: Sequence[Record], task: Task, store: Store
) -> tuple[list[Record], list[tuple[Record, MedvidError]]]:
    """Places the labels of prepared records.

    Returns:
        All records, slice labels by frame index, and those whose labels have no place, with the
        reason.
    """
    placed: list[Record] = []
    refused: list[tuple[Record, MedvidError]] = []
    for record in records:
        try:
            placed.append(_place(record, task, store))
        except MedvidError as error:
            placed.append(record)
            refused.append((record, error))
    return placed, refused


def _place(record: Record, task: Task, store: Store) -> Record:
    if task == "region" and record.center is not None:
        store.open(record).locate(record.center)
    if task != "slice":
        return record
    stack = store.open(record)
    outside = [f for f in record.slice_labels or () if not 0 <= f < stack.num_frames]
    if outside:
        raise DataError(
            f"slice {outside[0]} has a label, and the stack has {stack.num_frames} slices, counted "
            f"from 0 to {stack.num_frames - 1}.",
            code="slice_outside",
            files=[record.path],
        )
    if record.slice_labels and stack.left_out:
        raise DataError(
            f"{record.path}: slices are labelled by their number, and "
            f"{count(stack.left_out, 'file')} beside them could not be read and "
            f"{agree(stack.left_out, 'was', 'were')} left out, so that numbers may have moved. "
            "Name the slices by `sop_uid` or `slice_at`; or export the images again, and move what "
            "is no image out of the folder.",
            code="slices_left_out",
            files=[record.path],
        )
    if record.slice_labels and any(stack.frame_keys) and not all(stack.frame_keys):
        raise DataError(
            f"{record.path}: slices are labelled by their number, and the stack holds slices that "
            "no file holds (a gap was filled), so that numbers may have moved. Name the "
            "slices by `sop_uid` or `slice_at`.",
            code="slices_filled",
            files=[record.path],
        )
    if record.placed_labels is None:
        return record
    labels = place_labels(stack, record.path, record.placed_labels, record.slice_labels)
    return replace(record, slice_labels=labels, placed_labels=None)
