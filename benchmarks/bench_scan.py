"""`medvid scan` of a hospital's archive, against pydicom over the same files in one process.

Run: python benchmarks/bench_scan.py
Or, to keep the archive for another run: python benchmarks/bench_scan.py --archive DIR

100,000 made-up CT slices in 500 series of 200, a few kB each, so that the headers and not the
pixels fill the disk. They lie in the page cache for both: what is measured is the parsing. Both
take all files, in turns; medvid also sorts them into series and says of each whether it can be
used. Beside files a second stands the processors' own time, which other work on the machine changes
least.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pydicom
from results import write_section

from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series

SERIES = 500
SLICES = 200
SIDE = 16
"""Pixels; a file is then 1.4 kB, most of it header."""

ROUNDS = 3
MEGABYTE = 1e6


def write_archive(root: Path, series: int) -> None:
    """Writes series with the tags that scanners write and no reader needs, as ballast.

    Those that lie there already are taken as they are.
    """
    folders = [root / f"patient{number // 5}" / f"series{number}" for number in range(series)]
    first = folders[0]
    if not is_whole(first):
        volume = np.zeros((SLICES, SIDE, SIDE), np.int16)
        write_dicom_series(first, volume, spacing=(1.25, 0.7, 0.7), patient_id="p0")
        add_ballast(first)
    contents = {file.name: file.read_bytes() for file in sorted(first.iterdir())}
    uid = str(pydicom.dcmread(next(first.iterdir())).SeriesInstanceUID)
    for number, folder in enumerate(folders):
        if not is_whole(folder):
            folder.mkdir(parents=True, exist_ok=True)
            own = f"{uid[:-6]}{number:06d}"
            for name, content in contents.items():
                (folder / name).write_bytes(content.replace(uid.encode(), own.encode()))


def is_whole(folder: Path) -> bool:
    """Whether a series lies there."""
    return folder.is_dir() and sum(1 for _ in folder.iterdir()) == SLICES


def add_ballast(folder: Path) -> None:
    """Adds what a scanner writes besides: texts, numbers, and a private block with a sequence."""
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        for number in range(60):
            dataset.add_new((0x0019, 0x1000 + number), "LO", f"value {number}")
            dataset.add_new((0x0021, 0x1000 + number), "DS", f"{number}.25")
        item = pydicom.Dataset()
        item.CodeValue, item.CodeMeaning = "T-D3000", "Chest"
        dataset.ProcedureCodeSequence = pydicom.Sequence([item])
        dataset.KVP, dataset.XRayTubeCurrent, dataset.ConvolutionKernel = 120, 200, "B30f"
        dataset.save_as(file)


@dataclass
class Measured:
    """What a reader took in every round.

    Args:
        rates: files a second.
        cpu: milliseconds of all its processes a file.
        grown: bytes by which resident memory of all its processes grew.
    """

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    grown: list[float] = field(default_factory=list)

    def add(self, run: Callable[[], None], files: int) -> None:
        """Measures a round."""
        memory = watch_memory()
        before = next(memory)
        cpu, start = _sum_cpu(), time.perf_counter()
        run()
        self.rates.append(files / (time.perf_counter() - start))
        self.cpu.append((_sum_cpu() - cpu) / files * 1000)
        self.grown.append(next(memory) - before)


def _sum_cpu() -> float:
    """Returns seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def read_by_pydicom(files: list[Path]) -> None:
    """Reads the headers, and keeps none of them."""
    for file in files:
        pydicom.dcmread(file, stop_before_pixels=True)


def scan(root: Path, files: int, workers: int) -> None:
    """Scans, and looks whether everything was found."""
    rows = scan_tree(root, workers=workers)
    assert {row.verdict for row in rows} == {"ok"}
    assert len(rows) == files // SLICES


def watch_memory() -> Iterator[float]:
    """Yields resident bytes of this process and its children now, then their highest value."""
    process = psutil.Process()
    stop = threading.Event()
    seen = [_sum_memory(process)]

    def watch() -> None:
        while not stop.wait(0.2):
            seen.append(_sum_memory(process))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield seen[0]
    stop.set()
    thread.join()
    yield max(seen)


def _sum_memory(process: psutil.Process) -> float:
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def measure(root: Path, files: list[Path]) -> dict[str, Measured]:
    """Lets the readers take turns."""
    readers: dict[str, Callable[[], None]] = {
        "pydicom.dcmread(stop_before_pixels=True), one process": lambda: read_by_pydicom(files),
        "medvid scan, one process": lambda: scan(root, len(files), 1),
        "medvid scan, two processes": lambda: scan(root, len(files), 2),
    }
    measured = {name: Measured() for name in readers}
    for turn in range(ROUNDS):
        for name, run in readers.items():
            measured[name].add(run, len(files))
            rate, cpu = measured[name].rates[-1], measured[name].cpu[-1]
            print(f"round {turn + 1}: {name}: {rate:,.0f} files/s, {cpu:.2f} ms", flush=True)
    return measured


def tell(measured: dict[str, Measured], files: int, series: int, load: float) -> None:
    """Writes the section."""
    peer = next(iter(measured.values()))
    rows = [
        [
            name,
            ", ".join(f"{rate:,.0f}" for rate in found.rates),
            f"{statistics.median(found.rates) / statistics.median(peer.rates):.1f}",
            f"{statistics.median(found.cpu):.2f}",
            f"{statistics.median(peer.cpu) / statistics.median(found.cpu):.1f}",
            f"{max(found.grown) / MEGABYTE:.0f}",
        ]
        for name, found in measured.items()
    ]
    write_section(
        "Scan of an archive",
        [
            *("reader", "files/s, every round", "times pydicom", "processor, ms a file"),
            *("times less than pydicom", "memory grew by, MB"),
        ],
        rows,
        "python benchmarks/bench_scan.py",
        f"{files:,} DICOM files in {series} series, headers in the page cache; medians of "
        f"{ROUNDS} rounds in turns. medvid also sorts them into series and judges each. Memory: "
        "resident bytes of all processes at their highest, less those before. Other work on the "
        f"machine: a load of {load:.1f} before the first round.",
    )


def main() -> None:
    """Measures and writes the section."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=SERIES)
    parser.add_argument("--archive", type=Path, help="a folder that is kept and used again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = asked.archive or Path(name)
        write_archive(root, asked.series)
        files = sorted(root.rglob("*.dcm"))
        for file in files:
            file.read_bytes()
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        tell(measure(root, files), len(files), asked.series, load)


if __name__ == "__main__":
    main()
