"""The section `data` of a config: its options, and the records that it names."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from medvid.build import Spec, validate_options
from medvid.config import Config
from medvid.contract import DataError, Record
from medvid.data.channels import channel_options
from medvid.data.labels import Task
from medvid.data.store import OnBad, OnGap, Plane
from medvid.sources import load_adapter

AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
