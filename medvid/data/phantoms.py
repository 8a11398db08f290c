"""Made-up scans with a known answer: how much slice context does the task need?

Real data cannot tell a broken pipeline from a hard task. These can, because the truth is known by
construction:

* `nodule`: a nodule against an artery that crosses the slice. The rendered middle slice of the two
  classes is the same array, voxel by voxel, whenever their random draws are the same; only its
  neighbours tell them apart. A single slice has an AUC of 0.5, whatever the network.
* `haemorrhage`: a head in which one slice with fresh blood decides. Context gains nothing.

Attenuations are those of textbooks: air -1000 HU, lung -850, soft tissue and vessels 40, brain 30
to 38, fluid 5, fresh blood 60 to 80, bone 1000. Slices have a thickness (they average over it),
voxels are longer along T than in plane, and the noise is correlated in plane, as after
reconstruction. Every case is drawn from (seed, index) alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.contract import ConfigError

Volume = NDArray[np.float32]
Size = tuple[int, int, int]

# Of five cases the last two are of one patient, so that grouping by patient has something to group.
_CASES_OF_BLOCK = 5
_PATIENTS_OF_BLOCK = 4

# Width in mm of the blur at an edge: the in-plane resolution of a soft-tissue kernel.
_EDGE_MM = 0.5
# Beyond this many edge widths a logistic edge is 0 or 1 to within half a HU at bone.
_EDGE_REACH = 8.0
# Rendered sheets a slice; their mean is the partial volume effect of slice thickness.
_SHEETS = 4
# Coverage above which a voxel counts as lesion rather than as its rim.
_MOSTLY = 0.5


@dataclass(frozen=True)
class Phantom:
    """One made-up scan.

    Args:
        volume: (T, H, W) int16 HU, in canonical directions (feet to head, anterior to posterior,
            right to left).
        label: class of the scan.
        spacing: mm along (T, H, W).
        slice_labels: one a slice, for tasks in which single slices are labelled.
    """

    volume: NDArray[np.int16]
    label: str
    spacing: tuple[float, float, float]
    slice_labels: Mapping[int, str] | None = None


@dataclass(frozen=True)
class PhantomTask:
    """What is known about a task before a case is drawn.

    Args:
        draw: (label, size, case's generator, scanner's generator) -> phantom.
        classes: the last one is the positive one.
        size: usual (T, H, W).
        smallest: below it the task's answer no longer fits into the volume.
        window: (level, width) in HU in which a reader would look at it; used for 8-bit videos.
    """

    draw: Callable[[str, Size, np.random.Generator, np.random.Generator], Phantom]
    classes: tuple[str, str]
    size: Size
    smallest: Size
    window: tuple[float, float]


def make_phantom(
    task: str,
    index: int,
    seed: int = 0,
    *,
    size: Size | None = None,
    label: str | None = None,
) -> Phantom:
    """Draws one case.

    Args:
        task: a key of `TASKS`.
        index: of the case; cases 2k and 2k + 1 are of different classes.
        seed: of the whole data set.
        size: (T, H, W); the task's usual size when None.
        label: force a class; everything else stays as drawn. None draws it.

    Raises:
        ConfigError: for an unknown task or class, or too small a size.
    """
    known = _find_task(task)
    size = size or known.size
    if any(n < least for n, least in zip(size, known.smallest, strict=True)):
        raise ConfigError(
            f"A `{task}` phantom of {size} slices, rows and columns was asked; the smallest that "
            f"holds its answer is {known.smallest}.",
            code="small_phantom",
        )
    if label is None:
        first = int(np.random.default_rng((seed, index // 2, 0)).integers(2))
        label = known.classes[(first + index) % 2]
    if label not in known.classes:
        raise ConfigError(
            f"`{label}` is no class of the task `{task}`: {', '.join(known.classes)}.",
            code="unknown_label",
        )
    case = np.random.default_rng((seed, index, 1))
    scanner = np.random.default_rng((seed, find_patient(index), 2))
    return known.draw(label, size, case, scanner)


def find_patient(index: int) -> int:
    """Returns whose case it is: the last two of every five cases are of one patient."""
    block, place = divmod(index, _CASES_OF_BLOCK)
    return block * _PATIENTS_OF_BLOCK + min(place, _PATIENTS_OF_BLOCK - 1)


def _find_task(task: str) -> PhantomTask:
    if task not in TASKS:
        raise ConfigError(
            f"There is no made-up task `{task}`. Known: {', '.join(TASKS)}.", code="unknown_name"
        )
    return TASKS[task]


@dataclass(frozen=True)
class _Grid:
    """Where the rendered sheets, rows and columns lie, in mm from the middle of the volume.

    Shape: t (T * sheets, 1, 1), h (1, H, 1), w (1, 1, W), all float32.
    """

    t: Volume
    h: Volume
    w: Volume
    slice_mm: float

    def average(self, sheets: Volume) -> Volume:
        """Averages (T * sheets, H, W) over the thickness of the slices."""
        return sheets.reshape(-1, _SHEETS, *sheets.shape[1:]).mean(axis=1)


def _make_grid(size: Size, spacing: tuple[float, float, float]) -> _Grid:
    def middle(count: int, step: float) -> Volume:
        return ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)

    t = middle(size[0] * _SHEETS, spacing[0] / _SHEETS)
    h, w = middle(size[1], spacing[1]), middle(size[2], spacing[2])
    return _Grid(t[:, None, None], h[None, :, None], w[None, None, :], spacing[0])


def _cover(distance: Volume) -> Volume:
    """Turns a signed distance in mm (inside negative) into the covered share, 0 to 1."""
    scaled = np.clip(distance * (4 / _EDGE_MM / 2), -_EDGE_REACH, _EDGE_REACH)
    return np.float32(1) / (np.float32(1) + np.exp(scaled))


def _lay(volume: Volume, cover: Volume, value: float) -> None:
    """Replaces the covered share of every voxel by a tissue of `value` HU, in place."""
    volume += cover * (np.float32(value) - volume)


def _texture(rng: np.random.Generator, size: Size, cells: Size) -> Volume:
    """Draws smooth noise of mean 0 and standard deviation near 1, with `cells` lumps an axis."""
    field = rng.standard_normal(tuple(n + 1 for n in cells), dtype=np.float32)
    for axis, (count, knots) in enumerate(zip(size, cells, strict=True)):
        at = np.linspace(0, knots, count, dtype=np.float32)
        low = np.minimum(at.astype(int), knots - 1)
        part = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        below, above = np.take(field, low, axis), np.take(field, low + 1, axis)
        field = below + part * (above - below)
    # Linear interpolation between independent knots keeps 2/3 of the variance along each axis.
    return field * np.float32((3 / 2) ** 1.5)


def _noise(rng: np.random.Generator, size: Size, sigma: float) -> Volume:
    """Draws reconstruction-like noise: neighbours in plane correlate, slices do not."""
    t, h, w = size
    white = rng.standard_normal((t, h + 2, w + 2), dtype=np.float32)
    rows = white[:, :-2] + 2 * white[:, 1:-1] + white[:, 2:]
    both = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    # The kernel (1, 2, 1) twice: its weights' squares sum to 6 an axis.
    return both * np.float32(sigma / 6)


def _to_hu(volume: Volume) -> NDArray[np.int16]:
    # -1024 and 3071 are the ends of the 12 bits in which scanners store.
    return np.clip(np.rint(volume), -1024, 3071).astype(np.int16)


def _draw_nodule(
    label: str, size: Size, case: np.random.Generator, scanner: np.random.Generator
) -> Phantom:
    """Draws a round spot in lung: a nodule, or an artery that crosses the slices.

    Both are the same tilted, slightly bent and tapered tube of elliptic section. A nodule ends in
    caps above and below. Its waist, where it is exactly the tube, covers the middle slice (of an
    even T the two middle ones) and nothing more.
    """
    pixel = float(scanner.uniform(0.6, 0.8))
    spacing = (float(scanner.choice([1.0, 1.25, 1.5])), pixel, pixel)
    lung, sigma = scanner.uniform(-880, -820), scanner.uniform(20, 45)
    grid = _make_grid(size, spacing)
    rendered = tuple(n * k for n, k in zip(size, (_SHEETS, 1, 1), strict=True))
    volume = np.full(rendered, lung, dtype=np.float32)
    for _ in range(int(case.integers(3, 7))):
        _lay(volume, _draw_distractor(grid, case), case.uniform(20, 50))
    spot = _cover_spot(grid, case, capped=label == "nodule", even=size[0] % 2 == 0)
    _lay(volume, spot, case.uniform(20, 60))
    lumps = (max(size[0] // 3, 1), max(size[1] // 4, 1), max(size[2] // 4, 1))
    parenchyma = 25 * _texture(case, size, lumps)  # HU; vessels too small to be seen
    mixed = grid.average(volume) + parenchyma + _noise(case, size, sigma)
    return Phantom(_to_hu(mixed), label, spacing)


def _cover_spot(grid: _Grid, rng: np.random.Generator, *, capped: bool, even: bool) -> Volume:
    radius = rng.uniform(2.2, 4.5)  # mm: nodules of 4 to 9 mm, as found in screening
    stretch = rng.uniform(1.0, 1.35)
    turn, tilt_turn, bend_turn = rng.uniform(0, 2 * np.pi, 3)
    tilt = np.tan(np.deg2rad(rng.uniform(0, 20)))
    bend = rng.uniform(0, 0.01)  # 1/mm: a radius of curvature of 5 cm and more
    taper = rng.uniform(-0.02, 0.02)  # share of the radius a mm
    height, depth = rng.uniform(-2, 2, 2)  # mm off the middle
    below, above = radius * rng.uniform(0.8, 1.3, 2)  # mm, length of the caps of a nodule
    t = grid.t
    row = grid.h - height - tilt * np.sin(tilt_turn) * t - bend * np.sin(bend_turn) * t**2
    column = grid.w - depth - tilt * np.cos(tilt_turn) * t - bend * np.cos(bend_turn) * t**2
    along = (row * np.sin(turn) + column * np.cos(turn)) / np.sqrt(stretch)
    across = (row * np.cos(turn) - column * np.sin(turn)) * np.sqrt(stretch)
    local = radius * np.exp(taper * t)
    if capped:
        waist = grid.slice_mm * (1.0 if even else 0.5)
        beyond = np.maximum(np.abs(t) - waist, 0) / np.where(t < 0, below, above)
        # Past the end of a cap the radius goes below 0, so that the edge fades out as in plane.
        local = local * np.where(beyond < 1, np.sqrt(np.maximum(1 - beyond**2, 0)), 1 - beyond)
    return _cover((np.hypot(along, across) - local).astype(np.float32))


def _draw_distractor(grid: _Grid, rng: np.random.Generator) -> Volume:
    """Returns a vessel in any direction that keeps clear of the spot in the middle."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    half = float(min(-grid.h[0, 0, 0], -grid.w[0, 0, 0]))
    # The nearest point to the middle: beside the spot (at most 4.5 * 1.2 + 3 mm), in the volume.
    away = rng.standard_normal(3)
    away -= direction * (away @ direction)
    away *= rng.uniform(0.75, 1.2) * half / np.linalg.norm(away)
    radius = rng.uniform(0.6, 2.0)  # mm
    offsets = [axis - a for axis, a in zip((grid.t, grid.h, grid.w), away, strict=True)]
    run = sum(o * np.float32(d) for o, d in zip(offsets, direction, strict=True))
    squared = sum(o**2 for o in offsets) - run**2
    return _cover((np.sqrt(np.maximum(squared, 0)) - radius).astype(np.float32))


def _draw_haemorrhage(
    label: str, size: Size, case: np.random.Generator, scanner: np.random.Generator
) -> Phantom:
    """Draws a head; in positive cases a few slices show fresh blood.

    Small calcifications, which reach the same HU where they fill a voxel only in part, are in both
    classes.
    """
    # A field of view of 218 mm and 120 mm along T hold the upper head, whatever the size.
    spacing = (120 / size[0], 218 / size[1], 218 / size[2])
    sigma = scanner.uniform(3, 6)
    grid = _make_grid(size, spacing)
    volume = np.full(tuple(n * k for n, k in zip(size, (_SHEETS, 1, 1), strict=True)), -1000.0)
    head = _draw_head(volume.astype(np.float32), grid, case)
    for _ in range(int(case.integers(0, 4))):
        place = case.uniform(-1, 1, 3) * (35, 45, 35)
        _lay(head, _ellipsoid(grid, place, case.uniform(1.5, 4, 3)), case.uniform(100, 250))
    # Drawn in both classes, so that nothing else differs between them.
    place = case.uniform(-1, 1, 3) * (35, 50, 38)
    radii = case.uniform((8, 8, 8), (14, 18, 18))
    value = case.uniform(60, 80)
    blood = _ellipsoid(grid, place, radii)
    lesion = np.zeros(size[0], dtype=bool)
    if label == "haemorrhage":
        _lay(head, blood, value)
        lesion = (grid.average(blood) > _MOSTLY).any(axis=(1, 2))
    lumps = (max(size[0] // 2, 1), max(size[1] // 5, 1), max(size[2] // 5, 1))
    mixed = grid.average(head) + 1.5 * _texture(case, size, lumps) + _noise(case, size, sigma)
    names = {frame: ("clear", "haemorrhage")[int(bad)] for frame, bad in enumerate(lesion)}
    return Phantom(_to_hu(mixed), label, spacing, names)
