"""Reads a video as a Stack through PyAV, exact to the frame.

A frame is what comes out of the decoder, not what the container's header promises. Opening decodes
the file once, without turning it into RGB, and keeps every frame's presentation time; reading
seeks to the key frame before what is asked, decodes forward, and knows each frame by its time.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from medvid.contract import DataError, Stack
from medvid.io.containers import count_missing_bytes

# Headers count the frames that were sent to the encoder; some encoders hold the last one back.
_PROMISED_TOO_MANY = 1

# What FFmpeg calls its readers of still pictures: `png_pipe`, `image2`, ...
_STILL_FORMATS = ("_pipe", "image2")

_DEFAULT_RATE = 25.0  # frames a second (UCF101's), for files that name neither times nor a rate


def open_video(path: str | Path) -> Stack:
    """Opens a video as a Stack of RGB frames, (3, T, H, W) uint8.

    Every frame is decoded once, so that a damaged file is refused here and not an hour into
    training. Grey videos give three equal channels. A rotation flag, as phones write it, is
    followed. `positions` are presentation times in seconds, at any frame rate.

    Raises:
        DataError: `not_a_video` for files that hold no video, `video_truncated` when frames are
            missing at the end, `video_corrupt` when frames inside are damaged. Frames that do
            decode are never handed out in place of the ones that do not.
    """
    path = Path(path)
    index = _index_frames(path)
    reader = _VideoReader(str(path), index)
    steps = np.diff(index.seconds)
    # Differences of seconds carry rounding noise; no container's clock ticks finer than 1 ns.
    step = round(float(np.median(steps)), 9) if len(steps) else 1.0 / index.rate
    return Stack(
        num_frames=len(index.seconds),
        height=index.height,
        width=index.width,
        channels=3,
        dtype=np.dtype(np.uint8),
        spacing=(step, 1.0, 1.0),
        positions=index.seconds,
        unit="s",
        modality="video",
        read_frames=reader,
        notes=index.notes,
    )


@dataclass(frozen=True)
class _Index:
    """What one pass over a video found.

    Args:
        seconds: presentation time of every frame, rising.
        stamps: the same in the stream's own ticks; None when the file's times do not rise, frames
            are then known by counting from the start.
        keys: frames at which decoding can begin.
        places: of every packet at which it can: its time -> where it lies in the file, bytes.
        height: rows after rotation.
        width: columns after rotation.
        rate: frames a second, as the header says.
        notes: sentences for the Stack.
    """

    seconds: NDArray[np.float64]
    stamps: tuple[int, ...] | None
    keys: tuple[int, ...]
    places: Mapping[int | None, int | None]
    height: int
    width: int
    rate: float
    notes: tuple[str, ...]


def _index_frames(path: Path) -> _Index:
    stamps: list[int | None] = []
    keys: list[int] = []
    damaged: list[int] = []
    places: dict[int | None, int | None] = {}
    sizes: set[tuple[int, int]] = set()
    failure = ""
    with _open_container(path) as container:
        stream = _video_stream(container, path)
        # FFmpeg's threads that decode several frames at once lose errors, now and then: a damaged
        # file would be refused at one opening and taken at the next.
        stream.thread_type = "SLICE"
        tick = float(stream.time_base or 0)
        rate = float(stream.average_rate or stream.base_rate or _DEFAULT_RATE)
        promised = stream.frames
        try:
            for packet in container.demux(stream):
                if packet.is_keyframe:
                    places.setdefault(packet.pts, packet.pos)
                for frame in packet.decode():
                    if frame.key_frame:
                        keys.append(len(stamps))
                    if frame.is_corrupt:
                        damaged.append(len(stamps))
                    sizes.add(_size_after_rotation(frame))
                    stamps.append(frame.pts)
        except av.error.FFmpegError as error:
            failure = error.strerror or str(error)
    notes = _check_complete(path, len(stamps), promised, rate, damaged, failure)
    if len(sizes) != 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise DataError(
            f"{path}: the size of the frames changes within the video ({listed}). Cut or "
            "re-encode it so that all frames have one size.",
            code="size_changes",
            files=[path],
        )
    height, width = sizes.pop()
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == len(stamps) and tick > 0 and all(np.diff(known) > 0):
        seconds = np.array(known, np.float64) * tick
        return _Index(seconds, tuple(known), tuple(keys), places, height, width, rate, notes)
    notes += (
        "The file's presentation times do not rise from frame to frame; frames are counted from "
        f"the start and placed at the header's rate of {rate:.4g} a second.",
    )
    seconds = np.arange(len(stamps), dtype=np.float64) / rate
    return _Index(seconds, None, (0,), places, height, width, rate, notes)


def _check_complete(
    path: Path, decoded: int, promised: int, rate: float, damaged: list[int], failure: str
) -> tuple[str, ...]:
    """Returns notes on a whole video.

    Raises:
        DataError: for a video that is not whole.
    """
    missing_bytes = count_missing_bytes(path)
    reason = f" (the decoder says: {failure})" if failure else ""
    of = f"of {promised} " if promised > decoded else ""
    if decoded == 0:
        raise DataError(
            f"{path}: no frame of this video decodes{reason}. Copy the file again or leave it out.",
            code="video_truncated" if missing_bytes else "not_a_video",
            files=[path],
        )
    if missing_bytes or promised > decoded + _PROMISED_TOO_MANY:
        lacks = f"; the file lacks {missing_bytes:,} bytes of what it announces"
        raise DataError(
            f"{path}: the video is cut off: {decoded} {of}frames decode (up to second "
            f"{decoded / rate:.1f}){lacks if missing_bytes else ''}{reason}. Copy the file again "
            "or leave it out.",
            code="video_truncated",
            files=[path],
        )
    if damaged or failure:
        where = f"frame {damaged[0]} is damaged" if damaged else f"decoding ends at frame {decoded}"
        raise DataError(
            f"{path}: the video is damaged: {where}; {decoded - len(damaged)} {of}frames decode "
            f"without fault{reason}. Copy the file again or leave it out.",
            code="video_corrupt",
            files=[path],
        )
    if promised > decoded:
        return (f"The header promises {promised} frames, {decoded} decode; those are used.",)
    return ()


@dataclass(frozen=True)
class _VideoReader:
    """Reads frames of one video; picklable, so that worker processes can hold it."""

    path: str
    index: _Index

    def __call__(self, frames: Sequence[int]) -> NDArray[Any]:
        """Decodes the asked frames, each once, in one pass forward.

        Shape: (3, len(frames), H, W) uint8, RGB.

        Raises:
            DataError: when the file is no longer the one that was opened.
        """
        places: dict[int, list[int]] = {}
        for place, frame in enumerate(frames):
            places.setdefault(frame, []).append(place)
        clip = np.empty((3, len(frames), self.index.height, self.index.width), np.uint8)
        with closing(_Decoder(self.index, self.path)) as decoder:
            for frame in sorted(places):
                picture = np.moveaxis(decoder.fetch(frame), -1, 0)
                for place in places[frame]:
                    clip[:, place] = picture
        return clip


class _Decoder:
    """Moves forward through a video, skipping to a key frame where that is shorter."""

    def __init__(self, index: _Index, path: str) -> None:
        self._index = index
        self._path = path
        self._ordinals = {stamp: n for n, stamp in enumerate(index.stamps or ())}
        self._open()

    def _open(self, threads: Literal["AUTO", "SLICE"] = "AUTO") -> None:
        self._container = _open_container(Path(self._path))
        self._stream = _video_stream(self._container, Path(self._path))
        self._stream.thread_type = threads
        self._frames = self._container.decode(self._stream)
        self._next = 0  # the frame that comes out next

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def fetch(self, wanted: int) -> NDArray[np.uint8]:
        """Returns frame `wanted`, (H, W, 3); must not lie before the one fetched last."""
        key = max((k for k in self._index.keys if k <= wanted), default=0)
        found = None
        if self._index.stamps is None or key <= self._next:
            found = self._forward(wanted, start=0)
        elif self._seek(self._index.stamps[key]):
            found = self._forward(wanted, start=key)
        if found is None:
            # Some containers land behind the asked time, raw streams cannot be sought in, and
            # decoders of several frames at once may lose the last ones. The way from the start,
            # frame by frame, is open.
            self.close()
            self._open("SLICE")
            found = self._forward(wanted, start=0)
        if found is None:
            raise self._changed(wanted)
        picture = _to_rgb(found)
        if picture.shape[:2] != (self._index.height, self._index.width):
            raise self._changed(wanted)
        return picture

    def _changed(self, wanted: int) -> DataError:
        return DataError(
            f"{self._path}: frame {wanted} was there when the video was opened and is gone now. "
            "Did the file change? Open it again.",
            code="file_changed",
            files=[self._path],
        )

    def _seek(self, stamp: int) -> bool:
        """Goes to the key frame at or before a time; returns whether it truly landed on one.

        An AVI has no times but counts by its index. Where that is damaged, frames after a seek
        come with the times of others, and only their place in the file tells.
        """
        packets = self._container.demux(self._stream)
        try:
            self._container.seek(stamp, stream=self._stream)
            first = next(packets, None)
        except av.error.FFmpegError:
            return False
        if first is None or first.pts not in self._index.places:
            return False
        self._frames = (frame for packet in chain([first], packets) for frame in packet.decode())
        return self._index.places[first.pts] == first.pos

    def _forward(self, wanted: int, start: int) -> VideoFrame | None:
        """Decodes up to `wanted`; None when it does not come.

        Frames before `start` may be damaged: their predecessors were not decoded.
        """
        try:
            for frame in self._frames:
                ordinal = self._next
                if self._index.stamps is not None:
                    ordinal = self._ordinals.get(cast("int", frame.pts), -1)
                if ordinal > wanted or (ordinal >= start and frame.is_corrupt):
                    return None
                self._next = ordinal + 1
                if ordinal == wanted:
                    return frame
        except av.error.FFmpegError:
            return None
        return None


def _open_container(path: Path) -> InputContainer:
    """Opens a file with PyAV.

    Raises:
        DataError: for files that hold no video.
    """
    try:
        # Some cameras write their metadata in other encodings than UTF-8; frames matter, not they.
        container = av.open(str(path), metadata_errors="ignore")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file.", code="no_file", files=[path]) from None
    except (av.error.FFmpegError, OSError) as error:
        truncated = path.is_file() and count_missing_bytes(path) > 0
        state = "it is empty (0 bytes)" if path.stat().st_size == 0 else str(error.strerror)
        raise DataError(
            f"{path}: this file does not open as a video: {state}. "
            + ("It is cut off. " if truncated else "")
            + "Copy the file again or leave it out.",
            code="video_truncated" if truncated else "not_a_video",
            files=[path],
        ) from None
    if container.format.name.endswith(_STILL_FORMATS):
        name = container.format.name
        container.close()
        raise DataError(
            f"{path}: this is a still picture ({name}), not a video. Give the folder that "
            "holds the pictures to read them as frames.",
            code="not_a_video",
            files=[path],
        )
    return container


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Returns the container's main video stream, not a cover picture."""
    stream = container.streams.best("video")
    if stream is None:
        raise DataError(
            f"{path}: the file holds no picture, only sound or text.",
            code="not_a_video",
            files=[path],
        )
    stream = cast("VideoStream", stream)
    stream.thread_type = "AUTO"
    return stream


def _quarter_turns(frame: VideoFrame) -> int:
    """Returns how often the picture must be turned by 90 degrees counter-clockwise."""
    return round(frame.rotation / 90) % 4


def _size_after_rotation(frame: VideoFrame) -> tuple[int, int]:
    size = (frame.height, frame.width)
    return size if _quarter_turns(frame) % 2 == 0 else size[::-1]


def _to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    picture = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
    return np.rot90(picture, _quarter_turns(frame))
