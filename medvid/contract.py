"""What the rooms of medvid promise each other: types, axes, units and errors.

Axes are (B, C, T, H, W) everywhere: T counts slices of a scan or frames of a video. An axial scan
runs feet to head along T, rows run anterior to posterior, columns run patient right to left.
Positions in a patient are (x, y, z) in mm in DICOM's system: x to the left, y to the back, z to the
head. `spacing` and `positions` are in mm for scans and in seconds along T for videos.

This module imports nothing of medvid, and not torch, so that reading files and computing metrics
stay quick to start.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class MedvidError(Exception):
    """Something a user can mend; the message says what was given, what is possible, what to do.

    Args:
        message: whole sentences. Names files, never patients.
        code: a short reason code for tables and `refused.csv`, such as `missing_slices`.
        files: the files concerned, worst first.
    """

    exit_code = 3

    def __init__(self, message: str, *, code: str = "", files: Sequence[str | Path] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.files = tuple(str(file) for file in files)

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments are lost by Exception's own pickling; worker processes need them.
        return (_rebuild_error, (type(self), self.message, self.code, self.files))


def _rebuild_error(
    kind: type[MedvidError], message: str, code: str, files: tuple[str, ...]
) -> MedvidError:
    return kind(message, code=code, files=files)


class ConfigError(MedvidError):
    """A config, an option or a command line that cannot be meant."""

    exit_code = 2


class SourceError(MedvidError):
    """A source of labelled data that does not lie on disk as its adapter expects."""


class GeometryError(MedvidError):
    """Slices that do not form one regular stack, or a position outside of it."""


class DataError(MedvidError):
    """A file, a label or a split that cannot be used as it is."""


Label = str | Mapping[str, int]
"""One class by name, or for multi-label tasks every finding's name with 0 or 1."""


FIXED_COLUMNS = ("case_id", "patient_id", "path", "series")
CENTER_COLUMNS = ("x_mm", "y_mm", "z_mm")
PLACE_COLUMNS = ("slice", "sop_uid", "slice_file", "slice_at")
OWN_COLUMNS = frozenset({*FIXED_COLUMNS, *CENTER_COLUMNS, *PLACE_COLUMNS, "label", "split", "fold"})
"""Columns of a manifest with a meaning; a record's `extra` may use none of them."""

OWN_BEGINNINGS = ("label_", "path_")
"""Columns that begin so have a meaning too: a finding, or a channel."""


def is_own_column(name: str) -> bool:
    """Whether a manifest's column has a meaning, or would have it in small letters."""
    plain = name.casefold()
    return plain in OWN_COLUMNS or plain.startswith(OWN_BEGINNINGS)


@dataclass(frozen=True)
class Channel:
    """One of several scans that are read as the channels of one case.

    Args:
        name: such as `t1` or `pet`; the manifest's column is `path_<name>`.
        path: a file or folder that `medvid.io.open_stack` reads.
        series: which series of a DICOM folder, as the token that `medvid scan` prints.
    """

    name: str
    path: str
    series: str | None = None


@dataclass(frozen=True)
class Record:
    """One labelled item before it is read: a row of the manifest.

    Args:
        case_id: unique; one scan, one video or one region of a scan.
        patient_id: what must never be on both sides of a split.
        path: a file or folder that `medvid.io.open_stack` reads; of several channels the first's.
        series: which series of a DICOM folder, as the token that `medvid scan` prints; or which
            row of an .npz, such as `train_images[12]`.
        channels: the parts of a case of several channels, in their order; () for a single scan.
        label: the label of the whole stack or of the region, None when unknown.
        slice_labels: frame index in canonical order -> label, for `slice` tasks.
        placed_labels: the same for slices whose frame is not known yet: a key of
            `Stack.frame_keys`, or a position in mm as a float, -> label. Once the stack is open,
            `medvid.io.slice_truth` turns them into `slice_labels`.
        center: (x, y, z) in mm, DICOM patient axes, for `region` tasks.
        split: `train`, `val` or `test` when the source fixes it.
        fold: 0-based fold when the source fixes it.
        extra: all other columns of the manifest, as text.
    """

    case_id: str
    patient_id: str
    path: str
    series: str | None = None
    channels: tuple[Channel, ...] = ()
    label: Label | None = None
    slice_labels: Mapping[int, Label] | None = None
    placed_labels: Mapping[str | float, Label] | None = None
    center: tuple[float, float, float] | None = None
    split: str | None = None
    fold: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


ReadFrames = Callable[[Sequence[int]], NDArray[Any]]


@dataclass(frozen=True)
class Stack:
    """An opened scan or video. Nothing is decoded until `read` is called.

    Args:
        num_frames: slices or frames, T.
        height: rows, H.
        width: columns, W.
        channels: 1 for scans, 3 (RGB) for colour videos, more for cases of several scans.
        dtype: of the voxels that `read` returns: the native one, int16 HU for CT.
        spacing: distance of neighbours along (T, H, W): mm; for videos seconds, pixels, pixels.
        positions: (T,), rising; mm along the stack's own axis, or seconds.
        unit: of T's spacing and positions.
        modality: DICOM's word (CT, MR, ...), `video`, or `unknown`.
        read_frames: frame indices -> array (C, T, H, W) in `dtype`.
        array: the whole stack, (C, T, H, W), where it is mapped or in memory anyway; `read` then
            touches only what is asked for.
        affine: (4, 4), homogeneous (t, h, w) index -> (x, y, z) mm in DICOM patient axes; None
            where there is no patient (videos, arrays).
        frame_keys: (T,) names by which labels may call the frames, see `medvid.io.slice_truth`;
            "" for a frame that no file holds, () where no frame has a name.
        notes: what was found and mended while opening, one sentence each.
        left_out: images of the series, or files that may be such, that could not be read and are
            no frames; the numbers of the others may have moved.
    """

    num_frames: int
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    spacing: tuple[float, float, float]
    positions: NDArray[np.float64]
    unit: Literal["mm", "s"]
    modality: str
    read_frames: ReadFrames
    array: NDArray[Any] | None = None
    affine: NDArray[np.float64] | None = None
    frame_keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: int = 0

    def read(
        self,
        frames: Sequence[int] | None = None,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> NDArray[Any]:
        """Returns the asked frames, all when None, decoding no others.

        Frames may repeat and come in any order. `rows` and `columns` cut a rectangle out of
        every frame.

        Shape: (C, len(frames), H, W) in `dtype`; H and W are those of the rectangle. It may be a
        read-only view of a file.

        Raises:
            DataError: when a frame lies outside the stack or cannot be decoded.
        """
        asked = list(range(self.num_frames)) if frames is None else [int(f) for f in frames]
        outside = [frame for frame in asked if not 0 <= frame < self.num_frames]
        if outside:
            raise DataError(
                f"Frame {outside[0]} was asked of a stack of {self.num_frames} frames "
                f"(0 to {self.num_frames - 1}).",
                code="frame_outside",
            )
        if self.array is not None:
            if asked and asked == list(range(asked[0], asked[0] + len(asked))):
                # A run of frames is a view; picking single ones would copy every voxel.
                return self.array[:, asked[0] : asked[-1] + 1, rows, columns]
            return self.array[:, :, rows, columns][:, asked]
        return self.read_frames(asked)[:, :, rows, columns]

    def locate(self, center: tuple[float, float, float]) -> tuple[float, float, float]:
        """Turns a position (x, y, z) in mm into fractional (t, h, w) indices.

        Raises:
            GeometryError: when the stack has no patient axes or the position lies outside it.
        """
        if self.affine is None:
            raise GeometryError(
                "A position in mm was given for a stack without patient axes (a video or a plain "
                "array). Give DICOM, NIfTI, NRRD or MHA files for region tasks.",
                code="no_patient_axes",
            )
        t, h, w, _ = np.linalg.solve(self.affine, np.array([*center, 1.0]))
        t = float(self.count_frames(float(t)))
        size = (self.num_frames, self.height, self.width)
        # Half a voxel beyond the outermost centres is still inside the scan.
        if not all(-0.5 <= i <= n - 0.5 for i, n in zip((t, h, w), size, strict=True)):
            raise GeometryError(
                f"The position {tuple(round(c, 1) for c in center)} mm lies outside the scan: at "
                f"voxel (t, h, w) = ({t:.1f}, {h:.1f}, {w:.1f}) of {size}. Positions are DICOM "
                "patient coordinates (x to the left, y to the back, z to the head); a sign swap "
                "of x and y (NIfTI coordinates) is the usual cause.",
                code="center_outside",
            )
        return float(t), float(h), float(w)

    def count_frames(self, steps: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Turns places in even steps from the first frame, as `affine` counts, into frame indices.

        They differ only where uneven slices were kept with their true positions. Beyond the ends
        it goes on by the usual step.

        Shape: any; both fractional.
        """
        along = self.positions - self.positions[0]
        at = np.asarray(steps) * self.spacing[0]
        beyond = (at - np.clip(at, 0.0, along[-1])) / self.spacing[0]
        return np.asarray(np.interp(at, along, np.arange(len(along))) + beyond)

    def count_steps(self, frames: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Turns frame indices into even steps from the first frame: undoes `count_frames`."""
        along = (self.positions - self.positions[0]) / self.spacing[0]
        beyond = np.asarray(frames) - np.clip(frames, 0, len(along) - 1)
        return np.asarray(np.interp(frames, np.arange(len(along)), along) + beyond)


class Sample(TypedDict, total=False):
    """What the dataset yields for one item; the loader stacks them into batches.

    Shapes are those of one clip; several clips of an item add a leading axis N to `clip`, `mask`,
    `positions` and `window`. Further modalities (`flow`, `difference`) come under their own key
    with the same T.
    """

    clip: "Tensor"  # (C, T, H, W) float32
    mask: "Tensor"  # (T,) bool, False marks padding
    positions: "Tensor"  # (T,) float32, mm or s
    spacing: "Tensor"  # (3,) float32, along (T, H, W)
    label: "Tensor"  # () int64, or (classes,) float32; per frame with a leading T
    channels: tuple[str, ...]  # names of the clip's channels where a case has several scans
    case_id: str
    patient_id: str
    frame: int  # the frame that the label belongs to, -1 when it belongs to the stack
    window: "Tensor"  # (T,) int64, the frames that were read
    modality: str  # DICOM's word (CT, MR, ...), `video` or `unknown`


@runtime_checkable
class VideoModel(Protocol):
    """A network from clips to logits.

    `modalities` names the keys of the Sample that are passed in this order. `smallest` is the
    smallest (T, H, W) that works. Optional members, looked for by name:

    * `frame_logits(*inputs, mask=None) -> (B, T, classes)`: scores every frame in one pass.
    * `losses(*inputs, target, criterion, mask=None) -> dict[str, Tensor]`: the main loss and any
      auxiliary ones, whose sum is minimised. `criterion(logits, target, weight=None)` is the mean
      over its elements, of which `weight` says how much each counts.
    * `exact_frames: int`: the only T it takes, for a network whose layers are built for one (that
      of its `clip_size`); without it, or None, any T from `smallest` on.
    * `encode_frames(*inputs, mask=None) -> (B, T, ...)` and
      `classify_frames(frames, mask=None) -> logits (B, classes)`: for models that look at every
      frame alone before they mix them, `__call__` in two halves. Sliding windows then encode a
      frame once, where that is less work: `looks_at: int` says how many frames of a clip
      `__call__` looks at, if not at all.
    * `awaits_descriptors: bool`, `local_descriptors(*inputs, mask=None) -> (frames, positions, D)`
      and `initialize_from(descriptors (n, D), seed)`: for models whose start is estimated from
      data, such as a vocabulary of anchors. While the first is True, training calls the others
      once before the first epoch of a fold, with descriptors of that fold's training cases alone.
      `initialize_from` makes it False, and so do weights of another run: it is part of the state.
    * `takes_segments = True`: wants the clips axis N; for all others training folds N into the
      batch and averages the logits' probabilities.
    """

    modalities: tuple[str, ...]
    smallest: tuple[int, int, int]

    def features(self, *inputs: "Tensor", mask: "Tensor | None" = None) -> "Tensor":
        """Returns one vector a clip, (B, features)."""
        ...

    def __call__(self, *inputs: "Tensor", mask: "Tensor | None" = None) -> "Tensor":
        """Returns logits, (B, classes)."""
        ...


class ListedModel(VideoModel, Protocol):
    """A model of the table MODELS: a `VideoModel` that also says what there is to know about it.

    Training asks for none of this; `medvid models`, reports and the conformance tests do.
    """

    honours_mask: bool
    """Whether padding that `mask` marks leaves the answer as it is."""

    paper: str
    """Authors, title, venue and year."""

    paper_clip: tuple[int, int, int]
    """(T, H, W) of the paper's clips, for which operations and memory are counted."""

    through_plane: str
    """One sentence: what the model makes of neighbouring slices."""


@runtime_checkable
class Adapter(Protocol):
    """A module in adapters/: one known source of labelled data.

    It has `CLASSES: tuple[str, ...]` or `classes(root) -> tuple[str, ...]`, besides:
    """

    def records(self, root: Path) -> Iterator[Record]:
        """Yields every labelled item below `root`, in a fixed order."""
        ...

    def imitate(self, root: Path) -> None:
        """Writes a tiny made-up copy of the source, in its exact layout, for tests."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Chooses which frames of a stack make a clip; see `medvid.data.sampling`."""

    def windows(
        self,
        num_frames: int,
        step: float,
        *,
        rng: np.random.Generator | None,
        frame: int | None = None,
    ) -> "Windows":
        """Chooses windows from a stack of `num_frames`, neighbours `step` mm or s apart.

        `rng` is None in testing: the choice is then fixed. `frame` is the target's frame for
        `slice` and `region` tasks.
        """
        ...


@dataclass(frozen=True)
class Windows:
    """The frames of N clips and which of them are padding.

    Shape:
        frames: (N, T) int64, inside the stack; padding repeats the edge.
        mask: (N, T) bool, False marks padding.
    """

    frames: NDArray[np.int64]
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.frames.shape != self.mask.shape or self.frames.ndim != 2:
            raise ValueError(
                f"frames {self.frames.shape} and mask {self.mask.shape} must both be (N, T)."
            )

    def __getitem__(self, clip: int) -> "Windows":
        return Windows(self.frames[clip : clip + 1], self.mask[clip : clip + 1])
