"""The order and direction of axes: the only place that knows x, y and z.

Positions are (x, y, z) in mm in DICOM's patient system, LPS: x grows to the patient's left, y to
the back, z to the head. Files come in any axis order and sign (NIfTI counts from right to left,
SimpleITK's arrays are transposed, MONAI's differ again). Here every volume is turned to (T, H, W)
in the canonical direction of its plane, by views alone: no voxel is interpolated.

* axial: T feet to head, H front to back, W right to left (the radiological picture);
* coronal: T front to back, H head to feet, W right to left;
* sagittal: T right to left, H head to feet, W front to back.

An oblique volume stays as it was acquired, its axes named after the nearest patient axes. A sheared
one (gantry tilt) keeps its pixels too; the shear stays in the affine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medvid.contract import GeometryError

Plane = Literal["axial", "coronal", "sagittal"]
PlaneOrAuto = Literal["auto", "axial", "coronal", "sagittal"]
Affine = NDArray[np.float64]

CANONICAL_AXES: Mapping[Plane, NDArray[np.float64]] = {
    "axial": np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.float64),
    "coronal": np.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]], dtype=np.float64),
    "sagittal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float64),
}
"""Rows: the direction (x, y, z) of T, H and W."""

RAS_TO_LPS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's world (x right, y front, z head) to DICOM's; its own inverse."""

THICK_RATIO = 1.5
"""An axis at least this much coarser than both others is the slice axis. Isotropic and nearly
isotropic volumes (1.0 x 1.0 x 1.2 mm) have none and are read as axial."""

DIRECTION_DECIMALS = 4
"""Directions are compared to this many decimals: float32 affines are good to 6 or 7, and ties
(volumes turned by exactly 45 degrees) must not be decided by rounding."""

SMALLEST_DETERMINANT = 0.05
"""Of the three unit directions. A gantry tilted by 30 degrees has 0.87; below 0.05 two axes are
nearer than 3 degrees to one plane, and no scanner does that."""

FARTHEST_MM = 1e5
"""From the patient's origin. No scanner's axes reach 100 m; a damaged header's may, and the voxels'
places are then lost in rounding."""

LONGEST_MM = 1e3
"""Of a voxel's edge. A whole body is two of these."""

SHORTEST_MM = 1e-6
"""Of a voxel's edge: a nanometre. Places would be lost in rounding."""

TILT_DEGREES = 0.5
"""Smallest angle between slice axis and slice normal that is called a tilt; positions rounded to
0.1 mm turn the axis of a short series by less."""

OBLIQUE_DEGREES = 1.0
"""Smallest angle to the patient's axes that is called oblique."""


@dataclass(frozen=True)
class Orientation:
    """How the axes of a file's array become (T, H, W).

    Args:
        plane: the nearest patient plane of a slice.
        order: the array's axes that become T, H and W.
        flips: whether T, H and W then run backwards.
        shape: (T, H, W).
        affine: (t, h, w) index -> (x, y, z) mm.
    """

    plane: Plane
    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    shape: tuple[int, int, int]
    affine: Affine

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Returns the array's view with axes (T, H, W)."""
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flips)
        return array.transpose(self.order)[steps]

    def apply_back(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Returns the view of a (T, H, W) volume with the file's own axes."""
        steps = tuple(slice(None, None, -1 if flip else None) for flip in self.flips)
        return volume[steps].transpose(np.argsort(self.order))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances of neighbours in mm: of slices along their normal, of pixels along their axis.

        In a sheared volume neighbouring slices are also shifted sideways; that is no distance
        between them.
        """
        step = float(self.normal @ self.affine[:3, 0])
        height, width = np.linalg.norm(self.affine[:3, 1:3], axis=0)
        return step, float(height), float(width)

    @property
    def positions(self) -> NDArray[np.float64]:
        """Distances of the slices from the patient's origin along their normal, mm, rising."""
        along = float(self.normal @ self.affine[:3, 3])
        return along + self.spacing[0] * np.arange(self.shape[0], dtype=np.float64)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slices, towards rising t."""
        across = np.cross(self.affine[:3, 1], self.affine[:3, 2])
        across /= np.linalg.norm(across)
        return across if across @ self.affine[:3, 0] > 0 else -across

    def describe(self) -> tuple[str, ...]:
        """Returns a sentence on obliqueness and one on shear, where there is any."""
        notes = []
        axes = CANONICAL_AXES[self.plane]
        directions = unit_columns(self.affine)
        oblique = max(_degrees(float(axes[i] @ directions[:, i])) for i in (1, 2))
        if oblique >= OBLIQUE_DEGREES:
            notes.append(f"Oblique by up to {oblique:.1f} degrees; kept as acquired.")
        tilt = _degrees(float(self.normal @ directions[:, 0]))
        if tilt >= TILT_DEGREES:
            notes.append(
                f"Slices are sheared by {tilt:.1f} degrees (gantry tilt); they keep their pixels."
            )
        return tuple(notes)


def _degrees(cosine: float) -> float:
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def unit_columns(affine: Affine) -> NDArray[np.float64]:
    """Returns the (3, 3) unit directions of an affine's index axes, as columns.

    Raises:
        GeometryError: when they are not finite or do not span space.
    """
    finite = bool(np.isfinite(affine).all())
    columns = affine[:3, :3] if finite else np.zeros((3, 3))
    lengths = np.linalg.norm(columns, axis=0)
    usable = finite and bool((lengths > 0).all())
    directions = columns / np.where(lengths > 0, lengths, 1.0)
    if not usable or abs(np.linalg.det(directions)) < SMALLEST_DETERMINANT:
        raise GeometryError(
            "The header's axes do not span space (an axis has no length, or two are parallel), so "
            "no voxel has a place. Convert the volume again from its source.",
            code="affine_singular",
        )
    return directions


def _refuse_unreal(affine: Affine) -> None:
    """Raises where a header's numbers are none of a patient."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    far = float(np.abs(affine[:3, 3]).max())
    unreal = edges[(edges > LONGEST_MM) | (edges < SHORTEST_MM)]
    if unreal.size or far > FARTHEST_MM:
        what = f"voxels of {unreal[0]:.3g} mm" if unreal.size else f"an origin {far:.3g} mm away"
        raise GeometryError(
            f"The header states {what}, which is no place in a patient. It is damaged, or its unit "
            "is not mm: convert the volume again from its source.",
            code="affine_unreal",
        )


def nearest_plane(direction: NDArray[np.float64]) -> Plane:
    """Returns the plane whose slices are stacked most nearly along `direction` (x, y, z)."""
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
    along = [
        round(abs(float(CANONICAL_AXES[plane][0] @ direction)), DIRECTION_DECIMALS)
        for plane in planes
    ]
    return planes[int(np.argmax(along))]


def slice_axis(affine: Affine) -> int | None:
    """Returns the index axis that is at least `THICK_RATIO` coarser than both others, or None."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    thick = int(np.argmax(lengths))
    others = np.delete(lengths, thick)
    # Ratios of exactly 1.5 (0.8 and 1.2 mm) must not depend on float32 rounding.
    return thick if lengths[thick] >= THICK_RATIO * others.max() * (1 - 1e-5) else None


def orient(
    affine: Affine,
    shape: tuple[int, int, int],
    *,
    plane: PlaneOrAuto = "auto",
    through: int | None = None,
) -> Orientation:
    """Finds the order and directions that turn a volume into its canonical (T, H, W).

    Args:
        affine: (4, 4), homogeneous index -> (x, y, z) mm; columns in the order of `shape`.
        shape: of the array as it comes from the file.
        plane: of the slices. `auto` follows the slice axis, and is axial where there is none.
        through: which axis is the slice axis, where the file says so (DICOM); else the coarse one.

    Raises:
        GeometryError: when the affine is singular.
    """
    directions = unit_columns(affine)
    _refuse_unreal(affine)
    fixed = None
    if plane == "auto":
        fixed = slice_axis(affine) if through is None else through
        plane = "axial" if fixed is None else nearest_plane(directions[:, fixed])
    cosines = CANONICAL_AXES[plane] @ directions  # rows T, H, W; columns the array's axes

    def rank(order: tuple[int, ...]) -> tuple[float, ...]:
        along = [float(cosines[row, axis]) for row, axis in enumerate(order)]
        signed = directions[:, list(order)] * np.where(np.array(along) < 0, -1, 1)
        # The signed directions come second, so that ties fall alike for every file order.
        return (
            round(sum(abs(cosine) for cosine in along), DIRECTION_DECIMALS),
            *(np.round(signed, DIRECTION_DECIMALS) + 0.0).ravel(),
        )

    orders = [order for order in permutations(range(3)) if fixed is None or order[0] == fixed]
    first, second, third = max(orders, key=rank)
    order = (first, second, third)
    flips = tuple(bool(cosines[row, axis] < 0) for row, axis in enumerate(order))
    turned = np.eye(4)
    turned[:3, 3] = affine[:3, 3]
    for row, axis in enumerate(order):
        sign = -1.0 if flips[row] else 1.0
        turned[:3, row] = sign * affine[:3, axis]
        if flips[row]:
            turned[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
    return Orientation(
        plane=plane,
        order=order,
        flips=(flips[0], flips[1], flips[2]),
        shape=(shape[first], shape[second], shape[third]),
        affine=turned,
    )


def canonical_affine(
    plane: Plane, spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> Affine:
    """Returns the affine of an upright volume.

    Args:
        plane: of the slices.
        spacing: along (T, H, W), mm.
        origin: (x, y, z) in mm of voxel (0, 0, 0).
    """
    affine = np.eye(4)
    affine[:3, :3] = CANONICAL_AXES[plane].T * np.array(spacing)
    affine[:3, 3] = origin
    return affine


LETTERS: Mapping[str, tuple[int, int]] = {
    "L": (0, 1),
    "R": (0, -1),
    "P": (1, 1),
    "A": (1, -1),
    "S": (2, 1),
    "I": (2, -1),
}
"""Where an axis runs to -> the patient axis (0 x, 1 y, 2 z) and its sign."""


def orient_to_letters(
    affine: Affine, shape: tuple[int, int, int], letters: str
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Returns order and flips that turn an upright volume to axes such as `RAS` or `SPL`.

    A letter names where its axis runs to, as in nibabel.

    Raises:
        GeometryError: when the letters do not name each patient axis once.
    """
    wanted = [LETTERS.get(letter) for letter in letters.upper()]
    axes = [entry[0] for entry in wanted if entry is not None]
    if len(letters) != 3 or sorted(axes) != [0, 1, 2]:
        raise GeometryError(
            f"`{letters}` is no orientation. Give three letters, one each of R/L, A/P and S/I, "
            "such as RAS.",
            code="unknown_orientation",
        )
    directions = unit_columns(affine)
    order, flips = [], []
    for axis, sign in (entry for entry in wanted if entry is not None):
        source = int(np.argmax(np.abs(directions[axis])))
        order.append(source)
        flips.append(bool(directions[axis, source] * sign < 0))
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])
