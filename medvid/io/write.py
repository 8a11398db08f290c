"""Writes DICOM series and NIfTI volumes, for made-up data and tests.

The same volume always gives the same files: identifiers are derived from a name, not drawn.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from medvid.contract import DataError
from medvid.io.geometry import RAS_TO_LPS, Plane, canonical_affine, orient_to_letters

RESCALE_INTERCEPT = -1024
"""CT is stored unsigned from -1024 HU up, as scanners do."""


def write_nifti(
    path: str | Path,
    volume: NDArray[Any],
    *,
    spacing: tuple[float, float, float],
    plane: Plane = "axial",
    orientation: str = "RAS",
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Writes a volume as .nii or .nii.gz, beside its place and then renamed.

    Args:
        path: of the file.
        volume: (T, H, W) in canonical directions of `plane`.
        spacing: along (T, H, W), mm.
        plane: of the slices.
        orientation: where the file's axes run to, such as RAS, LPI or SAR.
        origin: (x, y, z) of voxel (0, 0, 0), mm, DICOM patient axes.

    Raises:
        GeometryError: for letters that are no orientation.
    """
    path = Path(path)
    affine = canonical_affine(plane, spacing, origin)
    size = (volume.shape[0], volume.shape[1], volume.shape[2])
    order, flips = orient_to_letters(affine, size, orientation)
    turned = np.eye(4)
    turned[:3, 3] = affine[:3, 3]
    for row, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        turned[:3, row] = affine[:3, axis] * (-1 if flip else 1)
        if flip:
            turned[:3, 3] += affine[:3, axis] * (size[axis] - 1)
    steps = tuple(slice(None, None, -1 if flip else None) for flip in flips)
    image = nibabel.Nifti1Image(volume.transpose(order)[steps], RAS_TO_LPS @ turned)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"part-{path.name}")
    nibabel.save(image, beside)
    os.replace(beside, path)


def write_dicom_series(
    folder: str | Path,
    volume: NDArray[np.int16],
    *,
    spacing: tuple[float, float, float],
    plane: Plane = "axial",
    patient_id: str = "phantom",
    series_uid: str | None = None,
    modality: str = "CT",
    reverse: bool = False,
    shuffle_names: bool = False,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    description: str = "made-up data",
) -> None:
    """Writes a volume as one file a slice, uncompressed; `open_stack` gives the volume back.

    Args:
        folder: made when needed.
        volume: (T, H, W) in canonical directions of `plane`; HU for CT.
        spacing: along (T, H, W), mm.
        plane: of the slices.
        patient_id: as in the hospital's system; made up.
        series_uid: two series of one folder need two; derived from folder and patient when None.
        modality: CT or MR. MR holds no negative values.
        reverse: acquire from the last slice to the first, as InstanceNumber counts.
        shuffle_names: file names in another order than the slices.
        origin: (x, y, z) of voxel (0, 0, 0), mm.
        description: of the series.

    Raises:
        DataError: for values that the stored 16 bits cannot hold.
    """
    folder = Path(folder)
    if modality != "CT" and volume.min() < 0:
        raise DataError("MR voxels are stored unsigned; the volume holds negative ones.")
    intercept = RESCALE_INTERCEPT if modality == "CT" else 0
    stored = volume.astype(np.int32) - intercept
    if stored.min() < 0:
        raise DataError(f"The volume holds {volume.min()} HU; the lowest stored is {intercept}.")
    folder.mkdir(parents=True, exist_ok=True)
    series = series_uid or derive_uid(f"{folder.name}|{patient_id}|series")
    affine = canonical_affine(plane, spacing, origin)
    count = len(stored)
    names = np.random.default_rng(0).permutation(count) if shuffle_names else np.arange(count)
    for slice_index in range(count):
        number = count - slice_index if reverse else slice_index + 1
        dataset = _make_slice(series, number, modality)
        dataset.PatientID = patient_id
        dataset.PatientName = f"Phantom^{patient_id}"
        dataset.SeriesDescription = description
        dataset.StudyInstanceUID = derive_uid(f"{patient_id}|study")
        dataset.FrameOfReferenceUID = derive_uid(f"{patient_id}|frame")
        # Rows and columns are named by the direction in which the index rises along them.
        along_row, down_column = affine[:3, 2] / spacing[2], affine[:3, 1] / spacing[1]
        dataset.ImageOrientationPatient = [*along_row.tolist(), *down_column.tolist()]
        corner = affine[:3, 3] + slice_index * affine[:3, 0]
        dataset.ImagePositionPatient = [round(float(value), 6) for value in corner]
        dataset.PixelSpacing = [spacing[1], spacing[2]]
        dataset.SliceThickness = spacing[0]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, intercept
        dataset.Rows, dataset.Columns = stored.shape[1:]
        dataset.PixelData = stored[slice_index].astype("<u2").tobytes()
        file_number = int(names[number - 1])
        dataset.save_as(folder / f"IM_{file_number + 1:04d}.dcm", enforce_file_format=True)


def derive_uid(name: str) -> str:
    """Returns a valid UID that depends on `name` alone."""
    # 2.25 is the root for numbers that need no registration; 38 digits is their usual length.
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:15], "big")
    return f"2.25.{digest}"


def _make_slice(series: str, number: int, modality: str) -> FileDataset:
    storage = CTImageStorage if modality == "CT" else MRImageStorage
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = UID(derive_uid(f"{series}|{number}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = storage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = series
    dataset.InstanceNumber = number
    dataset.SeriesNumber = 1
    dataset.Modality = modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    return dataset
