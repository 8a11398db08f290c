"""The sampler `context`: a window of fixed length, of which only a part shows what it should.

How much slice context a task needs is asked of one network that is the same in all arms: its clips
always have `length` frames, around a target. In the arm of a window W the inner W frames are the
target's real neighbours, and all others are copies of the target. Parameters, operations and, from
the same seed, first weights and augmentation are then equal, and the arms differ by what they see.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medvid.contract import ConfigError, DataError, Windows

Frames = NDArray[np.int64]

LARGEST_KEY = 2**63 - 1
"""Keys of a window's own draws are drawn below it: what an int64 holds."""


def count_neighbours(window_mm: float, step: float) -> int:
    """Returns how many slices on either side lie in a window, where they lie `step` mm apart."""
    # A thousandth of a step forgives spacings that were rounded in the file.
    return int(window_mm / 2 / step + 1e-3)


@dataclass(frozen=True)
class Context:
    """A window around the target, or around every frame in turn, of which the inner part is real.

    Differs from `centered`: frames beyond the window are not left out, but shown as copies of the
    target, so that networks of one input length can be compared.

    Every arm draws the same number of random numbers, so that with one seed all arms see the same
    targets in the same order under the same augmentation.

    Args:
        length: frames of a clip, T; odd.
        window: frames, the target in their middle, that show what lies there; odd; all when None.
        window_mm: the same as a length in mm: frames within half of it on either side.
        order: of the target's neighbours in the window: `kept`, `shuffled` or `reversed`. The
            target stays in the middle. A shuffle is drawn anew for every clip in training and
            is fixed in testing.
        neighbours: `own`, or `far`: neighbours are drawn from the frames that no window around
            this target reaches.
        positions: of a whole scan: its middle frame (`centre`), or `every` frame in turn: one at
            random in training, all of them in testing. Slices and regions are their own targets.

    Raises:
        ConfigError: for lengths that are even, below 1, or a window longer than the clip.
    """

    length: int
    window: int | None = None
    window_mm: float | None = None
    order: Literal["kept", "shuffled", "reversed"] = "kept"
    neighbours: Literal["own", "far"] = "own"
    positions: Literal["centre", "every"] = "centre"

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("window", self.window)):
            if value is not None and (value < 1 or value % 2 == 0):
                raise ConfigError(
                    f"The sampler `context` was given `{name}: {value}`; it is odd, so that the "
                    "target has as many neighbours on either side."
                )
        if self.window is not None and self.window_mm is not None:
            raise ConfigError("The sampler `context` takes `window` or `window_mm`, not both.")
        if self.window is not None and self.window > self.length:
            raise ConfigError(
                f"A window of {self.window} frames does not fit into clips of {self.length}. Raise "
                "`length`."
            )
        if self.window_mm is not None and self.window_mm < 0:
            raise ConfigError(f"The sampler `context` was given `window_mm: {self.window_mm}`.")

    def windows(
        self,
        num_frames: int,
        step: float,
        *,
        rng: np.random.Generator | None,
        frame: int | None = None,
    ) -> Windows:
        """Chooses one window, or in testing with `positions: every` one around each frame.

        Raises:
            DataError: for `neighbours: far` in a stack that the window covers wholly, or a window
                in mm that is longer than the clip where slices lie as close as here.
        """
        self._refuse_cut(num_frames, step)
        # Both are drawn in every arm, needed or not, so that what is drawn after them is equal.
        drawn = 0 if rng is None else int(rng.integers(num_frames))
        key = 0 if rng is None else int(rng.integers(LARGEST_KEY))
        if frame is not None:
            targets = [frame]
        elif self.positions == "centre":
            targets = [num_frames // 2]
        else:
            targets = list(range(num_frames)) if rng is None else [drawn]
        pairs = [self._look(target, num_frames, step, key) for target in targets]
        return Windows(np.stack([f for f, _ in pairs]), np.stack([m for _, m in pairs]))

    def reach(self, step: float) -> int:
        """Returns how many neighbours on either side are real, where frames lie `step` mm apart."""
        half = self.length // 2
        if self.window is not None:
            return self.window // 2
        if self.window_mm is not None:
            return min(half, count_neighbours(self.window_mm, step))
        return half

    def _refuse_cut(self, num_frames: int, step: float) -> None:
        """Stops where the clip cuts a window in mm, which would then not be what it is called."""
        if self.window_mm is None:
            return
        wanted = min(count_neighbours(self.window_mm, step), num_frames - 1)
        if wanted > self.length // 2:
            raise DataError(
                f"A window of {self.window_mm:g} mm holds {2 * wanted + 1} slices where they lie "
                f"{step:g} mm apart, and clips have {self.length}. Raise `length` of the sampler "
                "`context`, or look at shorter windows.",
                code="short_length",
            )

    def _look(
        self, target: int, num_frames: int, step: float, key: int
    ) -> tuple[Frames, NDArray[np.bool_]]:
        half, reach = self.length // 2, self.reach(step)
        frames = np.full(self.length, target, dtype=np.int64)
        offsets = np.arange(-half, half + 1)
        near = (np.abs(offsets) <= reach) & (offsets != 0)
        own = np.random.default_rng((key, target, num_frames))
        frames[near] = self._choose_neighbours(target, offsets[near], num_frames, own)
        inside = (frames >= 0) & (frames < num_frames)
        return np.clip(frames, 0, num_frames - 1), inside

    def _choose_neighbours(
        self, target: int, offsets: Frames, num_frames: int, own: np.random.Generator
    ) -> Frames:
        if self.neighbours == "far" and len(offsets):
            distance = np.abs(np.arange(num_frames) - target)
            elsewhere = np.flatnonzero(distance > self.length // 2)
            if not len(elsewhere):
                raise DataError(
                    f"Slices from elsewhere were asked beside slice {target}, but a window of "
                    f"{self.length} covers the whole stack of {num_frames}. Leave the control "
                    "`far` out, or look at shorter windows.",
                    code="no_far_slices",
                )
            return own.choice(elsewhere, size=len(offsets), replace=len(elsewhere) < len(offsets))
        if self.order == "shuffled":
            return target + own.permutation(offsets)
        return target + (-offsets if self.order == "reversed" else offsets)
