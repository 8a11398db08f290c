"""The teacher of a pre-training, and what compares it with its student."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medvid.build import Spec, build, validate_options
from medvid.config import Config
from medvid.contract import ConfigError, DataError, Record
from medvid.data.labels import LabelSpace
from medvid.data.pairs import ANSWERS
from medvid.data.splits import Fold
from medvid.jobs.clip_shape import ClipShape
from medvid.jobs.job import Job
from medvid.jobs.lineage import RECORD, Origin, find_origin, name_people
from medvid.jobs.network import build_network, find_model_section, load_network
from medvid.jobs.start import Init, find_head, start_network
from medvid.train.distributed import find_place
from medvid.train.matching import HIDDEN, Compare, PairMatcher, count_features, refuse_teacher
from medvid.train.runfolder import read_json, write_json
from medvid.transforms import TRANSFORMS
from medvid.transforms.normalise import (
    Grey,
    Normalise,
    Percentiles,
    RepeatChannels,
    Scale,
    ZScore,
)
from medvid.transforms.protocol import Transform
from medvid.transforms.window import Window

MATCH = LabelSpace(ANSWERS, multilabel=False)

VALUE_TRANSFORMS = (Grey, Normalise, Percentiles, RepeatChannels, Scale, Window, ZScore)
"""Transforms that say on what scale a network is given its voxels; nothing in them is random."""


def pretrain_options(
    *,
    teacher: str,
    teacher_model: Spec | None = None,
    hidden: tuple[int, ...] = HIDDEN,
    compare: Compare = "concatenate",
) -> dict[str, Any]:
    """The options of the section `pretrain`.

    Args:
        teacher: a run of a 2D network, one fold of it, or a file with its weights.
        teacher_model: for a file that does not say of which model it is: name and options.
        hidden: units of the layers that compare student and teacher; the paper's are 512 and 128.
        compare: what they are shown: both features (`concatenate`, the paper), or both on one
            scale and their absolute `difference`, which a few hundred scans need.
    """
    return dict(locals())


def read_pretrain(config: Config) -> dict[str, Any]:
    """Returns the section `pretrain` with everything filled in.

    Raises:
        ConfigError: for an unknown option, no teacher, or one that does not exist.
    """
    section = config.get("pretrain") or {}
    if not section.get("teacher"):
        raise ConfigError(
            "The section `pretrain` needs a teacher: a run of a 2D network on your slices, such as "
            "`medvid train run/phantom_slicewise` makes, or a file with its weights. Then "
            "`pretrain.teacher=runs/slicewise-...`.",
            code="no_teacher",
        )
    options = pretrain_options(**validate_options(pretrain_options, section, "section `pretrain`"))
    teacher = Path(options["teacher"]).expanduser().absolute()
    if not teacher.exists():
        raise ConfigError(
            f"`pretrain.teacher: {options['teacher']}` does not exist. Give a run folder, a fold's "
            "folder in it, or a file with a state dict.",
            code="no_teacher",
        )
    return options | {"teacher": str(teacher)}


def find_teachers(
    options: Mapping[str, Any], records: Sequence[Record], folds: Mapping[int, Fold]
) -> dict[int, Origin]:
    """Finds the weights of every fold's teacher, which saw none of the fold's test patients.

    Args:
        options: of the section `pretrain`.
        records: of the pre-training.
        folds: number -> fold.

    Raises:
        DataError: when a fold has no teacher that is fair.
    """
    people = name_people(records)
    source = Path(options["teacher"])
    return {number: find_origin(source, number, fold, people) for number, fold in folds.items()}


def build_matcher(
    job: Job, options: Mapping[str, Any], origin: Origin, shape: ClipShape, seed: int
) -> PairMatcher:
    """Builds student, teacher and what compares them.

    Raises:
        ConfigError: when one of both cannot take the clips.
        DataError: when the teacher's weights are of another model.
    """
    spec = find_model_section(job.config)
    student = build_network(spec, MATCH, shape, seed)
    head = find_head(spec, MATCH, shape)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(name not in head)  # nothing here asks for classes
    teacher = load_teacher(options, origin, shape, job.data.transforms)
    lengths = (
        count_features(student, (shape.channels, *shape.size)),
        count_features(teacher, (shape.channels, 1, *shape.size[1:])),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PairMatcher(student, teacher, lengths, tuple(options["hidden"]), options["compare"])


def load_teacher(
    options: Mapping[str, Any], origin: Origin, shape: ClipShape, transforms: Mapping[str, Any]
) -> nn.Module:
    """Builds the teacher and fills in its weights.

    Args:
        options: of the section `pretrain`.
        origin: its weights.
        shape: of the student's clips.
        transforms: the section `transforms`: the teacher looks at the student's clips.

    Raises:
        ConfigError: when it cannot look at the student's frames one by one, or was trained on
            another scale of values.
        DataError: when the weights are of another model.
    """
    if options["teacher_model"] is None:
        teacher, meta = load_network(origin.path)
        channels = int(meta["clip"]["channels"])
        if channels != shape.channels:
            raise ConfigError(
                f"The teacher {origin.name()} takes {channels} channel(s), and the clips have "
                f"{shape.channels}. Use the teacher's transforms.",
                code="no_teacher",
            )
        _refuse_other_values(origin, meta["transforms"], transforms)
    else:
        frame = replace(shape, size=(1, *shape.size[1:]))
        spec = options["teacher_model"]
        teacher = build_network(spec, MATCH, frame, seed=0)
        head = find_head(spec, MATCH, frame)
        start_network(teacher, Init(origin.path, "repeat"), origin, MATCH, head, shape.channels)
    refuse_teacher(teacher)
    return teacher


def _refuse_other_values(
    origin: Origin, theirs: Mapping[str, Any], ours: Mapping[str, Any]
) -> None:
    """Stops when the student's clips have another scale of values than the teacher was trained on.

    A frozen network cannot get used to another window: what it says of it means nothing.
    """
    known, given = _list_value_transforms(theirs), _list_value_transforms(ours)
    same = [(type(one), vars(one)) for _, one in known] == [
        (type(one), vars(one)) for _, one in given
    ]
    if not same:
        raise ConfigError(
            f"The teacher {origin.name()} was trained on values from {_tell(known)}, and the clips "
            f"have values from {_tell(given)}. Give `transforms` what the teacher has, or train a "
            "teacher with these.",
            code="no_teacher",
        )


def _list_value_transforms(section: Mapping[str, Any]) -> list[tuple[Spec, Transform]]:
    """Returns the transforms of testing that change the scale of values, each with its spec."""
    specs = [spec for part in ("both", "test") for spec in section.get(part) or ()]
    built = [(spec, build(TRANSFORMS, spec, "transform")) for spec in specs]
    return [(spec, one) for spec, one in built if isinstance(one, VALUE_TRANSFORMS)]


def _tell(transforms: Sequence[tuple[Spec, Transform]]) -> str:
    """Returns `window (windows: lung)`, or that values stay as they are in the file."""
    told = []
    for spec, _ in transforms:
        options = {} if isinstance(spec, str) else {k: v for k, v in spec.items() if k != "name"}
        said = ", ".join(f"{key}: {value}" for key, value in options.items())
        name = spec if isinstance(spec, str) else spec["name"]
        told.append(f"`{name}`" + (f" ({said})" if said else ""))
    return " and then ".join(told) or "the files, unchanged"


def note_teacher(folder: Path, origin: Origin) -> None:
    """Leaves init.json: whom the student knows through its teacher, as `lineage` reads it.

    Raises:
        DataError: when the fold was begun with other weights.
    """
    record = folder / RECORD
    if record.is_file() and read_json(record)["origin"]["sha256"] != origin.digest:
        raise DataError(
            f"{folder.name} was begun with another teacher than {origin.path} holds now. Put the "
            "old file back, or start a new run.",
            code="init_changed",
            files=[origin.path],
        )
    if find_place().rank == 0 and not record.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        seen = {"trained": sorted(origin.seen.trained), "chosen": sorted(origin.seen.chosen)}
        write_json(record, {"origin": origin.describe() | {"role": "teacher"}, **seen})
