"""NumPy files: (T, H, W), or (T, H, W, C) with 3 channels; no patient axes, no spacing.

An .npz may hold many stacks: `train_images[12]` is the 13th of its array `train_images`.
"""

import re
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.contract import DataError, Stack

ZIP_START = b"PK"
"""How an .npz begins, whatever its name; an .npy begins otherwise."""

KEYS = ("x", "arr_0")
"""Names under which a single array usually lies in an .npz."""

_UNREADABLE = (
    ValueError,
    SyntaxError,
    TokenError,
    EOFError,
    OSError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What NumPy and zipfile raise for damaged files."""

_ITEM = re.compile(r"(?P<name>.*?)(\[(?P<row>[0-9]+)\])?")


def name_item(name: str, row: int) -> str:
    """Returns what `open_array` is given for one stack among those of an array of an .npz."""
    return f"{name}[{row}]"


def open_array(path: Path, *, modality: str | None = None, item: str | None = None) -> Stack:
    """Opens a NumPy file; an .npy is mapped, an .npz is read.

    Args:
        path: the file.
        modality: what it is, which the file does not say.
        item: of an .npz, the array that is meant, as `x`, or one row of it, as `x[12]`.

    Raises:
        DataError: when the file is no array, cut short, or has another shape, or holds no `item`.
    """
    array = _load(path) if item is None else _load_item(path, item)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise DataError(
            f"{path} has the shape {array.shape}; medvid reads (T, H, W) or (T, H, W, 3).",
            code="not_3d",
            files=[path],
        )
    if array.dtype.kind not in "iuf" or 0 in array.shape:
        raise DataError(
            f"{path} holds an array of {array.dtype} with shape {array.shape}; medvid reads "
            "numbers, at least one.",
            code="not_grey",
            files=[path],
        )
    dtype = np.dtype(np.float32) if array.dtype == np.float64 else array.dtype.newbyteorder("=")
    channels_first = array[None] if array.ndim == 3 else np.moveaxis(array, 3, 0)

    def read_frames(frames: Sequence[int]) -> NDArray[Any]:
        return channels_first[:, list(frames)].astype(dtype)

    channels, num_frames, height, width = channels_first.shape
    return Stack(
        num_frames=num_frames,
        height=height,
        width=width,
        channels=channels,
        dtype=dtype,
        spacing=(1.0, 1.0, 1.0),
        positions=np.arange(num_frames, dtype=np.float64),
        unit="mm",
        modality=modality or "unknown",
        read_frames=read_frames,
        notes=("A plain array: spacing is taken as 1 mm and directions are unknown.",),
    )


def _load(path: Path) -> NDArray[Any]:
    try:
        if _is_archive(path):
            return _read_member(path, None)
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE:
        raise DataError(
            f"{path} is no NumPy array, cut short, or holds Python objects, which are not loaded.",
            code="truncated",
            files=[path],
        ) from None
    return array


def _load_item(path: Path, item: str) -> NDArray[Any]:
    """Returns an array of an .npz, or a copy of one of its rows."""
    if not _is_archive(path):
        raise DataError(
            f"{path} is one array, and no archive (.npz) that holds `{item}`. Leave `series` "
            "empty.",
            code="unknown_array",
            files=[path],
        )
    parts = _ITEM.fullmatch(item)
    name = parts["name"] if parts else item
    state = path.stat()
    array = _hold_member(path, name, state.st_mtime_ns, state.st_size)
    if parts is None or parts["row"] is None:
        return array
    row = int(parts["row"])
    if array.ndim == 0 or row >= len(array):
        raise DataError(
            f"{path} holds no `{item}`: its array `{name}` has the shape {array.shape}, and rows "
            "are counted from 0.",
            code="unknown_array",
            files=[path],
        )
    # A view would keep the whole array in memory for as long as the stack lives.
    return np.array(array[row])


@lru_cache(maxsize=1)
def _hold_member(path: Path, name: str, _changed: int, _size: int) -> NDArray[Any]:
    """Keeps the last array: its rows are read one after the other, and it unpacks only whole."""
    return _read_member(path, name)


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(ZIP_START)) == ZIP_START


def _read_member(path: Path, name: str | None) -> NDArray[Any]:
    """Reads an array of an .npz: the named one, or the only one that can be meant."""
    try:
        # NumPy leaves a file open that it opened itself and could not read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _take_array(path, archive, name)
    except _UNREADABLE:
        raise DataError(
            f"{path} is cut short or damaged: it is no readable .npz.",
            code="truncated",
            files=[path],
        ) from None


def _take_array(path: Path, archive: Any, name: str | None) -> NDArray[Any]:
    if name is None:
        name = _choose_array(path, archive.files)
    elif name not in archive.files:
        raise DataError(
            f"{path} holds no array `{name}`; it holds {', '.join(archive.files) or 'none'}.",
            code="unknown_array",
            files=[path],
        )
    try:
        array: NDArray[Any] = archive[name]
    except _UNREADABLE:
        raise DataError(
            f"{path} is cut short or damaged, or `{name}` in it holds Python objects, which are "
            "not loaded.",
            code="truncated",
            files=[path],
        ) from None
    return array


def _choose_array(path: Path, files: Sequence[str]) -> str:
    names = [name for name in KEYS if name in files] or list(files)
    if not names:
        raise DataError(f"{path} holds no array at all.", code="no_array", files=[path])
    if len(names) != 1 and names[0] not in KEYS:
        raise DataError(
            f"{path} holds several arrays ({', '.join(files)}). Name the one to read `x`, or say "
            f"which, or which row of it, in the manifest's column `series`: `{names[0]}`, "
            f"`{name_item(names[0], 0)}`.",
            code="several_arrays",
            files=[path],
        )
    return names[0]
