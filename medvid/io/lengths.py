"""A volume whose header counts in another unit -> mm."""

from pathlib import Path

import numpy as np

from medvid.contract import GeometryError
from medvid.io.geometry import Affine

REAL_EDGES_MM = (1e-3, 1e2)
"""A voxel's edge in mm after another unit was turned into mm: no scanner resolves less than a
micrometre, and no slice is 10 cm thick. Beyond it the stated unit is what is wrong."""


def turn_into_mm(path: Path, affine: Affine, unit: tuple[str, float], say_mm: str) -> list[str]:
    """Scales an affine in place, and returns a sentence on it; none where it is in mm already.

    Args:
        path: of the volume, for the message.
        affine: (4, 4), index -> place in the header's unit.
        unit: its name in the plural, and the mm in one.
        say_mm: how the header would say that it is in mm.

    Raises:
        GeometryError: when the unit makes voxels that no scanner has.
    """
    name, factor = unit
    if factor == 1:
        return []
    affine[:3] *= factor
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    told = " x ".join(f"{edge:.3g}" for edge in edges)
    lowest, highest = REAL_EDGES_MM
    if edges.min() < lowest or edges.max() > highest:
        raise GeometryError(
            f"{path}: the header says that its numbers are {name}, which makes voxels of {told} "
            f"mm. If they are mm, say so in the header ({say_mm}), or convert the volume again.",
            code="affine_unreal",
            files=[path],
        )
    return [f"The header counts in {name}; turned into mm, voxels are {told} mm."]
