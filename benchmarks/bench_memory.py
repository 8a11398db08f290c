"""Resident memory of a training process with 100 and with 1,000 cases.

Run: python benchmarks/bench_memory.py

Each number of cases trains for two epochs in a process of its own, on made-up scans of
32 x 128 x 128 (1 MB each); the peak of its resident memory is read at its end.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from results import write_section

CASES = (100, 1000)

TRAIN = """
import resource, sys
from pathlib import Path
from medvid.config import read_config
from medvid.jobs.train import train
folder = Path(sys.argv[1])
config = {
    "data": {"manifest": str(folder / "manifest.csv"), "store": str(folder / "store"),
             "sampler": {"name": "dense", "frames": 8}, "crop": [64, 64], "workers": 0,
             "splits": {"method": "columns", "validation": 0.1}},
    "model": {"name": "slicewise", "width": 4}, "train": {"epochs": 2},
    "evaluate": {"resamples": 100},
}
train(config, runs=folder / "runs")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write_cases(folder: Path, number: int) -> None:
    """Writes the cases and their manifest; every tenth is tested."""
    rng = np.random.default_rng(0)
    lines = ["case_id,patient_id,path,label,split"]
    for case in range(number):
        volume = rng.integers(0, 100, (32, 128, 128)).astype(np.int16) + 50 * (case % 2)
        np.save(folder / f"{case}.npy", volume.astype(np.int16))
        split = "test" if case % 10 in (4, 5) else "train"
        lines.append(f"c{case},p{case},{case}.npy,{'ab'[case % 2]},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    peaks = []
    for number in CASES:
        with tempfile.TemporaryDirectory() as folder:
            write_cases(Path(folder), number)
            command = [sys.executable, "-c", TRAIN, folder]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(float(answer.stdout.split()[-1]))
    write_section(
        "Peak resident memory of training with 100 and with 1,000 cases",
        ["cases", "MB", "ratio"],
        [
            [str(number), f"{peak:.0f}", f"{peak / peaks[0]:.3f}"]
            for number, peak in zip(CASES, peaks, strict=True)
        ],
        "python benchmarks/bench_memory.py",
        "Scans of 1 MB; two epochs, one process each, data loaded in the training process.",
    )


if __name__ == "__main__":
    main()
