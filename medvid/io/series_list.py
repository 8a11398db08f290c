"""Series of a folder that holds the files of many: who belongs to whom, and a list for each.

Some data sets keep the images of thousands of series in one flat folder. Opening one of them would
mean reading every header again. `sort_images` reads them once, in several processes, and
`write_series_list` writes down the files of one series; `open_stack` reads such a list.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvid.contract import DataError, MedvidError
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_refusals import refuse_image
from medvid.io.identity import instance_token
from medvid.io.names import explain_name, is_writable
from medvid.io.scan_pool import CHUNK, PARALLEL_FROM, start_pool

ENDING = ".series"
"""Of the name of a list; `medvid scan` passes over them."""

FIRST_LINE = "medvid series 1"
"""How a list begins; the number is the version of its form."""


@dataclass(frozen=True, slots=True)
class SortedImage:
    """What a file's header says of whom it belongs to.

    Args:
        file: its path.
        series: the series' token; "" where the file cannot be read.
        patient: the patient's token; "" where none is named.
        key: the image's name among slice labels, see `medvid.io.slice_truth`.
        fault: why it can be no slice; "" where it can.
    """

    file: str
    series: str
    patient: str
    key: str
    fault: str


def sort_images(
    files: Sequence[str], *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[SortedImage]:
    """Reads the headers of DICOM files of one image each; pixel data stay untouched.

    Args:
        files: paths, as text: a million of them is held at once.
        workers: processes that read.
        progress: called with (files done, files in all).

    Returns:
        An image for each file, in the order of the files.
    """
    chunks = [tuple(files[start : start + CHUNK]) for start in range(0, len(files), CHUNK)]
    found: dict[tuple[str, ...], list[SortedImage]] = {}
    done = 0
    with start_pool(workers if len(files) >= PARALLEL_FROM else 1) as pool:
        for chunk, images in pool(_sort_chunk, chunks, _blame_crash):
            found[chunk] = images
            done += len(chunk)
            if progress is not None:
                progress(done, len(files))
    return [image for chunk in chunks for image in found[chunk]]


def _sort_chunk(files: tuple[str, ...]) -> list[SortedImage]:
    return [_sort_image(file) for file in files]


def _sort_image(file: str) -> SortedImage:
    try:
        header = read_header(Path(file))
        why = refuse_image(header)
    except MedvidError as error:
        return SortedImage(file, "", "", "", error.message)
    except Exception as error:
        # Its text may quote what the file says of a patient.
        return SortedImage(
            file, "", "", "", f"{file}: a {type(error).__name__} stopped its reader."
        )
    fault = "" if why is None else f"{file} {why[1]}"
    return SortedImage(file, header.token, header.patient, instance_token(header.instance), fault)


def _blame_crash(files: tuple[str, ...]) -> list[SortedImage]:
    told = "its reader crashed, on this file or on another that was read with it."
    return [SortedImage(file, "", "", "", f"{file}: {told}") for file in files]


def write_series_list(path: Path, files: Iterable[Path]) -> None:
    """Writes the files of one series as a list that `open_stack` reads, whole or not at all.

    A list that says the same already is left as it is.

    Args:
        path: of the list, ending in `.series`.
        files: the images; written relative to the list where they lie on the same drive.

    Raises:
        DataError: for a name that is not UTF-8.
    """
    folder = path.parent.absolute()
    text = "".join(f"{line}\n" for line in (FIRST_LINE, *_tell_places(folder, files)))
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    folder.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _tell_places(folder: Path, files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        whole = os.path.abspath(file)
        try:
            place = os.path.relpath(whole, folder)
        except ValueError:  # another drive of Windows
            place = whole
        if not is_writable(place):
            raise explain_name(file)
        yield place.replace(os.sep, "/")


def read_series_list(path: Path) -> list[Path]:
    """Returns the files that a list names.

    Raises:
        DataError: when it is no such list, names nothing, or names files that are absent.
    """
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, UnicodeDecodeError):
        first, lines = "", []
    if first != FIRST_LINE or not lines:
        raise DataError(
            f"{path} is no list of the files of a series: its first line should be "
            f"`{FIRST_LINE}`, and every other one name a file. Make it again with `medvid "
            "manifest`.",
            code="no_series_list",
            files=[path],
        )
    files = [Path(os.path.normpath(path.parent / line)) for line in lines]
    absent = [file for file in files if not file.is_file()]
    if absent:
        raise DataError(
            f"{path} names {len(files)} files, and {len(absent)} of them are not there, such as "
            f"{absent[0]}. Bring them back, or make the list again with `medvid manifest`.",
            code="missing_file",
            files=absent,
        )
    return files
