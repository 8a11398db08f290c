"""From the `data` and `transforms` sections of a config to loaders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from medvid.build import validate_options
from medvid.config import Config
from medvid.contract import ConfigError, DataError, MedvidError, Record, Sampler
from medvid.data.channels import name_channels, read_options
from medvid.data.dataset import ClipDataset, list_items
from medvid.data.fold_audit import audit_folds
from medvid.data.labels import (
    LabelSpace,
    Task,
    find_label_space,
    list_labels,
    permute_labels,
)
from medvid.data.loader import build_loader
from medvid.data.sampling import Dense, build_sampler
from medvid.data.splits import Fold, make_folds
from medvid.data.store import Store
from medvid.io.dicom_select import read_selection
from medvid.jobs.data_section import read_records, resolve_data
from medvid.jobs.place import place_records, refuse_resampled_slices
from medvid.transforms import build_pipeline

STORE_FOLDER = "medvid_store"
"""Where decoded stacks lie unless `data.store` says otherwise: beside the runs."""

Progress = Callable[[int, int], None]

_UNLABELLED = DataError(
    "It has no label, so it is neither trained on nor tested; `medvid predict` reads it.",
    code="no_label",
)


@dataclass(frozen=True)
class TaskData:
    """Labelled records and the way from them to batches.

    Args:
        records: those that can be read.
        refused: those that were left out, with the reason.
        space: the classes.
        options: of the section `data`, all filled in.
        transforms: the section `transforms`.
        store: decoded stacks.
        sampler: of training.
        test_sampler: of testing.
        missing: what the source lists and the disk lacks.
        locked: the classes are those of a trained network, whichever records are left.
        given: the records by case as the source gave them, once their labels are placed.
    """

    records: tuple[Record, ...]
    space: LabelSpace
    options: Mapping[str, Any]
    transforms: Mapping[str, Any]
    store: Store
    sampler: Sampler
    test_sampler: Sampler
    refused: tuple[tuple[Record, MedvidError], ...] = ()
    missing: tuple[str, ...] = field(default=())
    locked: bool = False
    given: Mapping[str, Record] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What is labelled: scans, slices or regions."""
        task: Task = self.options["task"]
        return task

    def dataset(
        self, cases: Sequence[str], *, training: bool, seed: int, augment: bool = True
    ) -> ClipDataset:
        """Returns the clips of the named cases.

        Args:
            cases: their ids.
            training: draw at random, with the training transforms.
            seed: of all draws.
            augment: False keeps the test transforms in training too.
        """
        wanted = set(cases)
        records = [record for record in self.records if record.case_id in wanted]
        lost = sorted(wanted - {record.case_id for record in records})
        if lost:
            raise DataError(
                f"The split names {len(lost)} cases that the data no longer have, the first one "
                f"{lost[0]}. Train anew, or bring the manifest back to what it was.",
                code="lost_case",
            )
        if training and self.options["permute_labels"]:
            records = permute_labels(records, seed)
        sampler = self.sampler if training else self.test_sampler
        return ClipDataset(
            items=list_items(
                records, self.task, sampler, lambda record: self.store.open(record).num_frames
            ),
            store=self.store,
            space=self.space,
            task=self.task,
            sampler=sampler,
            transform=build_pipeline(self.transforms, training=training and augment),
            crop=self.options["crop"],
            training=training,
            seed=seed,
            pixels=self.options["pixels"],
        )

    def loader(
        self, cases: Sequence[str], *, training: bool, seed: int, augment: bool = True
    ) -> DataLoader[dict[str, Any]]:
        """Returns batches of the named cases; the arguments are those of `dataset`."""
        return build_loader(
            self.dataset(cases, training=training, seed=seed, augment=augment),
            batch_size=self.options["batch_size"],
            workers=self.options["workers"],
            balanced=self.options["balanced"] and training,
        )

    def folds(self, seed: int) -> list[Fold]:
        """Splits the records and audits the split.

        Raises:
            DataError: for leakage, or classes that cannot be learnt or tested.
        """
        given = {"records": self.records, "space": self.space, "seed": seed}
        options = validate_options(
            make_folds, self.options["splits"] or {}, "section `data.splits`", given
        )
        folds = make_folds(self.records, self.space, seed=seed, **options)
        method = options.get("method", "auto")
        audit_folds(folds, self.records, self.space, self._pixels(), method=method)
        return folds

    def _pixels(self) -> dict[str, str] | None:
        """Returns the pixel hash of every case; None for regions, which share their scan."""
        if self.task == "region":
            return None
        return {
            record.case_id: self.store.open_prepared(record)[1].pixels for record in self.records
        }

    def prepare(self, progress: Progress | None = None) -> "TaskData":
        """Decodes every stack into the store; returns the data without those that fail.

        Raises:
            DataError: for the first unreadable case, unless `on_bad` is `quarantine`.
        """
        total = len(self.records)
        refused = self.store.prepare_all(
            self.records, None if progress is None else lambda done: progress(done, total)
        )
        out = {record.case_id for record, _ in refused}
        kept = [record for record in self.records if record.case_id not in out]
        placed, lost = place_records(kept, self.task, self.store)
        left_out = [record for record, _ in refused]
        given = {record.case_id: record for record in self.records} | dict(self.given)
        whole = replace(self, records=(*placed, *left_out), given=given)
        return whole.without([*refused, *lost])

    def as_given(self) -> tuple[Record, ...]:
        """Returns the records with their labels as the source named the slices.

        A run notes them so: numbers of frames would be refused where an image was left out.
        """
        return tuple(self.given.get(record.case_id, record) for record in self.records)

    def without(self, refused: Sequence[tuple[Record, MedvidError]]) -> "TaskData":
        """Returns the data without the refused records, or stops, as `on_bad` says.

        Raises:
            DataError: when `on_bad` is `stop` and there are any, or none would be left.
        """
        if not refused:
            return self
        if self.options["on_bad"] == "stop":
            remedy = (
                "Mend the files, or leave such cases out, listed in refused.csv, with "
                "data.on_bad=quarantine."
            )
            raise _explain_refused(refused, remedy)
        out = {record.case_id for record, _ in refused}
        left = tuple(record for record in self.records if record.case_id not in out)
        if not left:
            raise _explain_refused(refused, "No case would be left without them: mend the files.")
        space = self.space if self.locked else find_label_space(left, self.options["classes"])
        return replace(self, records=left, refused=(*self.refused, *refused), space=space)


def _explain_refused(refused: Sequence[tuple[Record, MedvidError]], remedy: str) -> MedvidError:
    record, error = refused[0]
    more = f" {len(refused) - 1} more cases cannot be read either." if len(refused) > 1 else ""
    return DataError(
        f"Case {record.case_id} ({record.path}) cannot be used: {error.message}{more} {remedy}",
        code=error.code,
        files=error.files or (record.path,),
    )


def open_data(config: Config) -> TaskData:
    """Reads the records that a config names, and what turns them into batches.

    Raises:
        ConfigError: for options that cannot be meant.
        DataError: for records that cannot be used.
    """
    options = resolve_data(config)
    records, missing = read_records(options)
    options["channels"] = name_channels(options["channels"], records) or None
    space = find_label_space(records, options["classes"])
    labelled = [record for record in records if list_labels(record)]
    data = build_task(options, config.get("transforms") or {}, labelled, space)
    return replace(
        data,
        refused=tuple((r, _UNLABELLED) for r in records if not list_labels(r)),
        missing=missing,
    )


def build_task(
    options: Mapping[str, Any],
    transforms: Mapping[str, Any],
    records: Sequence[Record],
    space: LabelSpace,
) -> TaskData:
    """Builds the way from records to batches; reads nothing yet."""
    refuse_resampled_slices(options)
    if options["select"] is not None:
        read_selection(options["select"])
    if options["channels"] and options["modality"] is not None:
        raise ConfigError(
            "`data.modality` says what all files are, and channels may differ: write "
            "`data.channels: {modality: {CHANNEL: MODALITY}}` instead.",
            code="two_modalities",
        )
    sampler = build_sampler(options["sampler"])
    test_sampler = options["test_sampler"] or options["sampler"]
    if options["task"] == "slice" and test_sampler.get("end") == "drop":
        raise ConfigError(
            "`end: drop` leaves out what lies behind the last whole run, and every labelled slice "
            "is to be predicted. Take `end: flush` for a slice task.",
            code="slices_dropped",
        )
    if options["task"] == "slice" and not options["test_sampler"] and isinstance(sampler, Dense):
        # Every labelled slice is to be predicted, so the runs of training slide over the stack.
        test_sampler = {
            "name": "sliding",
            "frames": sampler.frames,
            "frames_mm": sampler.frames_mm,
            "stride": sampler.stride,
            "hop": max(1, (sampler.frames or 2) // 2) if sampler.stride == 1 else 1,
        }
    return TaskData(
        records=tuple(records),
        space=space,
        options=options,
        transforms=transforms,
        store=Store(
            root=Path(options["store"] or STORE_FOLDER),
            plane=options["plane"],
            modality=options["modality"],
            spacing=options["spacing"],
            size=options["size"],
            channels=read_options(options["channels"]),
            on_gap=options["on_gap"],
            on_bad=options["on_bad_images"],
            detilt=options["detilt"],
            select=options["select"],
        ),
        sampler=sampler,
        test_sampler=build_sampler(test_sampler),
    )


def choose_cases(records: Sequence[Record], space: LabelSpace, number: int) -> tuple[str, ...]:
    """Returns the ids of `number` cases, the classes in turn; for `overfit=8`."""
    by_label: dict[str, list[str]] = {}
    for record in records:
        by_label.setdefault(str(record.label or record.slice_labels), []).append(record.case_id)
    turns = max(len(cases) for cases in by_label.values())
    mixed = [
        cases[turn] for turn in range(turns) for cases in by_label.values() if turn < len(cases)
    ]
    return tuple(np.array(mixed[:number]).tolist())
