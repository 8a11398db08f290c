"""Draws the made-up scans of the abdomen: contrast in an aorta, lesions in a liver.

Attenuations are those of textbooks: fat -100 HU, soft tissue 40, enhanced liver 95 to 125 and
lesions in it 60 to 75 below that, hepatic vessels 150 to 180, enhanced arteries 180 to 340, bone
200 inside and 500 at its surface. Every draw that is not the answer itself is made alike, and in
the same order, for both classes.
"""

import math

import numpy as np

from medvid.data.anatomy import Phantom, cover_vessel, draw_scanner
from medvid.data.rendering import (
    Grid,
    Size,
    Volume,
    draw_noise,
    draw_texture,
    lay,
    make_grid,
    to_hu,
)

_AORTA_SLICE_MM = (2.5, 3.0, 5.0)
_LIVER_SLICE_MM = (4.5, 5.0, 5.5)

FEW, MANY = 3, 5
"""Lesions of the two classes of `count`.

They differ by so little that a window that misses a few slices misses the answer: an ideal counter
has an AUC of .56, .68, .78, .91, 1 in windows of 1, 5, 9, 13, 17 of 17 slices.
"""
# Turned by the golden angle each, lesions keep away from each other.
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def draw_direction(
    label: str, size: Size, case: np.random.Generator, scanner: np.random.Generator
) -> Phantom:
    """Draws an aorta whose contrast rises, or falls, from feet to head.

    That is a bolus met while it comes or while it goes, because slices are scanned one after the
    other. It also pulsates with the heart, at any phase, so that two neighbours do not tell. Read
    from head to feet, a rising case has the distribution of a falling one: of an odd number of
    slices no statistic without their order tells. The trend pauses in the middle slice (of an even
    T the two middle ones), which is therefore the same picture in both classes.
    """
    name, spacing = draw_scanner(scanner, _AORTA_SLICE_MM, (1.5, 1.9))
    sigma = scanner.uniform(10, 20)
    grid = make_grid(size, spacing)
    radius = case.uniform(8, 12)  # mm
    sheets = _draw_retroperitoneum(grid, case, radius)
    contrast = _draw_contrast(grid, case, size[0], 1.0 if label == "rising" else -1.0)
    lay(sheets, _cover_aorta(grid, case, radius), contrast)
    lumps = (max(size[0] // 3, 1), max(size[1] // 4, 1), max(size[2] // 4, 1))
    volume = grid.average(sheets) + 5 * draw_texture(case, size, lumps)
    return Phantom(to_hu(volume + draw_noise(case, size, sigma)), label, spacing, name)


def _draw_contrast(grid: Grid, rng: np.random.Generator, slices: int, sign: float) -> Volume:
    """Returns the HU of the blood in every sheet."""
    level = rng.uniform(180, 340)
    trend = rng.uniform(60, 140) / slices  # HU a slice: 60 to 140 over the scan
    strength = rng.uniform(8, 20)  # HU of the pulse
    beat = rng.uniform(3, 6)  # slices a heartbeat, as at a pitch near 1
    phase = rng.uniform(0, 2 * np.pi)
    at = grid.t / grid.slice_mm
    pause = 0.5 if slices % 2 else 1.0
    beyond = np.sign(at) * np.maximum(np.abs(at) - pause, 0)
    pulse = strength * np.sin(2 * np.pi * at / beat + phase)
    return (level + sign * trend * beyond + pulse).astype(np.float32)


def _cover_aorta(grid: Grid, rng: np.random.Generator, radius: float) -> Volume:
    turn = rng.uniform(0, 2 * np.pi)
    tilt = math.tan(math.radians(rng.uniform(0, 10)))
    height, width = rng.uniform(-2, 2, 2).tolist()  # mm off the middle
    row = grid.h - height - tilt * math.sin(turn) * grid.t
    column = grid.w - width - tilt * math.cos(turn) * grid.t
    return _cover_column(grid, row, column, (radius, radius))


def _cover_column(grid: Grid, row: Volume, column: Volume, radii: tuple[float, float]) -> Volume:
    """Returns a column along T with an elliptic section, of offsets and radii (h, w) in mm."""
    away = np.sqrt((row / radii[0]) ** 2 + (column / radii[1]) ** 2)
    distance = (away - 1) * math.sqrt(radii[0] * radii[1])
    return grid.cover(distance.astype(np.float32))


def _draw_retroperitoneum(grid: Grid, rng: np.random.Generator, radius: float) -> Volume:
    """Returns what lies around an aorta of `radius` mm: fat, gut, spine and caval vein."""
    sheets = np.full(grid.size, -100, dtype=np.float32)
    corner = (float(grid.t.max()), float(grid.h.max()), float(grid.w.max()))
    for _ in range(int(rng.integers(3, 7))):  # gut and nodes
        place = tuple((rng.uniform(-1, 1, 3) * corner).tolist())
        lay(sheets, grid.ellipsoid(place, tuple(rng.uniform(4, 12, 3).tolist())), 40.0)
    spine = grid.h - radius - rng.uniform(17, 21), grid.w + 4
    lay(sheets, _cover_column(grid, *spine, (18.0, 22.0)), 500.0)
    lay(sheets, _cover_column(grid, *spine, (15.0, 19.0)), 200.0)
    caval = grid.h - rng.uniform(-2, 4), grid.w + radius + rng.uniform(10, 13)
    size = (rng.uniform(6, 8), rng.uniform(8, 10))
    lay(sheets, _cover_column(grid, *caval, size), rng.uniform(80, 200))
    return sheets


def draw_count(
    label: str, size: Size, case: np.random.Generator, scanner: np.random.Generator
) -> Phantom:
    """Draws a part of a liver with few or many lesions, scattered over all of its slices.

    A lesion of the one class is like a lesion of the other. Each has a slice of its own, in which
    its middle lies, and fills little more than that.
    """
    name, spacing = draw_scanner(scanner, _LIVER_SLICE_MM, (1.9, 2.1))
    sigma = scanner.uniform(4, 8)
    grid = make_grid(size, spacing)
    liver = case.uniform(95, 125)
    sheets = np.full(grid.size, liver, dtype=np.float32)
    for _ in range(int(case.integers(2, 5))):
        lay(sheets, cover_vessel(grid, case, (0.2, 1.1), (1.5, 3.0)), case.uniform(150, 180))
    attenuation = liver - case.uniform(60, 75)
    for lesion in _draw_lesions(grid, case, size[0])[: MANY if label == "many" else FEW]:
        lay(sheets, lesion, attenuation)
    lumps = (max(size[0] // 3, 1), max(size[1] // 4, 1), max(size[2] // 4, 1))
    volume = grid.average(sheets) + 4 * draw_texture(case, size, lumps)
    return Phantom(to_hu(volume + draw_noise(case, size, sigma)), label, spacing, name)


def _draw_lesions(grid: Grid, rng: np.random.Generator, slices: int) -> list[Volume]:
    """Returns the covers of `MANY` lesions, the first of which are the `FEW`."""
    half = float(min(grid.h.max(), grid.w.max()))
    start = rng.uniform(0, 2 * np.pi)
    lesions = []
    for number, home in enumerate(rng.permutation(slices)[:MANY].tolist()):
        t = (home - (slices - 1) / 2 + rng.uniform(-0.3, 0.3)) * grid.slice_mm
        away = half * math.sqrt(rng.uniform(0.15, 0.5))
        angle = start + number * _GOLDEN_ANGLE
        radii = tuple(rng.uniform(5.3, 5.9, 3).tolist())  # mm
        place = (t, away * math.sin(angle), away * math.cos(angle))
        lesions.append(grid.ellipsoid(place, radii))
    return lesions
