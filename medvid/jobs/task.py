"""From the `data` and `transforms` sections of a config to loaders."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch.utils.data import DataLoader

from medvid.build import Spec, validate_options
from medvid.config import Config
from medvid.contract import ConfigError, DataError, MedvidError, Record, Sampler
from medvid.data.channels import channel_options, name_channels, read_options
from medvid.data.dataset import ClipDataset, list_items
from medvid.data.labels import (
    LabelSpace,
    Task,
    find_label_space,
    list_labels,
    permute_labels,
)
from medvid.data.loader import build_loader
from medvid.data.sampling import Dense, build_sampler
from medvid.data.sight import Context
from medvid.data.splits import Fold, audit_folds, make_folds
from medvid.data.store import OnBad, OnGap, Plane, Store
from medvid.io.dicom_select import read_selection
from medvid.jobs.place import place_records, refuse_resampled_slices
from medvid.sources import load_adapter
from medvid.transforms import build_pipeline

STORE_FOLDER = "medvid_store"
"""Where decoded stacks lie unless `data.store` says otherwise: beside the runs."""

Progress = Callable[[int, int], None]
AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_UNLABELLED = DataError(
    "It has no label, so it is neither trained on nor tested; `medvid predict` reads it.",
    code="no_label",
)


def data_options(
    *,
    manifest: str,
    source: str = "table",
    source_options: dict[str, Any] | None = None,
    classes: list[str] | None = None,
    on_bad: Literal["stop", "quarantine"] = "stop",
    splits: dict[str, Any] | None = None,
    task: Task = "scan",
    sampler: Spec = "dense",
    test_sampler: Spec | None = None,
    crop: tuple[AtLeastOne, AtLeastOne] | None = None,
    plane: Plane = "auto",
    modality: str | None = None,
    spacing: tuple[NotNegative, NotNegative, NotNegative] | None = None,
    size: tuple[AtLeastOne, AtLeastOne] | None = None,
    channels: dict[str, Any] | None = None,
    on_gap: OnGap = "refuse",
    on_bad_images: OnBad | None = None,
    detilt: bool = False,
    select: dict[str, Any] | None = None,
    store: str | None = None,
    batch_size: AtLeastOne = 16,
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto",
    balanced: bool = False,
    pixels: bool = True,
    permute_labels: bool = False,
) -> dict[str, Any]:
    """The options of the section `data`.

    Args:
        manifest: the CSV file, or the root folder of another source.
        source: the adapter that reads it, see `medvid adapters`.
        source_options: the adapter's own options, such as `split: 1` for ucf101.
        classes: the classes in the order of the outputs; the last of two is the positive one.
        on_bad: `stop` at a case that cannot be read, or `quarantine`: leave it out and list it.
        splits: options of `medvid.data.splits.make_folds`: folds, repeats, validation, method.
        task: `scan` (a label for the stack), `slice` (one per frame), `region` (one at a position).
        sampler: which frames make a clip, see `medvid.data.sampling`.
        test_sampler: the same for testing, where it differs.
        crop: (H, W) in pixels, cut out before the transforms.
        plane: which axis of a volume file is T.
        modality: what the files are, where they do not say (NIfTI).
        spacing: (T, H, W) in mm to resample whole scans to; 0 keeps an axis.
        size: (H, W) in pixels to resize whole frames to.
        channels: of cases of several scans, see `medvid.data.channels.channel_options`.
        on_gap: what to do where DICOM slices are missing or unevenly apart: `refuse` the series,
            `resample` it to even steps, or `keep` the slices with their true positions.
        on_bad_images: `stop` at a broken image of a DICOM series, or `quarantine`: leave out only
            that image, where the rest is a stack; None does as `on_bad` says.
        detilt: resample DICOM series taken with a tilted gantry to upright ones.
        select: which of several DICOM series of a folder is meant, by `modality`, `description`,
            `kernel`, `plane`, `thickness` and `prefer`.
        store: folder for decoded stacks.
        batch_size: items of a batch.
        workers: loading processes.
        balanced: draw every class equally often in training.
        pixels: False shows the network where a clip lies in its stack, and nothing else: a control.
        permute_labels: deal the training labels anew among the training cases: a control, which
            must end at chance.
    """
    return dict(locals())


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

    def clip_shape(self) -> "ClipShape":
        """Reads one training sample to learn what the network will be given."""
        dataset = self.dataset([self.records[0].case_id], training=True, seed=0)
        if not len(dataset):
            raise DataError(
                f"Case {self.records[0].case_id} has no labelled slice. A slice task needs the "
                "manifest column `slice`.",
                code="no_slice_labels",
            )
        sample = dataset[0]
        channels, t, h, w = (int(n) for n in sample["clip"].shape[-4:])
        stack = self.store.open(self.records[0])
        spacing = None
        if stack.unit == "mm":
            # What sampler and transforms make of one scan's spacing they make of the median's.
            # Copies of the target lie no distance apart, and all arms of a study are of one step.
            copies = isinstance(self.sampler, Context)
            step = float(sample["spacing"][0]) if copies else _median_step(sample)
            first = (step, *(float(s) for s in sample["spacing"][1:]))
            middle = np.median([self.store.open(r).spacing for r in self.records], axis=0)
            t_mm, h_mm, w_mm = (
                new * typical / own
                for new, typical, own in zip(first, middle.tolist(), stack.spacing, strict=True)
            )
            spacing = (t_mm, h_mm, w_mm)
        return ClipShape(channels, (t, h, w), spacing)


@dataclass(frozen=True)
class ClipShape:
    """What a network is built for.

    Args:
        channels: C of the clips.
        size: (T, H, W) of a training clip.
        spacing: (T, H, W) in mm between neighbours in the clip; None for videos.
    """

    channels: int
    size: tuple[int, int, int]
    spacing: tuple[float, float, float] | None


def _median_step(sample: Mapping[str, Any]) -> float:
    """Returns the distance of neighbouring frames in the clip, which a stride makes larger."""
    positions = sample["positions"].reshape(-1, sample["positions"].shape[-1])[0]
    mask = sample["mask"].reshape(-1, sample["mask"].shape[-1])[0]
    steps = torch.diff(positions[mask]).abs()
    return float(statistics.median(steps.tolist())) if len(steps) else float(sample["spacing"][0])


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


def read_records(options: Mapping[str, Any]) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """Returns the records that the section `data` names, and what is listed but not on disk.

    Raises:
        ConfigError: for options that the source does not have.
        DataError: when it finds nothing, or what it finds is damaged.
    """
    adapter = load_adapter(options["source"])
    root = Path(options["manifest"])
    extra = options["source_options"] or {}
    extra = validate_options(
        adapter.records,
        extra,
        f"section `data.source_options` of {options['source']}",
        ["root", "progress"],
    )
    if options["on_bad"] == "quarantine" and "check_files" in signature(adapter.records).parameters:
        extra["check_files"] = False  # a missing file is then a case to leave out, not the end
    records = tuple(adapter.records(root, **extra))
    if not records:
        raise DataError(
            f"The source `{options['source']}` finds no case at {root}.",
            code="no_case",
            files=[root],
        )
    missing = getattr(adapter, "missing", None)
    return records, () if missing is None else tuple(missing(root, **extra))


def resolve_data(config: Config) -> dict[str, Any]:
    """Returns the section `data` with every option filled in.

    Raises:
        ConfigError: when the section or one of its needed options is missing, or one is unknown.
    """
    section = config.get("data") or {}
    options = data_options(**validate_options(data_options, section, "section `data`"))
    if options["channels"] is not None:
        given = validate_options(channel_options, options["channels"], "section `data.channels`")
        options["channels"] = channel_options(**given)
    options["on_bad_images"] = options["on_bad_images"] or options["on_bad"]
    return options


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
