"""Which frames of a stack make a clip: `dense, uniform, segments, centered, sliding, context`.

A clip's length is given in `frames`, in mm along the through-plane axis (`frames_mm`), or both:

* `frames: 16` takes 16 frames, `stride` apart;
* `frames_mm: 40` takes as many neighbours as fill 40 mm of this scan, so that thin and thick slices
  show the same piece of anatomy; T then differs between scans, and batches are padded;
* `frames: 9, frames_mm: 40` spreads 9 frames over 40 mm, by the nearest slice;
* neither takes the whole stack.

A stack shorter than the clip is padded by repeating its edge, with `mask` False there. It is never
looped: a loop would join the vertex to the base of the skull.

With a random generator a sampler draws as in training; without, it chooses as in testing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medvid.build import Spec, build
from medvid.contract import ConfigError, Sampler, Windows
from medvid.data.sight import Context


@dataclass(frozen=True)
class Extent:
    """The frames of one clip, as offsets from its first one.

    Args:
        offsets: (T,), rising from 0.
        span: frames from the first to one behind the last.
    """

    offsets: NDArray[np.int64]

    @property
    def span(self) -> int:
        """Frames from the first to the last one, both counted."""
        return int(self.offsets[-1]) + 1


def measure_extent(
    num_frames: int,
    step: float,
    *,
    frames: int | None,
    frames_mm: float | None,
    stride: int,
    odd: bool = False,
) -> Extent:
    """Turns a length in frames and/or mm into the frame offsets of one clip.

    Args:
        num_frames: of the stack.
        step: distance of neighbouring frames, in mm.
        frames: T, or None.
        frames_mm: through-plane length in mm, or None.
        stride: frames from one to the next, where `frames_mm` does not decide it.
        odd: make a length that follows from mm odd, so that it has a middle frame.
    """
    if frames_mm is None:
        length = num_frames if frames is None else frames
        return Extent(np.arange(length, dtype=np.int64) * (1 if frames is None else stride))
    if frames is None:
        # T slices fill T * step mm; at least the slice itself.
        length = max(1, round(frames_mm / step))
        if odd:
            length = 2 * math.floor(frames_mm / step / 2) + 1
        return Extent(np.arange(length, dtype=np.int64))
    centres = (np.arange(frames) - (frames - 1) / 2) * (frames_mm / frames / step)
    # Rounding away from the middle keeps the offsets symmetric about it.
    nearest = np.sign(centres) * np.floor(np.abs(centres) + 0.5)
    return Extent((nearest - nearest[0]).astype(np.int64))


def _place(starts: NDArray[np.int64], extent: Extent, num_frames: int) -> Windows:
    """Lays the clip at every start; frames outside the stack become masked edge frames."""
    frames = starts[:, None] + extent.offsets[None, :]
    inside = (frames >= 0) & (frames < num_frames)
    return Windows(np.minimum(np.maximum(frames, 0), num_frames - 1), inside)


def _spread(count: int, last_start: int) -> NDArray[np.int64]:
    """Returns `count` starts spread evenly over 0..last_start; one alone lies in the middle."""
    if count == 1:
        return np.array([last_start // 2], dtype=np.int64)
    return np.round(np.linspace(0, last_start, count)).astype(np.int64)


def _check_lengths(frames: int | None, frames_mm: float | None, **counts: int | None) -> None:
    for name, value in {"frames": frames, "frames_mm": frames_mm, **counts}.items():
        if value is not None and not value > 0:
            raise ConfigError(f"A sampler was given `{name}: {value}`; it must be above 0.")


@dataclass(frozen=True)
class Dense:
    """A run of neighbouring frames at a random place; the usual training clip of 3D networks.

    In testing the runs are spread evenly over the stack.

    Args:
        frames: frames of a clip, T.
        frames_mm: length of a clip in mm.
        stride: frames from one to the next.
        clips: clips of an item in training.
        test_clips: clips of an item in testing, whose predictions are averaged.

    References:
        Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015,
        section 3.2 (16 frames; ten random clips in testing, here evenly spread).
    """

    frames: int | None = None
    frames_mm: float | None = None
    stride: int = 1
    clips: int = 1
    test_clips: int = 1

    def __post_init__(self) -> None:
        _check_lengths(
            self.frames,
            self.frames_mm,
            stride=self.stride,
            clips=self.clips,
            test_clips=self.test_clips,
        )

    def windows(
        self,
        num_frames: int,
        step: float,
        *,
        rng: np.random.Generator | None,
        frame: int | None = None,
    ) -> Windows:
        """Chooses the frames of `clips` (training) or `test_clips` (testing) runs."""
        extent = measure_extent(
            num_frames, step, frames=self.frames, frames_mm=self.frames_mm, stride=self.stride
        )
        last_start = max(0, num_frames - extent.span)
        if rng is None:
            starts = _spread(self.test_clips, last_start)
        else:
            starts = np.array(
                [rng.integers(0, last_start + 1) for _ in range(self.clips)], np.int64
            )
        return _place(starts, extent, num_frames)


@dataclass(frozen=True)
class Uniform:
    """Clips spread evenly from the first frame to the last, in training as in testing.

    Args:
        frames: frames of a clip, T.
        frames_mm: length of a clip in mm.
        stride: frames from one to the next.
        clips: clips of an item.
    """

    frames: int | None = None
    frames_mm: float | None = None
    stride: int = 1
    clips: int = 1

    def __post_init__(self) -> None:
        _check_lengths(self.frames, self.frames_mm, stride=self.stride, clips=self.clips)

    def windows(
        self,
        num_frames: int,
        step: float,
        *,
        rng: np.random.Generator | None,
        frame: int | None = None,
    ) -> Windows:
        """Chooses the same frames every time."""
        extent = measure_extent(
            num_frames, step, frames=self.frames, frames_mm=self.frames_mm, stride=self.stride
        )
        starts = _spread(self.clips, max(0, num_frames - extent.span))
        return _place(starts, extent, num_frames)


@dataclass(frozen=True)
class Segments:
    """One short snippet from each of K equal segments: the whole stack, sparsely.

    Inside its segment a snippet lies at random in training and in the middle in testing. Of a
    stack with fewer frames than segments, joined clips show every frame once and mask the rest;
    snippets that are networks' inputs by themselves cannot be empty, so neighbouring segments then
    show the same frame, as in the authors' code.

    Args:
        segments: K.
        frames: frames of a snippet.
        test_segments: K in testing, when it differs (TSN tests with 25).
        join: lay the snippets one behind the other into a single clip of K * frames, for networks
            that take no clips axis.

    References:
        Wang et al., Temporal Segment Networks, ECCV 2016, section 3.1.
    """

    segments: int = 3
    frames: int = 1
    test_segments: int | None = None
    join: bool = False

    def __post_init__(self) -> None:
        _check_lengths(self.frames, None, segments=self.segments, test_segments=self.test_segments)

    def windows(
        self,
        num_frames: int,
        step: float,
        *,
        rng: np.random.Generator | None,
        frame: int | None = None,
    ) -> Windows:
        """Chooses K snippets, in the order of the stack."""
        count = self.segments if rng is not None else (self.test_segments or self.segments)
        extent = Extent(np.arange(self.frames, dtype=np.int64))
        if not self.join and count > num_frames:
            return _place(
                np.arange(count, dtype=np.int64) * num_frames // count, extent, num_frames
            )
        used = min(count, num_frames)
        # The starts that leave room for a whole snippet, cut into equal half-open segments.
        room = max(used, num_frames - self.frames + 1)
        edges = np.arange(used + 1, dtype=np.int64) * room // used
        if rng is None:
            starts = (edges[:-1] + edges[1:] - 1) // 2
        else:
            starts = rng.integers(edges[:-1], edges[1:])
        windows = _place(starts, extent, num_frames)
        padding = count - used
        frames = np.concatenate([windows.frames, np.repeat(windows.frames[-1:], padding, axis=0)])
        mask = np.concatenate([windows.mask, np.zeros((padding, self.frames), dtype=bool)])
        if self.join:
            frames, mask = frames.reshape(1, -1), mask.reshape(1, -1)
        return Windows(frames, mask)


@dataclass(frozen=True)
class Centered:
    """The window around the target's frame, or around the middle of the stack.

    For an even number of frames the target is the first of the second half.

    Args:
        frames: frames of the window, T.
        frames_mm: length of the window in mm; T is then odd.
        stride: frames from one to the next.
        jitter: in training the window moves by up to this many frames to either side.
    """

    frames: int | None = None
    frames_mm: float | None = None
    stride: int = 1
    jitter: int = 0

    def __post_init__(self) -> None:
        _check_lengths(self.frames, self.frames_mm, stride=self.stride)
        if self.frames is None and self.frames_mm is None:
            raise ConfigError("The sampler `centered` needs `frames` or `frames_mm`.")
        if self.jitter < 0:
            raise ConfigError(f"The sampler `centered` was given `jitter: {self.jitter}`.")

    def windows(
        self,
        num_frames: int,
        step: float,
        *,
        rng: np.random.Generator | None,
        frame: int | None = None,
    ) -> Windows:
        """Chooses one window; frames beyond the stack are masked."""
        extent = measure_extent(
            num_frames,
            step,
            frames=self.frames,
            frames_mm=self.frames_mm,
            stride=self.stride,
            odd=True,
        )
        centre = num_frames // 2 if frame is None else frame
        if rng is not None and self.jitter:
            centre += int(rng.integers(-self.jitter, self.jitter + 1))
            centre = min(max(centre, 0), num_frames - 1)
        start = centre - int(extent.offsets[len(extent.offsets) // 2])
        return _place(np.array([start], dtype=np.int64), extent, num_frames)


@dataclass(frozen=True)
class Sliding:
    """All windows of the stack, `hop` frames apart.

    In training `clips` of them are drawn; in testing all are used, and with `end: flush` windows
    that leave no gaps show every frame, of a finding in the last slices too.

    Args:
        frames: frames of a window, T.
        frames_mm: length of a window in mm.
        stride: frames from one to the next inside a window.
        hop: frames from one window to the next.
        clips: windows of an item in training.
        end: what becomes of frames behind the last window: `flush` adds one that ends with the
            stack and overlaps the one before; `drop` leaves them out, as video papers do that cut
            a video into clips side by side. Windows then lie where a whole hop is left for them: a
            stack of n frames has n // hop, and at least one, where hop is the window's length.

    References:
        Tran et al., ICCV 2015: the released test list of UCF101 has 16-frame clips 16 apart.
    """

    frames: int | None = None
    frames_mm: float | None = None
    stride: int = 1
    hop: int = 1
    clips: int = 1
    end: Literal["flush", "drop"] = "flush"

    def __post_init__(self) -> None:
        _check_lengths(
            self.frames, self.frames_mm, stride=self.stride, hop=self.hop, clips=self.clips
        )

    def windows(
        self,
        num_frames: int,
        step: float,
        *,
        rng: np.random.Generator | None,
        frame: int | None = None,
    ) -> Windows:
        """Chooses all windows, or draws `clips` of them."""
        extent = measure_extent(
            num_frames, step, frames=self.frames, frames_mm=self.frames_mm, stride=self.stride
        )
        taken = extent.span if self.end == "flush" else max(extent.span, self.hop)
        last_start = max(0, num_frames - taken)
        starts = np.arange(0, last_start + 1, self.hop)
        if self.end == "flush":
            starts = np.unique(np.append(starts, last_start))
        if rng is not None:
            starts = np.sort(rng.choice(starts, size=self.clips, replace=len(starts) < self.clips))
        return _place(starts, extent, num_frames)


SAMPLERS: Mapping[str, Callable[..., Sampler]] = {
    "dense": Dense,
    "uniform": Uniform,
    "segments": Segments,
    "centered": Centered,
    "sliding": Sliding,
    "context": Context,
}


def looks_at_target(sampler: Sampler) -> bool:
    """Tells whether the sampler makes a clip around a given frame, such as a labelled slice."""
    return isinstance(sampler, Centered | Context)


def has_own_count(sampler: Sampler) -> bool:
    """Tells whether every stack has its own number of clips in testing."""
    return isinstance(sampler, Sliding) or (
        isinstance(sampler, Context) and sampler.positions == "every"
    )


def build_sampler(spec: Spec) -> Sampler:
    """Builds a sampler from its name and options.

    Raises:
        ConfigError: for an unknown name or option.
    """
    return build(SAMPLERS, spec, "sampler")
