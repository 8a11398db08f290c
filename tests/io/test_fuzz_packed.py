"""Damaged files with packed pixels: what is read is what the test drew, or it is refused.

`test_fuzz.py` asks pydicom what a damaged file shows, and both unpack with the same codecs: where a
codec makes something up, they agree. Here the answer is known before anything is packed, so it must
be damage that a reader can notice: files that are cut off, zeros in place of their end, and single
tags that say how pixels lie, or rows and columns of the same number of pixels where the packed ones
state their own. A bit turned over within packed pixels can be noticed by nobody and is left out.
"""

import tempfile
from collections.abc import Mapping, Sequence, Set
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from medvid.contract import MedvidError, Stack
from medvid.io.identity import instance_token
from medvid.io.write import write_dicom_series
from tests.io.packed import PACKED, recode
from tests.io.test_fuzz import (
    BUDGET_S,
    ROUND,
    SHORTS,
    SLICES,
    SYNTAXES,
    Edit,
    change_file,
    fuzz,
    open_or_refuse,
    scan_all,
)

KINDS = ("plain", *PACKED, "jpeg_2000", "jpeg_ls")
SIDE = 40
"""Pixels; the encoder of JPEG 2000 takes nothing below 32."""

SPACING_MM = (5.0, 1.0, 2.0)
FILES = Path(pydicom.__file__).parent / "data" / "test_files"

Truth = Mapping[str, NDArray[Any]]
"""What each slice shows, by its token."""

BINARY = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    "SamplesPerPixel",
)
LAYOUT = st.one_of(
    *(st.tuples(st.just("short"), st.tuples(st.just(keyword), SHORTS)) for keyword in BINARY),
    st.tuples(
        st.just("text"),
        st.tuples(st.just("NumberOfFrames"), st.sampled_from(["0", "1", "2", "-1", "x", "9" * 9])),
    ),
    st.tuples(st.just("drop"), st.sampled_from([*BINARY, "PixelData"])),
    st.tuples(st.just("syntax"), st.sampled_from([*SYNTAXES, *PACKED.values()])),
    st.tuples(st.just("longer"), st.sampled_from([2, 4])),
)
SHAPED = ("jpeg", "jpeg_2000", "jpeg_ls")
"""Kinds whose packed pixels state their rows and columns."""

LOSSES = st.one_of(
    # Near the end as often as anywhere: that is where codecs are silent.
    st.tuples(st.just("short_by"), st.one_of(st.integers(1, 64), st.integers(1, 2000))),
    st.tuples(st.just("blank"), st.one_of(st.integers(1, 64), st.integers(1, 2000))),
    st.tuples(st.just("cut"), st.integers(0, 1 << 20)),
    st.tuples(st.just("remove"), st.none()),
    st.tuples(st.just("copy"), st.none()),
)
ONE_OR_ALL = st.integers(-1, SLICES - 1)
EDITS = st.tuples(
    st.sampled_from(KINDS),
    st.lists(st.tuples(ONE_OR_ALL, LAYOUT), max_size=1),
    st.lists(st.tuples(ONE_OR_ALL, LOSSES), max_size=2),
)


@cache
def pack(kind: str) -> tuple[Mapping[str, bytes], Truth]:
    """Returns files by name, and what their slices show; packed once."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "s"  # which the made-up UIDs depend on
        folder.mkdir()
        shown = write_jpeg_ls(folder) if kind == "jpeg_ls" else write_drawn(folder, kind)
        return {file.name: file.read_bytes() for file in folder.iterdir()}, shown


def write_packed(folder: Path, kind: str) -> Truth:
    """Writes a packed series; returns what its slices show."""
    files, shown = pack(kind)
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return shown


def write_drawn(folder: Path, kind: str) -> Truth:
    """Every voxel has a value of its own."""
    volume = np.arange(SLICES * SIDE * SIDE, dtype=np.int16).reshape(SLICES, SIDE, SIDE) - 100
    write_dicom_series(folder, volume, spacing=SPACING_MM)
    shown = {}
    for number, file in enumerate(sorted(folder.iterdir())):
        image = pydicom.dcmread(file)
        if kind == "jpeg_2000":
            image.compress(JPEG2000Lossless, generate_instance_uid=False)
        elif kind != "plain":
            recode(image, PACKED[kind])
        image.save_as(file)
        shown[instance_token(image.SOPInstanceUID)] = volume[number]
    return shown


def write_jpeg_ls(folder: Path) -> Truth:
    """Every slice is pydicom's own packed file; its unpacked twin tells what that shows."""
    packed = pydicom.dcmread(FILES / "MR_small_jpeg_ls_lossless.dcm")
    pixels = pydicom.dcmread(FILES / "MR_small.dcm").pixel_array
    (frame,) = generate_frames(packed.PixelData, number_of_frames=1)
    empty = np.zeros((SLICES, *pixels.shape), np.int16)
    write_dicom_series(folder, empty, spacing=SPACING_MM, modality="MR")
    shown = {}
    for file in sorted(folder.iterdir()):
        image = pydicom.dcmread(file)
        for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
            setattr(image, keyword, packed[keyword].value)
        image.PixelData = encapsulate([frame])
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = JPEGLSLossless
        image.save_as(file)
        shown[instance_token(image.SOPInstanceUID)] = pixels
    return shown


def lengthen_rows(file: Path, times: int) -> None:
    """Says that there are fewer rows of so many times the length."""
    image = pydicom.dcmread(file)
    image.Rows, image.Columns = image.Rows // times, image.Columns * times
    image.save_as(file)


def lose(file: Path, edit: Edit) -> None:
    kind, how = edit
    content = file.read_bytes()
    if kind == "longer":
        lengthen_rows(file, how)
    elif kind == "short_by":
        file.write_bytes(content[:-how])
    elif kind == "blank":
        kept = content[:-how]
        file.write_bytes(kept + bytes(len(content) - len(kept)))
    else:
        change_file(file, edit)


def check_packed(
    folder: Path,
    drawn: tuple[str, Sequence[tuple[int, Edit]], Sequence[tuple[int, Edit]]],
) -> None:
    kind, layout, losses = drawn
    shown = write_packed(folder / "s", kind)
    files = sorted((folder / "s").iterdir())
    for which, edit in (*layout, *losses):
        if (kind, edit[0]) == ("plain", "blank"):
            continue  # black pixels are pixels
        if edit[0] == "longer" and kind not in SHAPED:
            continue
        for file in files if which < 0 else files[which : which + 1]:
            if file.exists():
                lose(file, edit)
    if not any((folder / "s").iterdir()):
        return
    removed = {number for number, file in enumerate(files) if not file.exists()}
    places = [folder / "s", *(Path(row.path) for row in scan_all(folder) if row.verdict == "ok")]
    for place in places:
        opened = open_or_refuse(place)
        if not isinstance(opened, MedvidError):
            compare_with_drawn(shown, *opened, removed)


def compare_with_drawn(
    shown: Truth, stack: Stack, voxels: NDArray[Any], removed: Set[int] = frozenset()
) -> None:
    """Asserts that slices are those that were drawn, in their order, at their places.

    Only removed files leave no trace: what is skipped was one of them.
    """
    tokens = list(shown)
    numbers = [tokens.index(key.partition("#")[0]) for key in stack.frame_keys]
    assert len(numbers) == stack.num_frames
    assert numbers == sorted(numbers)
    assert set(range(numbers[0], numbers[-1])) - set(numbers) <= removed
    np.testing.assert_allclose(np.diff(stack.positions), np.diff(numbers) * SPACING_MM[0])
    assert np.ptp(np.diff(numbers)) == 0
    np.testing.assert_array_equal(voxels[0], np.stack([shown[tokens[one]] for one in numbers]))


@pytest.mark.slow
@pytest.mark.timeout(20 * BUDGET_S)
def test_damaged_packed_files_show_what_was_drawn_or_are_refused() -> None:
    assert fuzz(EDITS, check_packed) >= ROUND


@pytest.mark.parametrize("kind", KINDS)
def test_packed_files_that_are_whole_show_what_was_drawn(tmp_path: Path, kind: str) -> None:
    shown = write_packed(tmp_path, kind)
    opened = open_or_refuse(tmp_path)
    assert not isinstance(opened, MedvidError)
    compare_with_drawn(shown, *opened)
    stack, voxels = opened
    assert stack.num_frames == SLICES
    with pytest.raises(AssertionError):
        compare_with_drawn(shown, stack, voxels + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["short_by", "blank"])
def test_no_loss_at_the_end_of_a_packed_file_goes_unnoticed(
    tmp_path: Path, kind: str, loss: str
) -> None:
    check = partial(check_packed, tmp_path)
    for lost in (1, 2, 7, 8, 9, 10, 12, 16, 24, 40):
        check((kind, [], [(2, (loss, lost))]))
