"""Small made-up cases that need no file format."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medvid.contract import Record

MakeRecords = Callable[..., list[Record]]


@pytest.fixture
def make_records(tmp_path: Path) -> MakeRecords:
    """Writes numbered volumes: every voxel of frame t of case k is 100 * k + t."""

    def make(cases: int = 6, frames: int = 8, side: int = 6, per_patient: int = 1) -> list[Record]:
        records = []
        for case in range(cases):
            path = tmp_path / "cases" / f"case {case} ü.npy"
            path.parent.mkdir(exist_ok=True)
            volume = np.zeros((frames, side, side), dtype=np.int16)
            volume += (100 * case + np.arange(frames, dtype=np.int16))[:, None, None]
            np.save(path, volume)
            records.append(
                Record(
                    case_id=f"case_{case}",
                    patient_id=f"patient_{case // per_patient}",
                    path=str(path),
                    label="ab"[case % 2],
                )
            )
        return records

    return make
