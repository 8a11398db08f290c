"""Where a NIfTI header puts its voxels: sform or qform, in mm, and whether the two agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from medvid.contract import GeometryError
from medvid.io.geometry import RAS_TO_LPS, Affine
from medvid.io.lengths import turn_into_mm

SPATIAL_UNITS = 0b111
"""The bits of the header's `xyzt_units` that say in what the voxels are measured."""

UNITS: Mapping[int, tuple[str, float]] = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
"""Of those bits: the name, and the mm in one. 2 is mm; 0 and what NIfTI does not know are taken for
mm, as most writers leave them."""

MM = ("mm", 1.0)

APART_VOXELS = 1.0
"""By so many voxels sform and qform may differ unsaid: rounding, and a resampling's half voxel."""


def read_affine(path: Path, header: Any) -> tuple[Affine, list[str]]:
    """Returns where voxels lie in mm, and sentences on what is uncertain.

    Shape: (4, 4), index -> (x, y, z) in DICOM patient axes.

    Args:
        path: of the file, from which what nibabel mends in the header is read again.
        header: as nibabel gives it.

    Raises:
        GeometryError: when sform and qform contradict each other in what is left and right, a
            voxel has no length where nothing but its lengths place it, or the unit makes voxels
            that no scanner has.
    """
    best: Affine = header.get_best_affine()
    notes = _compare_forms(path, header, best)
    if not int(header["sform_code"]):
        _require_lengths(path, header)
    affine: Affine = RAS_TO_LPS @ best
    unit = UNITS.get(int(header["xyzt_units"]) & SPATIAL_UNITS, MM)
    return affine, [*turn_into_mm(path, affine, unit, "xyzt_units 2"), *notes]


def _compare_forms(path: Path, header: Any, best: Affine) -> list[str]:
    codes = int(header["sform_code"]), int(header["qform_code"])
    if not any(codes):
        return [
            "The header has neither sform nor qform: left and right are not known for certain; the "
            "axes are taken as right, front, head."
        ]
    if not all(codes):
        return []
    try:
        other: Affine = header.get_qform()
    except (HeaderDataError, ValueError):
        return []  # its quaternion is none, and it is not used
    if np.linalg.det(best[:3, :3]) * np.linalg.det(other[:3, :3]) < 0:
        raise GeometryError(
            f"{path}: sform and qform contradict each other: one of them mirrors the volume, so "
            "that left and right are not known. Convert it again from its source, or delete the "
            "wrong one (set its code to 0).",
            code="mirrored_forms",
            files=[path],
        )
    # An sform into another space, such as an atlas', rightly differs from the scanner's qform.
    if codes[0] == codes[1] and (apart := _count_voxels_apart(header, best, other)) > APART_VOXELS:
        return [f"sform and qform differ by up to {apart:.1f} voxels; the sform was taken."]
    return []


def _count_voxels_apart(header: Any, one: Affine, other: Affine) -> float:
    """Returns how far the volume's corners lie from where another affine puts them, at most."""
    if np.linalg.det(one[:3, :3]) == 0:
        return 0.0  # which is refused as that
    last = np.array(header.get_data_shape()[:3]) - 1
    corners = np.indices((2, 2, 2)).reshape(3, -1) * last[:, None]
    apart = (other - one)[:3] @ np.vstack([corners, np.ones(8)])
    return float(np.abs(np.linalg.solve(one[:3, :3], apart)).max())


def _require_lengths(path: Path, header: Any) -> None:
    """Refuses voxels without a length; nibabel has made 1 of each 0 by now."""
    if not (header["pixdim"][1:4] == 1).any():
        return
    with ImageOpener(path) as file:
        raw = type(header).from_fileobj(file, check=False)
    if (raw["pixdim"][1:4] == 0).any():
        raise GeometryError(
            f"{path} does not say how far its voxels lie apart along each axis: pixdim is 0, and "
            "no sform stands in its place. Convert it again from its source, or write the spacing "
            "into the header.",
            code="no_spacing",
            files=[path],
        )
