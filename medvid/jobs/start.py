"""The section `init` of a config: a network starts from the weights of another one.

    init: {from: runs/slices-20250101-120000, inflate: repeat}

`from` is a run, one fold of a run, or a file with a state dict; `inflate` says how 2D kernels are
laid over slices. Two commands make a 3D network that begins with what its 2D twin learnt on the
same slices:

    medvid train CONFIG model.planar=true name=slices
    medvid train CONFIG init.from=runs/slices-...
"""

import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from medvid.build import suggest
from medvid.config import Config
from medvid.contract import ConfigError, DataError, Record
from medvid.data.labels import LabelSpace
from medvid.data.splits import Fold
from medvid.jobs.clip_shape import ClipShape
from medvid.jobs.lineage import RECORD, Origin, find_origin, name_people
from medvid.jobs.network import build_network
from medvid.layers.inflate import How, InflationReport, inflate_state
from medvid.layers.layouts import translate_state
from medvid.models import build_model
from medvid.train.runfolder import RunFolder, read_json, write_json

OPTIONS = ("from", "inflate")
NESTED = ("state_dict", "model", "model_state", "model_state_dict", "net")
"""Under which training scripts keep the weights in their checkpoints."""


@dataclass(frozen=True)
class Init:
    """What the section `init` says.

    Args:
        source: a run, a fold of one, or a file.
        inflate: how 2D kernels are laid over slices.
    """

    source: Path
    inflate: How

    def describe(self) -> dict[str, str]:
        """Returns the section with everything filled in; it holds from any folder."""
        return {"from": str(self.source), "inflate": self.inflate}


def read_init(config: Config) -> Init | None:
    """Returns what the section `init` asks for; None where there is none.

    Raises:
        ConfigError: for an unknown option or value, or a place that does not exist.
    """
    section = config.get("init")
    if not section:
        return None
    if not isinstance(section, Mapping) or "from" not in section:
        raise ConfigError(
            "The section `init` needs `from`: a run folder or a file with a state dict, such as "
            "`init: {from: runs/slices-20250101-120000}`.",
            code="missing_option",
        )
    for key in section:
        if key not in OPTIONS:
            raise ConfigError(
                f"The section `init` has no option `{key}`.{suggest(str(key), OPTIONS)} Options: "
                f"{', '.join(OPTIONS)}.",
                code="unknown_option",
            )
    how = section.get("inflate", "repeat")
    if how not in get_args(How):
        raise ConfigError(
            f"The section `init` was given `inflate: {how}`; possible are "
            f"{' and '.join(get_args(How))}.",
            code="wrong_type",
        )
    return Init(Path(str(section["from"])).expanduser().resolve(), how)


def plan_starts(
    init: Init | None,
    folds: Mapping[int, Fold],
    records: Sequence[Record],
    run: RunFolder | None = None,
) -> dict[int, Origin]:
    """Finds the weights that every fold may be started from, before anything is trained.

    Args:
        init: None plans nothing.
        folds: number -> fold, of those that are to be trained.
        records: of the new run.
        run: one that goes on. Its folds with a whole epoch behind them need no start any more.

    Raises:
        ConfigError: when `init.from` does not exist.
        DataError: when a fold has no start that is fair.
    """
    if init is None:
        return {}
    fresh = {
        number: fold
        for number, fold in folds.items()
        if run is None or not (run.fold(number) / "last.ckpt").is_file()
    }
    people = name_people(records)
    return {
        number: find_origin(init.source, number, fold, people) for number, fold in fresh.items()
    }


def try_starts(
    init: Init | None,
    starts: Mapping[int, Origin],
    spec: Mapping[str, Any] | str,
    space: LabelSpace,
    shape: ClipShape,
) -> None:
    """Fills a throw-away network with every start, so that one that does not fit is told early.

    Args:
        init: the section.
        starts: of `plan_starts`.
        spec: the section `model`.
        space: the classes.
        shape: of the clips.

    Raises:
        DataError: as `start_network`.
    """
    if init is None:
        return
    network, head = build_network(spec, space, shape, seed=0), find_head(spec, space, shape)
    for origin in {origin.path: origin for origin in starts.values()}.values():
        start_network(network, init, origin, space, head, shape.channels)


def start_network(
    network: nn.Module,
    init: Init,
    origin: Origin,
    space: LabelSpace,
    head: Collection[str],
    channels: int,
) -> InflationReport:
    """Fills a new network with the weights of `origin`, inflated where it needs slices.

    Args:
        network: freshly initialised.
        init: the section.
        origin: where the weights are.
        space: the classes. From a run with the same ones in the same order the classifier is
            taken over too.
        head: the classifier's tensors, which otherwise stay at their own start.
        channels: of the clips that the network takes.

    Raises:
        DataError: when the file holds no weights, too few fit, or they are a run's for clips of
            other channels.
    """
    given, meta = read_weights(origin.path)
    _refuse_other_channels(meta, channels, origin)
    classes = (list(meta.get("classes") or ()), bool(meta.get("multilabel")))
    known = classes == (list(space.classes), space.multilabel)
    target = network.state_dict()
    inflated = inflate_state(
        translate_state(given, target),
        target,
        how=init.inflate,
        leave=() if known else head,
        taps=getattr(network, "centre_taps", None),
    )
    network.load_state_dict(inflated.state)
    return inflated.report


def _refuse_other_channels(meta: Mapping[str, Any], channels: int, origin: Origin) -> None:
    """Stops before the windows or series that a run was trained on are summed as if RGB."""
    theirs = (meta.get("clip") or {}).get("channels", channels)
    if theirs == channels:
        return
    raise DataError(
        f"{origin.name()} was trained on clips of {theirs} channel(s), and yours have {channels}. "
        "Which of a run's channels (windows, series) would be yours, nobody can tell. Give both "
        "the same `transforms` and `data.channels`. If they are red, green and blue, save the "
        "state dict alone: those of a file are summed.",
        code="init_channels",
        files=[origin.path],
    )


def begin_fold(
    network: nn.Module,
    init: Init,
    origin: Origin | None,
    folder: Path,
    *,
    space: LabelSpace,
    head: Collection[str],
    channels: int,
    write: bool = True,
) -> tuple[dict[str, Any], str]:
    """Starts the network of a fold and leaves init.json in its folder.

    A fold with a whole epoch behind it has no `origin` and takes its weights from last.ckpt.

    Args:
        network: freshly initialised.
        init: the section.
        origin: of `plan_starts`.
        folder: of the fold.
        space: the classes.
        head: of `find_head`.
        channels: of the clips.
        write: False in all processes of a training but the first.

    Returns:
        What the fold's checkpoints say of their start, and a line for the user.

    Raises:
        DataError: when the fold was begun from other weights, or these do not fit.
    """
    record = folder / RECORD
    if origin is None:
        return dict(read_json(record)["origin"]), ""
    if record.is_file() and read_json(record)["origin"]["sha256"] != origin.digest:
        raise DataError(
            f"{folder.name} was begun from other weights than {origin.path} holds now, so it would "
            "not end as it would have without the interruption. Put the old file back, or start a "
            "new run.",
            code="init_changed",
            files=[origin.path],
        )
    report = start_network(network, init, origin, space, head, channels)
    about = origin.describe() | {"inflate": init.inflate}
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            record,
            {
                "origin": about,
                "tensors": report.describe(),
                "trained": sorted(origin.seen.trained),
                "chosen": sorted(origin.seen.chosen),
            },
        )
    return about, f"started from {origin.name()}: {report.summarize()}.{_warn(origin)}"


def _warn(origin: Origin) -> str:
    if origin.run:
        return ""
    return (
        " Nobody can tell on which patients this file was trained; if yours were among them, the "
        "result is no test."
    )


def find_head(spec: Mapping[str, Any] | str, space: LabelSpace, shape: ClipShape) -> frozenset[str]:
    """Returns the names of the tensors whose size depends on the number of classes."""
    sizes = []
    for more in (0, 1):
        with torch.device("meta"):
            network = build_model(
                spec,
                in_channels=shape.channels,
                num_classes=len(space.classes) + more,
                clip_size=shape.size,
                spacing=shape.spacing,
            )
        sizes.append({name: tensor.shape for name, tensor in network.state_dict().items()})
    return frozenset(name for name, size in sizes[0].items() if sizes[1].get(name) != size)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a state dict, of medvid or of anybody; no code in the file is run.

    Returns:
        The tensors by name, and what a checkpoint of medvid says of itself (else nothing).

    Raises:
        DataError: when it holds no weights, is cut short, or holds code.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(
            f"{path} holds more than weights and plain values, and loading it could run code, or "
            "it is no file of torch. It is refused. Save the state dict alone: "
            "`torch.save(model.state_dict(), path)`.",
            code="unsafe_checkpoint",
            files=[path],
        ) from None
    except (RuntimeError, EOFError, KeyError, IndexError, ValueError, OSError) as error:
        raise DataError(
            f"{path} is no file of torch, or is cut short, and cannot be read as weights"
            f"{_first_line(error)}. Save a state dict with `torch.save(model.state_dict(), path)`.",
            code="no_checkpoint",
            files=[path],
        ) from None
    meta = found.get("medvid") if isinstance(found, dict) else None
    state = found
    if isinstance(found, dict):
        state = next((found[key] for key in NESTED if isinstance(found.get(key), dict)), found)
    tensors = {
        name: value
        for name, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise DataError(
            f"{path} holds no weights: a state dict is a mapping of names to tensors.",
            code="no_checkpoint",
            files=[path],
        )
    return tensors, meta if isinstance(meta, dict) else {}


def _first_line(error: Exception) -> str:
    """Returns what a reader of files says; of what is no pickle it says but a byte's number."""
    line = str(error).partition("\n")[0].rstrip(".")
    return f": {line}" if isinstance(error, RuntimeError | OSError) and line else ""
