"""NRRD, MHA and MHD through SimpleITK."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from medvid.contract import DataError, GeometryError, Stack
from medvid.io.endings import META_IMAGE, NRRD
from medvid.io.geometry import PlaneOrAuto, orient
from medvid.io.held import HeldVolume
from medvid.io.lengths import turn_into_mm
from medvid.io.names import check_name
from medvid.io.nifti import make_volume_stack
from medvid.io.volume_headers import read_unit

READERS: Mapping[str, str] = {
    **dict.fromkeys(NRRD, "NrrdImageIO"),
    **dict.fromkeys(META_IMAGE, "MetaImageIO"),
}
"""SimpleITK's reader by ending. Left to itself, it would also read whatever else it knows, DICOM
among it, without a rule of ours."""


def open_volume(path: Path, *, plane: PlaneOrAuto = "auto", modality: str | None = None) -> Stack:
    """Opens an NRRD, MHA or MHD volume; decodes nothing yet.

    Raises:
        DataError: when the file is cut short, no such file, not 3-D, or holds colours, or its name
            is not UTF-8.
        GeometryError: when its axes are singular, or the header does not state their spacing in a
            unit of length.
    """
    check_name(path)  # SimpleITK ends the whole process at such a name
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(READERS[path.suffix.lower()])
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise _unreadable(path) from None
    _check(path, reader)
    shape = reader.GetSize()
    affine = np.eye(4)
    directions = np.array(reader.GetDirection()).reshape(3, 3)
    affine[:3, :3] = directions * np.array(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    say_mm = 'space units "mm"' if path.suffix.lower() in NRRD else "DistanceUnits = mm"
    notes = turn_into_mm(path, affine, read_unit(path), say_mm)
    try:
        orientation = orient(affine, (shape[0], shape[1], shape[2]), plane=plane)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code, files=[path]) from None
    stored = _numpy_type(reader.GetPixelID())
    dtype = np.dtype(np.float32) if stored.kind == "f" else stored
    return make_volume_stack(
        orientation,
        HeldVolume(lambda: _load(path)),
        dtype=dtype,
        modality=modality or "unknown",
        notes=notes,
    )


def _check(path: Path, reader: Any) -> None:
    if reader.GetDimension() != 3:
        raise DataError(
            f"{path} has {reader.GetDimension()} dimensions; medvid reads 3-D volumes.",
            code="not_3d",
            files=[path],
        )
    if reader.GetNumberOfComponents() != 1:
        raise DataError(
            f"{path} holds {reader.GetNumberOfComponents()} values a voxel, and medvid reads one "
            "grey value. Split or convert it first.",
            code="not_grey",
            files=[path],
        )


def _numpy_type(pixel_id: int) -> np.dtype[Any]:
    voxel: NDArray[Any] = SimpleITK.GetArrayViewFromImage(SimpleITK.Image(1, 1, 1, pixel_id))
    return voxel.dtype


def _load(path: Path) -> NDArray[Any]:
    try:
        image = SimpleITK.ReadImage(str(path), imageIO=READERS[path.suffix.lower()])
    except RuntimeError:
        raise _unreadable(path) from None
    # SimpleITK's arrays run (z, y, x); its affine's columns run x, y, z.
    voxels: NDArray[Any] = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    return voxels


def _unreadable(path: Path) -> DataError:
    return DataError(
        f"{path} cannot be read: it is cut short, damaged, or not what its name says; for a header "
        "file (.mhd, .nhdr) the voxel file may be missing beside it.",
        code="truncated",
        files=[path],
    )
