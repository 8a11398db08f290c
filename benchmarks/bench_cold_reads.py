"""A series or volume to an array, against the readers in use.

Run: python benchmarks/bench_cold_reads.py

One made-up chest-like volume of 120 x 512 x 512 is written as an uncompressed DICOM series and as
.nii.gz. Readers take turns in one process; medians of the rounds. The files lie in the page cache
for all: what is measured is the reading, not the disk.
"""

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import SimpleITK
from monai.transforms import LoadImage
from results import write_section

from medvid.io import open_stack
from medvid.io.write import write_dicom_series, write_nifti

SHAPE = (120, 512, 512)
ROUNDS = 5

Reader = Callable[[Path], Any]


def make_volume() -> np.ndarray[Any, np.dtype[np.int16]]:
    """Returns air around a body with soft noise, which compresses about as well as a scan."""
    rng = np.random.default_rng(0)
    _, h, w = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((h - 256) / 180) ** 2 + ((w - 256) / 230) ** 2 < 1
    tissue = rng.normal(40, 12, SHAPE)
    return np.where(body, tissue, -1000).astype(np.int16)


def read_itk_series(folder: Path) -> Any:
    """Reads as SimpleITK's documentation shows."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return SimpleITK.GetArrayFromImage(reader.Execute())


def read_pydicom(folder: Path) -> Any:
    """Reads every file, sorts by position and rescales, as many scripts do."""
    slices = [pydicom.dcmread(file) for file in folder.iterdir()]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    scale, shift = float(slices[0].RescaleSlope), float(slices[0].RescaleIntercept)
    return np.stack([one.pixel_array for one in slices]) * scale + shift


DICOM: dict[str, Reader] = {
    "medvid": lambda path: open_stack(path).read(),
    "MONAI LoadImage, PydicomReader": lambda path: LoadImage("PydicomReader")(path),
    "SimpleITK ImageSeriesReader": read_itk_series,
    "pydicom, file by file": read_pydicom,
}

NIFTI: dict[str, Reader] = {
    "medvid": lambda path: open_stack(path).read(),
    "MONAI LoadImage": lambda path: LoadImage()(path),
    "nibabel get_fdata": lambda path: nibabel.load(path).get_fdata(),
    "SimpleITK ReadImage": lambda path: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))),
}


def measure(readers: dict[str, Reader], path: Path) -> list[list[str]]:
    """Returns a row a reader: median milliseconds, and how many times medvid's."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            started = time.perf_counter()
            read(path)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    own = medians["medvid"]
    return [[name, f"{1000 * m:.0f}", f"{m / own:.1f}"] for name, m in medians.items()]


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    warnings.simplefilter("ignore")
    volume = make_volume()
    with tempfile.TemporaryDirectory() as folder:
        series, nifti = Path(folder) / "series", Path(folder) / "volume.nii.gz"
        write_dicom_series(series, volume, spacing=(2.5, 0.7, 0.7))
        write_nifti(nifti, volume, spacing=(2.5, 0.7, 0.7))
        rows = [["DICOM series", *row] for row in measure(DICOM, series)]
        rows += [[".nii.gz", *row] for row in measure(NIFTI, nifti)]
    write_section(
        "Cold reads: 120 x 512 x 512 int16 to an array",
        ["file", "reader", "ms", "times medvid"],
        rows,
        "python benchmarks/bench_cold_reads.py",
        f"Medians of {ROUNDS} alternating rounds, page cache warm for all.",
    )


if __name__ == "__main__":
    main()
