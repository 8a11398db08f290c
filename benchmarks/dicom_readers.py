"""What each library makes of a folder of DICOM, as its documentation says to call it.

A reader returns volumes: an array, and the affine of its indices to (x, y, z) in mm in DICOM's
axes. It raises where the library does. medvid also returns the reasons of what it left out.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Volume = tuple[NDArray[Any], NDArray[np.float64]]

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class RefusedError(Exception):
    """The library gave nothing and said why without raising."""


def read_medvid(folder: Path) -> list[Volume]:
    """Reads what `scan` calls ok."""
    from medvid.io import open_stack
    from medvid.io.scan import scan_tree

    volumes: list[Volume] = []
    reasons = []
    for row in scan_tree(folder, pixels=True):
        if row.verdict == "ok":
            stack = open_stack(row.path, series=row.series or None)
            assert stack.affine is not None
            volumes.append((stack.read()[0], stack.affine))
        else:
            reasons.append(row.reason)
            print(row.reason)
    if not volumes:
        raise RefusedError(" ".join(reasons))
    return volumes


def read_monai(folder: Path) -> list[Volume]:
    """Reads as `LoadImage(reader="PydicomReader")` does."""
    from monai.data import PydicomReader

    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(folder))
    return [(np.asarray(array), TO_LPS @ np.asarray(meta["affine"], dtype=np.float64))]


def read_torchio(folder: Path) -> list[Volume]:
    """Reads a folder as an image."""
    import torchio

    image = torchio.ScalarImage(folder)
    affine = np.array(image.affine, dtype=np.float64)
    return [(image.data[0].numpy(), TO_LPS @ affine)]


def read_simpleitk(folder: Path) -> list[Volume]:
    """Reads the series that GDCM finds first, as in SimpleITK's example."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return [(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), affine)]


def read_highdicom(folder: Path) -> list[Volume]:
    """Reads one series, or the one file."""
    import highdicom
    import pydicom

    images, files = [], []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        with contextlib.suppress(pydicom.errors.InvalidDicomError):  # it is given images, no folder
            images.append(pydicom.dcmread(file))
            files.append(file)
    if len(images) == 1:
        volume = highdicom.imread(str(files[0])).get_volume()
    else:
        volume = highdicom.get_volume_from_series(images)
    return [(volume.array, volume.affine)]


def read_niftis(folder: Path) -> list[Volume]:
    """Reads what a converter wrote."""
    import nibabel

    volumes = []
    for file in sorted(folder.glob("*.nii*")):
        image: Any = nibabel.load(file)
        if image.get_data_dtype().fields:
            continue  # a page in colours, apart from all scans
        volumes.append((np.asanyarray(image.dataobj), TO_LPS @ image.affine))
    return volumes


def read_dicom2nifti(folder: Path) -> list[Volume]:
    """Converts a folder, without turning axes."""
    import dicom2nifti

    with tempfile.TemporaryDirectory() as out:
        dicom2nifti.convert_directory(str(folder), out, reorient=False)
        volumes = read_niftis(Path(out))
    if not volumes:
        raise RefusedError("")  # its reasons are in its log, which is kept with what it printed
    return volumes


def read_dcm2niix(folder: Path) -> list[Volume]:
    """Converts a folder with the defaults."""
    from dcm2niix import bin as program

    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [program, "-o", out, "-f", "%s_%j_%e", str(folder)], capture_output=True, text=True
        )
        # Version and copyright come first; what it says of the images follows.
        said = re.sub(
            r"(?m)^(Chris Rorden|Compiled|Found \d+|Convert \d+|Conversion req).*$", "", done.stdout
        )
        print(said, done.stderr)
        volumes = read_niftis(Path(out))
    if not volumes:
        raise RefusedError(said + done.stderr)
    return volumes


READERS: Mapping[str, tuple[Callable[[Path], list[Volume]], str]] = {
    "medvid": (read_medvid, "medvid"),
    "MONAI": (read_monai, "monai"),
    "TorchIO": (read_torchio, "torchio"),
    "SimpleITK": (read_simpleitk, "SimpleITK"),
    "highdicom": (read_highdicom, "highdicom"),
    "dicom2nifti": (read_dicom2nifti, "dicom2nifti"),
    "dcm2niix": (read_dcm2niix, "dcm2niix"),
}
"""Column -> its reader, and the package that must be there."""
