"""Draws the anatomy of the made-up scans: spots in lung, blood in a head.

Attenuations are those of textbooks: air -1000 HU, lung -850, soft tissue and vessels 40, brain 31
to 37, fluid 5, fresh blood 60 to 80, bone 1000. Every draw that is not the answer itself is made
alike, and in the same order, for both classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvid.data.rendering import (
    Grid,
    Size,
    Spacing,
    Volume,
    draw_noise,
    draw_texture,
    lay,
    make_grid,
    to_hu,
)

# Coverage of some voxel above which a slice shows the blood itself rather than its rim.
_FULLY = 0.9

# Coverage below which nobody could see the lesion: 2 HU above brain, within the noise.
_HARDLY = 0.05

SCANNERS = ("A", "B", "C")
"""Made-up scanners; each task says below which slices each of them makes."""
_LUNG_SLICE_MM = (1.0, 1.25, 1.5)
# Ranges along T, which the slices of a head divide among themselves.
_HEAD_RANGE_MM = (110.0, 120.0, 130.0)

# Semi-axes of a brain along (t, h, w), a little below those of an adult's.
_BRAIN_MM = (72.0, 82.0, 64.0)
# Its middle lies below that of the scanned range, which ends at the vertex.
_BRAIN_BELOW_MM = -8.0
# Blood and calcifications lie within this share of the brain's semi-axes.
_INNER = 0.6


@dataclass(frozen=True)
class Phantom:
    """One made-up scan.

    Args:
        volume: (T, H, W) int16 HU, in canonical directions (feet to head, anterior to posterior,
            right to left).
        label: class of the scan.
        spacing: mm along (T, H, W).
        scanner: one of `SCANNERS`, which goes with the thickness of slices.
        slice_labels: one a slice, for tasks in which single slices are labelled.
    """

    volume: NDArray[np.int16]
    label: str
    spacing: Spacing
    scanner: str
    slice_labels: Mapping[int, str] | None = None


def draw_nodule(
    label: str, size: Size, case: np.random.Generator, scanner: np.random.Generator
) -> Phantom:
    """Draws a round spot in lung: a nodule, or an artery that crosses the slices.

    Both are the same tilted, slightly bent and tapered tube of elliptic section. A nodule ends in
    caps above and below. Its waist, where it is exactly the tube, covers the middle slice (of an
    even T the two middle ones) and nothing more.
    """
    name, spacing = draw_scanner(scanner, _LUNG_SLICE_MM, (0.6, 0.8))
    lung, sigma = scanner.uniform(-880, -820), scanner.uniform(20, 45)
    grid = make_grid(size, spacing)
    sheets = np.full(grid.size, lung, dtype=np.float32)
    for _ in range(int(case.integers(3, 7))):
        # Mostly beside the spot in the middle.
        lay(sheets, cover_vessel(grid, case, (0.75, 1.2), (0.6, 2.0)), case.uniform(20, 50))
    spot = _cover_spot(grid, case, capped=label == "nodule", even=size[0] % 2 == 0)
    lay(sheets, spot, case.uniform(20, 60))
    lumps = (max(size[0] // 3, 1), max(size[1] // 4, 1), max(size[2] // 4, 1))
    parenchyma = 25 * draw_texture(case, size, lumps)  # HU; vessels too small to be seen
    volume = grid.average(sheets) + parenchyma + draw_noise(case, size, sigma)
    return Phantom(to_hu(volume), label, spacing, name)


def draw_scanner(
    rng: np.random.Generator, slices_mm: Sequence[float], pixel_mm: tuple[float, float]
) -> tuple[str, Spacing]:
    """Draws a scanner, which decides the thickness of slices, and a field of view."""
    # Whole micrometres, because DICOM holds 16 characters a number.
    pixel = round(rng.uniform(*pixel_mm), 3)
    which = int(rng.integers(len(SCANNERS)))
    return SCANNERS[which], (round(slices_mm[which], 3), pixel, pixel)


def _cover_spot(grid: Grid, rng: np.random.Generator, *, capped: bool, even: bool) -> Volume:
    radius = rng.uniform(2.2, 4.5)  # mm: nodules of 4 to 9 mm, the common sizes in screening
    stretch = math.sqrt(rng.uniform(1.0, 1.35))
    turn, tilt_turn, bend_turn = rng.uniform(0, 2 * np.pi, 3).tolist()
    tilt = math.tan(math.radians(rng.uniform(0, 20)))
    bend = rng.uniform(0, 0.01)  # 1/mm: radii of curvature of 5 cm and more
    taper = rng.uniform(-0.02, 0.02)  # share of the radius a mm
    height, width = rng.uniform(-2, 2, 2).tolist()  # mm off the middle
    below, above = (radius * rng.uniform(0.8, 1.3, 2)).tolist()  # mm, the caps of a nodule
    t = grid.t
    row = grid.h - height - tilt * math.sin(tilt_turn) * t - bend * math.sin(bend_turn) * t**2
    column = grid.w - width - tilt * math.cos(tilt_turn) * t - bend * math.cos(bend_turn) * t**2
    along = (row * math.sin(turn) + column * math.cos(turn)) / stretch
    across = (row * math.cos(turn) - column * math.sin(turn)) * stretch
    local = radius * np.exp(taper * t)
    if capped:
        waist = grid.slice_mm * (1.0 if even else 0.5)
        beyond = np.maximum(np.abs(t) - waist, 0) / np.where(t < 0, below, above).astype(t.dtype)
        # Past the end of a cap the radius goes below 0, so that the edge fades as it does in plane.
        local = local * np.where(beyond < 1, np.sqrt(np.maximum(1 - beyond**2, 0)), 1 - beyond)
    return grid.cover(np.sqrt(along**2 + across**2) - local)


def cover_vessel(
    grid: Grid,
    rng: np.random.Generator,
    nearest: tuple[float, float],
    radius_mm: tuple[float, float],
) -> Volume:
    """Returns a straight vessel in any direction.

    Args:
        grid: of the volume.
        rng: of the case.
        nearest: between which distances from the middle it passes, as shares of half the picture.
        radius_mm: between which its radius lies.
    """
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    place = rng.standard_normal(3)
    place -= direction * (place @ direction)
    half = float(min(grid.h.max(), grid.w.max()))
    place *= rng.uniform(*nearest) * half / np.linalg.norm(place)
    radius = rng.uniform(*radius_mm)
    t, h, w = (a - b for a, b in zip((grid.t, grid.h, grid.w), place.tolist(), strict=True))
    d_t, d_h, d_w = direction.tolist()
    squared = t**2 + (h**2 + w**2) - (t * d_t + (h * d_h + w * d_w)) ** 2
    return grid.cover(np.sqrt(np.maximum(squared, 0)) - radius)


def draw_haemorrhage(
    label: str, size: Size, case: np.random.Generator, scanner: np.random.Generator
) -> Phantom:
    """Draws a head; in positive cases a few slices show fresh blood.

    Small calcifications, which reach the same HU where they fill a voxel only in part, are in both
    classes. A slice that just touches the blood has no label: partial volume leaves a grey veil
    there that readers would argue about.
    """
    # A field of view of 218 mm and such a range hold the upper head, whatever the size.
    thick = [range_mm / size[0] for range_mm in _HEAD_RANGE_MM]
    name, (slice_mm, _, _) = draw_scanner(scanner, thick, (1.0, 1.0))
    spacing = (slice_mm, round(218 / size[1], 3), round(218 / size[2], 3))
    sigma = scanner.uniform(3, 6)
    turned = make_grid(size, spacing).turn(
        math.radians(case.uniform(-8, 8)), tuple(case.uniform(-6, 6, 3).tolist())
    )
    sheets, brain = _draw_head(turned, case)
    for _ in range(int(case.integers(0, 4))):
        calcified = turned.ellipsoid(_draw_place(case), tuple(case.uniform(1.5, 4, 3).tolist()))
        lay(sheets, calcified, case.uniform(100, 250))
    # Drawn in both classes, so that nothing else differs between them.
    radii = tuple(case.uniform((14, 14, 14), (22, 22, 22)).tolist())
    blood = brain * turned.ellipsoid(_draw_place(case), radii)
    value = case.uniform(60, 80)
    covered = turned.average(blood).max(axis=(1, 2))
    bleeds = label == "haemorrhage"
    if bleeds:
        lay(sheets, blood, value)
    lumps = (max(size[0] // 2, 1), max(size[1] // 5, 1), max(size[2] // 5, 1))
    tissue = 1.5 * draw_texture(case, size, lumps)  # HU, grey against white matter
    volume = turned.average(sheets) + tissue + draw_noise(case, size, sigma)
    names = {
        t: "haemorrhage" if bleeds and share > _FULLY else "clear"
        for t, share in enumerate(covered.tolist())
        if share > _FULLY or share < _HARDLY
    }
    return Phantom(to_hu(volume), label, spacing, name, names)


def _draw_head(grid: Grid, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """Returns a head in HU and the covered share of its brain."""
    grow = rng.uniform(0.93, 1.05)
    t, h, w = (grow * axis for axis in _BRAIN_MM)

    def shell(thickness: float) -> Volume:
        return grid.ellipsoid(
            (_BRAIN_BELOW_MM, 0.0, 0.0), (t + thickness, h + thickness, w + thickness)
        )

    skull = rng.uniform(5, 8)  # mm of bone
    fluid = rng.uniform(1.5, 4)  # mm of fluid around the brain
    brain = shell(0.0)
    sheets = np.full(grid.size, -1000, dtype=np.float32)  # air
    lay(sheets, shell(fluid + skull + rng.uniform(3, 6)), 20.0)  # scalp
    lay(sheets, shell(fluid + skull), rng.uniform(800, 1200))
    lay(sheets, shell(fluid), 5.0)
    lay(sheets, brain, rng.uniform(31, 37))
    aside, wide = rng.uniform(9, 14), rng.uniform(4, 9)
    for side in (-aside, aside):
        ventricle = (rng.uniform(8, 14), rng.uniform(24, 36), wide)
        lay(sheets, grid.ellipsoid((rng.uniform(-4, 8), 0.0, side), ventricle), 5.0)
    return sheets, brain


def _draw_place(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draws a place (t, h, w) in mm well inside the brain, evenly by volume."""
    direction = rng.standard_normal(3)
    direction *= _INNER * np.cbrt(rng.uniform()) / np.linalg.norm(direction)
    t, h, w = (direction * _BRAIN_MM).tolist()
    return t + _BRAIN_BELOW_MM, h, w
