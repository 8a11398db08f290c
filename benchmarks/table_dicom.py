"""The table of docs/dicom.md: what seven readers make of series as hospitals deliver them.

Run: python benchmarks/table_dicom.py

The other libraries are no dependency of medvid. They are installed for this script alone, into an
environment of its own, so that nothing in medvid's changes (MONAI and SimpleITK are there):

    python -m venv peers && peers/bin/pip install -e . highdicom dicom2nifti dcm2niix torchio
    peers/bin/python benchmarks/table_dicom.py

A library that is absent has no column. Every cell is judged by voxels and by places in the patient:
each voxel of what a reader returns must lie on a pixel of the file that has this value. Each reader
has a process of its own; what it prints counts as a warning where it names the case's fault.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from dicom_cases import CASES, SIZE, Truth
from dicom_readers import READERS, Volume
from results import describe_conditions, format_table, replace_between

PAGE = Path(__file__).resolve().parents[1] / "docs" / "dicom.md"
BEGIN, END = "<!-- table: benchmarks/table_dicom.py -->", "<!-- end of table -->"

DOUBTS = ("may be incorrect", "non uniform sampling", "missing slices")
"""Words of libraries that something is wrong with the volume, whatever it is."""

PLACE_MM = 0.1
"""How far a voxel may lie from its pixel."""

VALUE = 0.5
"""HU by which a value may differ: half a step of integers."""

RIGHT, REFUSED, SOME = "right", "refused", "part"
WARNED, SILENT, ERROR = "wrong, warned", "**wrong, silently**", "error"
MEANING = {
    RIGHT: "all volumes, every voxel with its value at its place",
    SOME: "some of the volumes, all of them right, and a word on the others",
    REFUSED: "nothing returned, and the reason named",
    WARNED: "wrong values or places, or slices or volumes lost, with a word on the cause",
    SILENT: "the same without a word",
    ERROR: "nothing returned, and no reason that leads to the cause",
}


def judge(case: str, truths: Sequence[Truth], volumes: Sequence[Volume], said: str) -> str:
    """Returns the verdict on what a reader returned."""
    # A picture by itself, such as a localizer, is no volume and nobody takes it for one.
    stacks = [volume for volume in volumes if volume[0].size > SIZE[0] * SIZE[1]]
    found = [next((i for i, t in enumerate(truths) if agrees(t, v)), None) for v in stacks]
    told = any(word.lower() in said.lower() for word in (*CASES[case].words, *DOUBTS))
    if None in found:
        return WARNED if told else SILENT
    if not found:
        return REFUSED if told else SILENT
    if set(found) == set(range(len(truths))):
        return RIGHT
    return SOME if told else SILENT


def agrees(truth: Truth, volume: Volume) -> bool:
    """Whether a volume shows every pixel of a truth, once, with its value at its place."""
    array, affine = volume
    if array.ndim != 3 or array.size != len(truth.values) * SIZE[0] * SIZE[1]:
        return False
    index = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij")).reshape(3, -1)
    places = affine @ np.vstack([index, np.ones(index.shape[1])])
    own = np.linalg.solve(truth.affine, places)[:3]
    at = np.rint(own).astype(int)
    spacing = np.linalg.norm(truth.affine[:3, :3], axis=0)
    limits = np.array([len(truth.values), *SIZE])[:, None]
    if (
        (np.abs(own - at) * spacing[:, None] > PLACE_MM).any()
        or (at < 0).any()
        or (at >= limits).any()
    ):
        return False
    if len({tuple(one) for one in at.T}) != array.size:
        return False
    shown = array[tuple(index)].astype(np.float64)
    right = np.abs(shown - np.array(truth.values)[at[0]]) <= VALUE
    if truth.padding is not None:
        row, highest = truth.padding
        right = np.where(at[1] == row, shown <= highest, right)
    return bool(right.all())


@contextlib.contextmanager
def hear(file: Path) -> Iterator[None]:
    """Keeps what is printed, by Python and by C++, in a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    with file.open("wb") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, old in zip((1, 2), kept, strict=True):
                os.dup2(old, stream)
                os.close(old)


def try_reader(reader: str, case: str) -> tuple[str, str]:
    """Returns the verdict of one cell, and what the library said."""
    read, _ = READERS[reader]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "dicom"
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            truths = CASES[case].write(folder)
        notes = Path(scratch) / "said.txt"
        failure, volumes = "", []
        with hear(notes), warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.basicConfig(level=logging.WARNING, force=True)  # to stderr, which is heard
            try:
                volumes = read(folder)
            except BaseException as error:
                failure = f"{type(error).__name__}: {error}"
        said = notes.read_text(encoding="utf-8", errors="replace") + failure
    if volumes:
        return judge(case, truths, volumes, said), said
    told = any(word.lower() in said.lower() for word in CASES[case].words)
    return (REFUSED if told else ERROR), said


def run_column(reader: str) -> dict[str, str]:
    """Tries a reader on all cases, in a process of its own."""
    command = [sys.executable, __file__, "--column", reader]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["case"]: row["verdict"] for row in map(json.loads, lines)}


def write_page(columns: dict[str, dict[str, str]]) -> None:
    """Replaces the table of the page."""
    names = [f"{name} {importlib.metadata.version(READERS[name][1])}" for name in columns]
    rows = [
        [one.title, *(column.get(case, "crashed") for column in columns.values())]
        for case, one in CASES.items()
    ]
    counts = Counter(verdict for verdict in columns["medvid"].values())
    told = [f"{word}: {meaning}." for word, meaning in MEANING.items()]
    lines = [
        *("", *format_table(["case", *names], rows), ""),
        "; ".join(told).replace(".;", ";"),
        "",
        f"medvid: {', '.join(f'{n} {word}' for word, n in counts.most_common())}. "
        f"`python benchmarks/table_dicom.py`, {describe_conditions()}.",
        "",
    ]
    print(replace_between(PAGE, BEGIN, END, lines))


def main() -> None:
    """Fills the table, or one column of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--column", choices=READERS, help="print one column as JSON lines")
    parser.add_argument("--said", action="store_true", help="with --column: what the library said")
    asked = parser.parse_args()
    if asked.column:
        for case in CASES:
            verdict, said = try_reader(asked.column, case)
            row = {"case": case, "verdict": verdict} | ({"said": said[-600:]} if asked.said else {})
            print(json.dumps(row), flush=True)
        return
    columns = {}
    for reader, (_, package) in READERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: its column is left out.")
            continue
        columns[reader] = run_column(reader)
    write_page(columns)


if __name__ == "__main__":
    main()
