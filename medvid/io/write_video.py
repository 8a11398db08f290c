"""Writes frames as a video, for made-up data, tests and figures."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from medvid.contract import ConfigError, DataError

# 1 (best) to 31: MPEG-4's quantiser. 2 is visually lossless; 1 is refused by some players.
_MPEG4_QUANTISER = "2"

# Frame rates such as 29.97 are meant as 30000/1001; no usual rate has a larger denominator.
_LARGEST_DENOMINATOR = 1001

_SUFFIXES = (".avi", ".mkv", ".mp4")


def write_video(
    path: str | Path, frames: NDArray[np.uint8], *, fps: float | int = 25, lossless: bool = False
) -> None:
    """Writes frames as MPEG-4, or without any loss as FFV1 (in RGB).

    The file appears under its name only when it is whole.

    Args:
        path: ends in .avi, .mp4 or .mkv, which chooses the container.
        frames: (T, H, W, 3) RGB or (T, H, W) grey, uint8. Without `lossless`, H and W must be
            even, because MPEG-4 halves the resolution of the colours.
        fps: frames a second.
        lossless: FFV1 in place of MPEG-4; for .avi and .mkv.

    Raises:
        ConfigError: for another ending, or lossless .mp4.
        DataError: for frames of another shape or dtype, none at all, or odd sizes with MPEG-4.
    """
    path = Path(path)
    _check_path(path, lossless)
    _check_frames(frames, lossless)
    beside = path.with_name(f"{path.stem}.part{path.suffix}")
    rgb = frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
    try:
        with av.open(str(beside), "w") as container:
            rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
            options = {} if lossless else {"qscale": _MPEG4_QUANTISER}
            stream = container.add_stream(
                "ffv1" if lossless else "mpeg4", rate=rate, options=options
            )
            stream.height, stream.width = frames.shape[1:3]
            # BGR with a byte of padding is the 8-bit RGB layout that FFV1 takes.
            stream.pix_fmt = "bgr0" if lossless else "yuv420p"
            for picture in rgb:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _check_path(path: Path, lossless: bool) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"{path}: videos are written as {', '.join(_SUFFIXES)}, not `{path.suffix}`.",
            code="video_suffix",
        )
    if lossless and path.suffix.lower() == ".mp4":
        raise ConfigError(f"{path}: lossless video needs .mkv or .avi.", code="video_suffix")


def _check_frames(frames: NDArray[np.uint8], lossless: bool) -> None:
    grey, colour = frames.ndim == 3, frames.ndim == 4 and frames.shape[-1] == 3
    if not (grey or colour) or len(frames) == 0 or frames.dtype != np.uint8:
        raise DataError(
            f"Frames of shape {frames.shape} and dtype {frames.dtype} are no video; give "
            "(T, H, W, 3) or (T, H, W) uint8 with at least one frame.",
            code="video_shape",
        )
    height, width = frames.shape[1:3]
    if not lossless and (height % 2 or width % 2):
        raise DataError(
            f"MPEG-4 needs even sizes, not {height}x{width}. Crop a row or column, or write "
            "`lossless=True` as .mkv.",
            code="video_shape",
        )
