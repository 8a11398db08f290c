"""NumPy files: (T, H, W), or (T, H, W, C) with 3 channels; no patient axes, no spacing."""

import zipfile
import zlib
from collections.abc import Sequence
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


def open_array(path: Path, *, modality: str | None = None) -> Stack:
    """Opens a NumPy file; an .npy is mapped, an .npz is read.

    Raises:
        DataError: when the file is no array, cut short, or has another shape.
    """
    array = _load(path)
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
        with path.open("rb") as file:
            if file.read(len(ZIP_START)) == ZIP_START:
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return _take_array(path, archive)
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, SyntaxError, TokenError, EOFError, OSError, zipfile.BadZipFile):
        raise DataError(
            f"{path} is no NumPy array, cut short, or holds Python objects, which are not loaded.",
            code="truncated",
            files=[path],
        ) from None
    return array


def _take_array(path: Path, archive: Any) -> NDArray[Any]:
    names = [name for name in KEYS if name in archive.files] or archive.files
    if not names:
        raise DataError(f"{path} holds no array at all.", code="no_array", files=[path])
    if len(names) != 1 and names[0] not in KEYS:
        raise DataError(
            f"{path} holds several arrays ({', '.join(archive.files)}). Name the one to read `x`.",
            code="several_arrays",
            files=[path],
        )
    try:
        array: NDArray[Any] = archive[names[0]]
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile):
        raise DataError(
            f"{path} is cut short or damaged, or `{names[0]}` in it holds Python objects, which "
            "are not loaded.",
            code="truncated",
            files=[path],
        ) from None
    return array
