"""A made-up series whose slices have a constant value each, so that order errors show."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medvid.io.write import write_dicom_series


@pytest.fixture
def volume() -> NDArray[np.int16]:
    slices = np.arange(8, dtype=np.int16) * 100 - 300
    return np.broadcast_to(slices[:, None, None], (8, 12, 10)).copy()


@pytest.fixture
def series(tmp_path: Path, volume: NDArray[np.int16]) -> Path:
    folder = tmp_path / "export" / "ct"
    write_dicom_series(folder, volume, spacing=(5.0, 0.7, 0.8))
    return folder
