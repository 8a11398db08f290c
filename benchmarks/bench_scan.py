"""`medvid scan` of a hospital's archive, against pydicom over the same files in one process.

Run: python benchmarks/bench_scan.py

100,000 made-up CT slices in 500 series of 200, a few kB each, so that the headers and not the
pixels fill the disk. They lie in the page cache for both: what is measured is the parsing. pydicom
takes every fiftieth file, which is enough for a rate; medvid takes all, sorts them into series and
says of each whether it can be used. Both run in turns.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
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

EVERY = 50
"""pydicom reads every so-many-th file."""

ROUNDS = 3
MEGABYTE = 1e6


def write_archive(root: Path, series: int) -> None:
    """Writes series with the tags that scanners write and no reader needs, as ballast."""
    volume = np.zeros((SLICES, SIDE, SIDE), np.int16)
    for number in range(series):
        folder = root / f"patient{number // 5}" / f"series{number}"
        write_dicom_series(folder, volume, spacing=(1.25, 0.7, 0.7), patient_id=f"p{number // 5}")
        if number == 0:
            add_ballast(folder)
            contents = [file.read_bytes() for file in sorted(folder.iterdir())]
            uid = str(pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID)
        else:
            own = f"{uid[:-6]}{number:06d}"
            for file, content in zip(sorted(folder.iterdir()), contents, strict=True):
                file.write_bytes(content.replace(uid.encode(), own.encode()))


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


def time_pydicom(files: list[Path]) -> float:
    """Returns files a second."""
    start = time.perf_counter()
    for file in files:
        pydicom.dcmread(file, stop_before_pixels=True)
    return len(files) / (time.perf_counter() - start)


def time_medvid(root: Path, files: int, workers: int) -> tuple[float, float]:
    """Returns files a second, and by how many bytes memory of all processes grew."""
    memory = watch_memory()
    before = next(memory)
    start = time.perf_counter()
    rows = scan_tree(root, workers=workers)
    seconds = time.perf_counter() - start
    peak = next(memory)
    assert {row.verdict for row in rows} == {"ok"}
    assert len(rows) == files // SLICES
    return files / seconds, peak - before


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


def main() -> None:
    """Measures and writes the section."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=SERIES)
    series = parser.parse_args().series
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_archive(root, series)
        files = sorted(root.rglob("*.dcm"))
        some = files[::EVERY]
        for file in files:
            file.read_bytes()
        rates: dict[str, list[float]] = {"pydicom": [], "one": [], "two": []}
        grown: dict[str, float] = {}
        for _ in range(ROUNDS):
            rates["pydicom"].append(time_pydicom(some))
            for key, workers in (("one", 1), ("two", 2)):
                rate, bytes_more = time_medvid(root, len(files), workers)
                rates[key].append(rate)
                grown[key] = max(grown.get(key, 0.0), bytes_more)
    base = statistics.median(rates["pydicom"])
    names = {
        "pydicom": "pydicom.dcmread(stop_before_pixels=True), one process",
        "one": "medvid scan, one process",
        "two": "medvid scan, two processes",
    }
    rows = [
        [
            names[key],
            f"{statistics.median(found):,.0f}",
            f"{statistics.median(found) / base:.2f}",
            f"{grown[key] / MEGABYTE:.0f}" if key in grown else "",
        ]
        for key, found in rates.items()
    ]
    write_section(
        "Scan of an archive",
        ["reader", "files/s", "against pydicom", "memory grew by, MB"],
        rows,
        "python benchmarks/bench_scan.py",
        f"{len(files):,} DICOM files in {series} series, headers in the page cache; medians of "
        f"{ROUNDS} rounds in turns. medvid also sorts them into series and judges each. Memory: "
        "resident bytes of all processes at their highest, less those before.",
    )


if __name__ == "__main__":
    main()
