"""A volume of any file format -> a Stack: the part that NIfTI, NRRD, MHA and arrays share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvid.contract import DataError, Stack
from medvid.io.geometry import Affine, PlaneOrAuto, orient


def choose_dtype(native: np.dtype[Any], path: Path) -> np.dtype[Any]:
    """Returns the dtype in which a file's numbers are kept: its own, in this computer's byte order.

    float64 becomes float32: no scanner measures more than 7 digits, and memory would double.

    Raises:
        DataError: for colours, complex numbers and what is no number at all.
    """
    if native.kind == "c":
        raise DataError(
            f"{path} holds complex numbers. Save magnitude or phase as a volume of its own.",
            code="complex",
            files=[path],
        )
    if native.kind not in "iufb":
        raise DataError(
            f"{path} holds colours or records, not one number a voxel. Save one channel as a "
            "volume of its own.",
            code="color",
            files=[path],
        )
    if native.kind == "b":
        return np.dtype(np.uint8)
    if native.kind == "f" and native.itemsize > 4:
        return np.dtype(np.float32)
    return native.newbyteorder("=")


def require_volume(shape: Sequence[int], path: Path) -> tuple[int, int, int]:
    """Returns the three lengths of a volume; trailing axes of length 1 are dropped.

    Raises:
        DataError: when there are more axes, fewer, or one without length.
    """
    lengths = [int(length) for length in shape]
    while len(lengths) > 3 and lengths[-1] == 1:
        lengths.pop()
    size = " x ".join(str(length) for length in lengths)
    if len(lengths) > 3:
        raise DataError(
            f"{path} has {len(lengths)} axes ({size}): a series over time or directions. Save each "
            "volume as a file of its own.",
            code="four_dimensional",
            files=[path],
        )
    if len(lengths) < 3 or min(lengths) < 1:
        raise DataError(
            f"{path} is no volume: its axes are {size or 'none'}. Three are needed.",
            code="not_a_volume",
            files=[path],
        )
    return lengths[0], lengths[1], lengths[2]


def stack_from_volume(
    affine: Affine,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    load: Callable[[], NDArray[Any]],
    *,
    plane: PlaneOrAuto = "auto",
    modality: str | None = None,
    notes: Sequence[str] = (),
) -> Stack:
    """Makes the Stack of a volume.

    Args:
        affine: index in the file's own axes -> (x, y, z) mm.
        shape: the file's own.
        dtype: what `read` returns.
        load: returns the voxels in the file's own axes; a memory map is read only where asked.
        plane: of the slices; see `medvid.io.geometry.orient`.
        modality: what the volume is, when somebody knows.
        notes: from opening the file.
    """
    orientation = orient(affine, shape, plane=plane)

    def read_frames(frames: Sequence[int]) -> NDArray[Any]:
        volume = orientation.apply(load())
        everything = list(frames) == list(range(orientation.shape[0]))
        chosen = volume if everything else volume[list(frames)]
        # A copy of its own: neither a memory map nor a view with negative steps leaves the reader.
        return np.array(chosen, dtype=dtype, order="C")[None]

    return Stack(
        num_frames=orientation.shape[0],
        height=orientation.shape[1],
        width=orientation.shape[2],
        channels=1,
        dtype=dtype,
        spacing=orientation.spacing,
        positions=orientation.positions,
        unit="mm",
        modality=modality or "unknown",
        read_frames=read_frames,
        affine=orientation.affine,
        notes=(*notes, *orientation.describe()),
    )
