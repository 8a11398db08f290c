"""Draws made-up anatomy as a CT would show it: edges, slice thickness, texture and noise.

Shapes are signed distances in mm (inside negative). They are rendered on several thin sheets a
slice, whose mean is the partial volume effect of slice thickness.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Size = tuple[int, int, int]
Spacing = tuple[float, float, float]

# Rendered sheets a slice. With 4, a coverage is right to about 1/8.
SHEETS = 4
# Standard deviation in mm of the in-plane blur of a soft-tissue kernel.
_BLUR_MM = 0.5
# Where the logistic edge stops falling: exp(-12) of a step from air to bone is 0.01 HU.
_EDGE_REACH = 12.0


@dataclass(frozen=True)
class Grid:
    """Where the rendered sheets, rows and columns lie, in mm from the middle of the volume.

    Args:
        t: of sheets, (T * SHEETS, 1, 1).
        h: of rows, (1, H, 1), or (1, H, W) once turned.
        w: of columns, (1, 1, W), or (1, H, W) once turned.
        slice_mm: thickness of a slice, which is also the distance of neighbours.
        pixel_mm: side of a pixel.
    """

    t: Volume
    h: Volume
    w: Volume
    slice_mm: float
    pixel_mm: float

    @property
    def size(self) -> Size:
        """Returns the size of a rendered volume, (T * SHEETS, H, W)."""
        t, h, w = np.broadcast_shapes(self.t.shape, self.h.shape, self.w.shape)
        return t, h, w

    def turn(self, angle: float, shift: tuple[float, float, float]) -> "Grid":
        """Returns the coordinates of a body that is turned in plane (radians) and shifted (mm)."""
        sin, cos = float(np.sin(angle)), float(np.cos(angle))
        h, w = self.h - shift[1], self.w - shift[2]
        return replace(self, t=self.t - shift[0], h=cos * h - sin * w, w=sin * h + cos * w)

    def cover(self, distance: Volume) -> Volume:
        """Turns signed distances into the covered share of every voxel, 0 to 1."""
        # Blur of the kernel and of the pixel's own area; a logistic of scale s has an s.d. of
        # s * pi / sqrt(3).
        blur = np.sqrt(_BLUR_MM**2 + self.pixel_mm**2 / 12)
        scale = float(blur * np.sqrt(3) / np.pi)
        return 1 / (1 + np.exp(np.clip(distance / scale, -_EDGE_REACH, _EDGE_REACH)))

    def ellipsoid(
        self, place: tuple[float, float, float], radii: tuple[float, float, float]
    ) -> Volume:
        """Returns the covered share of an ellipsoid at `place`, both (t, h, w) in mm."""
        offsets = zip((self.t, self.h, self.w), place, radii, strict=True)
        t, h, w = ((axis - middle) / radius for axis, middle, radius in offsets)
        away = np.sqrt(t**2 + (h**2 + w**2))
        # Exact on the surface; beside it, scaled by the mean radius.
        return self.cover((away - 1) * float(np.cbrt(np.prod(radii))))

    def average(self, sheets: Volume) -> Volume:
        """Averages (T * SHEETS, H, W) over the thickness of the slices."""
        return sheets.reshape(-1, SHEETS, *sheets.shape[1:]).mean(axis=1)


def make_grid(size: Size, spacing: Spacing) -> Grid:
    """Returns the grid of a volume of `size` (T, H, W) with `spacing` in mm."""

    def center(count: int, step: float) -> Volume:
        return ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)

    t = center(size[0] * SHEETS, spacing[0] / SHEETS)
    h, w = center(size[1], spacing[1]), center(size[2], spacing[2])
    return Grid(t[:, None, None], h[None, :, None], w[None, None, :], spacing[0], spacing[1])


def lay(volume: Volume, cover: Volume, value: float | Volume) -> None:
    """Replaces the covered share of every voxel by a tissue of `value` HU, in place.

    Args:
        volume: the rendered sheets, (T * SHEETS, H, W).
        cover: 0 to 1.
        value: one, or one a sheet, (T * SHEETS, 1, 1).
    """
    volume += cover * (value - volume)


def draw_texture(rng: np.random.Generator, size: Size, cells: Size) -> Volume:
    """Draws smooth noise of mean 0 and standard deviation near 1, with `cells` lumps an axis."""
    field = rng.standard_normal(tuple(n + 1 for n in cells), dtype=np.float32)
    for axis, (count, knots) in enumerate(zip(size, cells, strict=True)):
        at = np.linspace(0, knots, count, dtype=np.float32)
        low = np.minimum(at.astype(int), knots - 1)
        part = (at - low.astype(np.float32)).reshape([-1 if a == axis else 1 for a in range(3)])
        below, above = np.take(field, low, axis), np.take(field, low + 1, axis)
        field = below + part * (above - below)
    # Interpolating between independent knots keeps 2/3 of the variance along each axis.
    return field * float(1.5**1.5)


def draw_noise(rng: np.random.Generator, size: Size, sigma: float) -> Volume:
    """Draws noise of `sigma` HU as after reconstruction: correlated in plane, not across slices."""
    t, h, w = size
    white = rng.standard_normal((t, h + 2, w + 2), dtype=np.float32)
    rows = white[:, :-2] + 2 * white[:, 1:-1] + white[:, 2:]
    both = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    # The squared weights of (1, 2, 1) sum to 6 along each of two axes.
    return both * (sigma / 6)


def to_hu(volume: Volume) -> NDArray[np.int16]:
    """Rounds to whole HU within the 12 bits in which scanners store, -1024 to 3071."""
    return np.clip(np.rint(volume), -1024, 3071).astype(np.int16)
