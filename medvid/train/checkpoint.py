"""Checkpoints: written whole or not at all, read without running anybody's code.

best.ckpt  {"medvid": {...}, "state_dict": the selected weights}: for prediction
last.ckpt  the same, and all that is needed to go on: optimizer, schedule, epoch, history
"""

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import medvid
from medvid.contract import DataError

Checkpoint = dict[str, Any]

LIGHTNING_PREFIX = "model."
"""Before the names of all weights in last.ckpt: there the model is a part of `ClipClassifier`."""

NAMES_SHOWN = 5  # names of weights in a message; a network has hundreds


def describe_checkpoint(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what stands under `medvid` in a checkpoint: the caller's values and the version.

    Raises:
        TypeError: for a value that JSON cannot say; checkpoints hold tensors and plain values.
    """
    plain: dict[str, Any] = json.loads(json.dumps(dict(meta)))
    return plain | {"version": medvid.__version__}


def save_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Writes a checkpoint; whoever reads `path` finds the old one or the new one, whole.

    Raises:
        DataError: when it cannot be written, such as on a full disk.
    """
    beside = path.with_name(path.name + ".part")
    try:
        torch.save(dict(checkpoint), beside)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        # torch's own writer reports a full disk as a RuntimeError.
        raise refuse_writing(path, error) from None


def refuse_writing(path: Path, error: Exception) -> DataError:
    """Returns the sentence for a checkpoint that could not be written."""
    path.with_name(path.name + ".part").unlink(missing_ok=True)
    reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
    return DataError(
        f"{path} could not be written: {reason}. Nothing that was there before is lost. Make room "
        "(or fix the rights), then go on with --resume.",
        code="not_written",
        files=[path],
    )


def save_weights(model: nn.Module, path: Path, meta: Mapping[str, Any]) -> None:
    """Writes the weights of a model alone."""
    weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    save_checkpoint({"medvid": describe_checkpoint(meta), "state_dict": weights}, path)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint of medvid onto the CPU; no code in it is run.

    Raises:
        DataError: when the file is missing, no checkpoint, cut short, holds code, or is not
            medvid's.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no checkpoint {path}.", code="no_checkpoint", files=[path])
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path} is no checkpoint, or it was cut short: a checkpoint is a zip archive written "
            "by torch. Take last.ckpt or best.ckpt of a fold of a run.",
            code="no_checkpoint",
            files=[path],
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(
            f"{path} holds more than weights and plain values, and loading it could run code. It "
            "is refused. medvid's own checkpoints never need that; ask where the file is from.",
            code="unsafe_checkpoint",
            files=[path],
        ) from None
    except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}",
            code="no_checkpoint",
            files=[path],
        ) from None
    if not isinstance(checkpoint, dict) or not {"medvid", "state_dict"} <= checkpoint.keys():
        raise DataError(
            f"{path} was not written by medvid: it says nothing about classes and transforms.",
            code="foreign_checkpoint",
            files=[path],
        )
    return checkpoint


def load_weights(model: nn.Module, checkpoint: Checkpoint, path: str | Path = "") -> None:
    """Puts the weights of a checkpoint into a model.

    Args:
        model: gets the weights.
        checkpoint: of `load_checkpoint`.
        path: where it came from, for the message.

    Raises:
        DataError: when the checkpoint is of another model; names the weights that do not fit.
    """
    given: dict[str, Tensor] = checkpoint["state_dict"]
    if "loops" in checkpoint:  # Lightning's mark: this is a last.ckpt
        given = {
            name.removeprefix(LIGHTNING_PREFIX): value
            for name, value in given.items()
            if name.startswith(LIGHTNING_PREFIX)
        }
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    other_shape = [
        f"{name} ({tuple(given[name].shape)} in the file, {tuple(value.shape)} in the model)"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    faults = {"missing": missing, "not in the model": unexpected, "of another shape": other_shape}
    if any(faults.values()):
        found = "; ".join(f"{fault}: {_shorten(names)}" for fault, names in faults.items() if names)
        raise DataError(
            f"The checkpoint {path or ''} is of another model than {type(model).__name__} with "
            f"these options. Weights {found}. Build the model as the run's config.yaml says.",
            code="other_model",
            files=[path] if path else [],
        )
    model.load_state_dict(given)


def update_checkpoint_meta(path: str | Path, **values: Any) -> None:
    """Adds values to what a checkpoint says about itself, such as the operating point.

    Raises:
        DataError: see `load_checkpoint` and `save_checkpoint`.
    """
    checkpoint = load_checkpoint(path)
    meta = {key: value for key, value in checkpoint["medvid"].items() if key != "version"}
    described = describe_checkpoint(meta | values)
    # The version is that of the program which trained, not of the one which adds a note.
    checkpoint["medvid"] = described | {"version": checkpoint["medvid"]["version"]}
    save_checkpoint(checkpoint, Path(path))


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
