"""Damaged files never bring the reader down, never hang it, and are never read wrong.

Small made-up files are mutated by hypothesis: header fields, bytes, whole files. What is then
accepted is held against a slow reader that shares no code with medvid: pydicom's own pixels and
positions, nibabel's array and affine, a decoder that runs from the first frame to the last.
"""

import gzip
import signal
import struct
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from medvid.contract import MedvidError, Stack
from medvid.io import open_stack
from medvid.io.geometry import RAS_TO_LPS
from medvid.io.identity import instance_token
from medvid.io.scan import scan_tree
from medvid.io.write import write_dicom_series, write_nifti
from medvid.io.write_video import write_video

BUDGET_S = 150
"""CPU seconds of each of the four tests, of which one is in `test_fuzz_packed.py`: ten minutes."""

FILE_LIMIT_S = 20
"""CPU seconds for one damaged file or series of 9 kB; a whole one takes some milliseconds."""

ROUND = 40
"""Examples between two looks at the clock."""

POSITION_MM = 0.02
"""The oracle's tolerance; positions in the files have six decimals."""

VERDICTS = {"ok", "fixable", "refused", "ignored"}

Edit = tuple[str, Any]


class Hang(BaseException):
    """A reader does not come back. No `Exception`: readers turn those into refusals."""


def fuzz(edits: st.SearchStrategy[Any], check: Callable[[Path, Any], None]) -> int:
    """Runs a check on drawn edits until the CPU budget is spent; returns the number of examples."""
    began = time.process_time()
    rounds = 0
    while time.process_time() - began < BUDGET_S:

        @settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @seed(rounds)
        @given(edits)
        def run(drawn: Any) -> None:
            with (
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
                limit_cpu(),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")  # the oracles warn of what the edits did
                check(Path(folder), drawn)

        run()
        rounds += 1
    return rounds * ROUND


@contextmanager
def limit_cpu() -> Iterator[None]:
    """Ends a check that takes longer than `FILE_LIMIT_S` of CPU, where the system can."""
    if not hasattr(signal, "SIGPROF"):  # Windows; pytest's own timeout then ends a hang
        yield
        return

    def stop(*_: Any) -> None:
        raise Hang(f"reading took more than {FILE_LIMIT_S} CPU seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, FILE_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def scan_all(folder: Path) -> list[Any]:
    """Scans with pixels; whatever it finds has a verdict, and a reason unless it is ok."""
    rows = scan_tree(folder, pixels=True)
    assert rows
    for row in rows:
        assert row.verdict in VERDICTS
        assert row.verdict == "ok" or (row.code and row.reason.rstrip().endswith((".", "`", ")")))
        assert "Traceback" not in row.reason
        assert "stopped its reader" not in row.reason, row.reason  # a bug that scan has caught
    return rows


def open_or_refuse(
    path: Path, series: str | None = None
) -> tuple[Stack, NDArray[Any]] | MedvidError:
    """Opens and reads whole, or returns the refusal. Any other error is a bug."""
    try:
        stack = open_stack(path, series=series)
        return stack, stack.read()
    except MedvidError as error:
        refusal = error
    assert refusal.code
    assert refusal.message
    return refusal


# DICOM

SLICES, SIDE = 6, 8
SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.5",
    "1.2.3",
)
NUMBERS = st.one_of(
    st.sampled_from(["0", "-1", "1", "2.5", "-0.0", "1e-5", "1e9", "nan", "inf", "", "abc", "1,5"]),
    st.floats(-200, 200).map(lambda value: f"{value:.4g}"),
)
SHORTS = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 9, 12, 15, 16, 32, 64, 1000, 32767, 65535])
TEXTS: dict[str, st.SearchStrategy[str]] = {
    "ImagePositionPatient": st.lists(NUMBERS, min_size=0, max_size=4).map("\\".join),
    "ImageOrientationPatient": st.one_of(
        st.sampled_from(
            ["1\\0\\0\\0\\1\\0", "-1\\0\\0\\0\\1\\0", "0\\1\\0\\1\\0\\0", "0\\0\\0\\0\\0\\0"]
        ),
        st.lists(NUMBERS, min_size=5, max_size=7).map("\\".join),
    ),
    "PixelSpacing": st.lists(NUMBERS, min_size=0, max_size=3).map("\\".join),
    "RescaleSlope": NUMBERS,
    "RescaleIntercept": NUMBERS,
    "SliceThickness": NUMBERS,
    "InstanceNumber": NUMBERS,
    "NumberOfFrames": st.sampled_from(["0", "1", "2", "-1", "x", "999999999"]),
    "SOPInstanceUID": st.sampled_from(["1.2.3", "", "1.2.4"]),
    "SeriesInstanceUID": st.sampled_from(["1.2.3", "", "1.2.4"]),
    "SOPClassUID": st.sampled_from(
        [
            "1.2.840.10008.5.1.4.1.1.4",
            "1.2.840.10008.5.1.4.1.1.2.1",
            "1.2.840.10008.5.1.4.1.1.7",
            "1.2.840.10008.5.1.4.1.1.66.4",
            "",
        ]
    ),
    "Modality": st.sampled_from(["MR", "CT", "PT", ""]),
    "PhotometricInterpretation": st.sampled_from(["MONOCHROME1", "RGB", "PALETTE COLOR", "x", ""]),
    "ImageType": st.sampled_from(["ORIGINAL\\PRIMARY\\LOCALIZER", "MOSAIC", "", "DERIVED"]),
}
BINARY: dict[str, st.SearchStrategy[int]] = dict.fromkeys(
    (
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "SamplesPerPixel",
        "PixelPaddingValue",
    ),
    SHORTS,
)
UNITS = ("CT", "PT")
"""Modalities whose values have a unit, however they are shown."""

WHICH = st.one_of(st.integers(0, SLICES - 1), st.just(-1))
"""One file, or -1 for all of them alike."""

BYTE_EDITS = st.one_of(
    st.tuples(st.just("flip"), st.tuples(st.integers(0, 1 << 20), st.integers(1, 255))),
    st.tuples(st.just("cut"), st.integers(0, 1 << 20)),
    st.tuples(st.just("zero"), st.tuples(st.integers(0, 1 << 20), st.integers(1, 64))),
    st.tuples(st.just("insert"), st.tuples(st.integers(0, 1 << 20), st.binary(max_size=8))),
)
HEADER_EDITS = st.one_of(
    *(
        st.tuples(st.just("text"), st.tuples(st.just(keyword), values))
        for keyword, values in TEXTS.items()
    ),
    *(
        st.tuples(st.just("short"), st.tuples(st.just(keyword), values))
        for keyword, values in BINARY.items()
    ),
    st.tuples(st.just("drop"), st.sampled_from([*TEXTS, *BINARY, "PixelData"])),
    st.tuples(st.just("syntax"), st.sampled_from(SYNTAXES)),
    st.tuples(st.just("remove"), st.none()),
    st.tuples(st.just("copy"), st.none()),
)
DICOM_EDITS = st.lists(
    st.tuples(WHICH, st.one_of(HEADER_EDITS, HEADER_EDITS, BYTE_EDITS)), min_size=1, max_size=3
)


def draw_volume() -> NDArray[np.int16]:
    """Every voxel has a value of its own, so that no wrong order or flip can pass."""
    return np.arange(SLICES * SIDE * SIDE, dtype=np.int16).reshape(SLICES, SIDE, SIDE) - 100


def change_bytes(content: bytes, edit: Edit) -> bytes:
    kind, how = edit
    if not content:
        return content
    if kind == "cut":
        return content[: how % len(content)]
    place = how[0] % len(content)
    if kind == "flip":
        return content[:place] + bytes([content[place] ^ how[1]]) + content[place + 1 :]
    if kind == "zero":
        return (
            content[:place] + bytes(min(how[1], len(content) - place)) + content[place + how[1] :]
        )
    return content[:place] + how[1] + content[place:]


def change_file(file: Path, edit: Edit) -> None:
    kind, how = edit
    if kind in ("flip", "cut", "zero", "insert"):
        file.write_bytes(change_bytes(file.read_bytes(), edit))
    elif kind == "remove":
        file.unlink()
    elif kind == "copy":
        (file.parent / f"copy_{file.name}").write_bytes(file.read_bytes())
    else:
        with suppress(Exception):  # an earlier edit has left nothing that could be edited
            change_header(file, kind, how)


def change_header(file: Path, kind: str, how: Any) -> None:
    image = pydicom.dcmread(file, force=True)
    if kind == "syntax":
        own = str(image.file_meta.TransferSyntaxUID).encode()
        new = how.encode().ljust(len(own), b"\0")[: len(own)]
        file.write_bytes(file.read_bytes().replace(own, new, 1))
        return
    keyword, value = how if isinstance(how, tuple) else (how, None)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    vr = pydicom.datadict.dictionary_VR(tag).split(" ")[0]
    if keyword in image:
        del image[tag]
    if kind != "drop":
        raw = struct.pack("<H", value) if kind == "short" else value.encode()
        raw += b" " * (len(raw) % 2)
        image[tag] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(tag), vr, len(raw), raw, 0, False, True
        )
    image.save_as(file)


def check_dicom(folder: Path, edits: Sequence[tuple[int, Edit]]) -> None:
    write_dicom_series(
        folder / "s", draw_volume(), spacing=(5.0, 1.0, 2.0), origin=(-7.0, 3.0, 40.0)
    )
    files = sorted((folder / "s").iterdir())
    for which, edit in edits:
        for file in files if which < 0 else files[which : which + 1]:
            if file.exists():
                change_file(file, edit)
    if not any((folder / "s").iterdir()):
        return
    for row in scan_all(folder):
        if row.verdict == "ok":
            opened = open_or_refuse(Path(row.path), row.series or None)
            if not isinstance(opened, MedvidError):
                compare_with_pydicom(folder, *opened)
    opened = open_or_refuse(folder / "s")
    if not isinstance(opened, MedvidError):
        compare_with_pydicom(folder, *opened)


def compare_with_pydicom(folder: Path, stack: Stack, voxels: NDArray[Any]) -> None:
    """Asserts that every slice shows what its file shows, at the place that its file states."""
    assert voxels.shape == (1, stack.num_frames, stack.height, stack.width)
    assert stack.affine is not None
    steps = np.diff(stack.positions)
    assert (steps > 0).all()
    assert np.abs(steps - stack.spacing[0]).max() <= max(0.25 * stack.spacing[0], POSITION_MM)
    known: dict[str, list[pydicom.Dataset]] = {}
    for file in folder.rglob("*.dcm"):
        with suppress(Exception):
            image = pydicom.dcmread(file, force=True)
            restore_types(image)
            uid = str(image.get("SOPInstanceUID", "")).strip(" \0")
            known.setdefault(instance_token(uid), []).append(image)
    for frame, key in enumerate(stack.frame_keys):
        candidates = known.get(key.partition("#")[0], [])
        assert candidates, "a slice of no file"
        shown = []
        for candidate in candidates:
            with suppress(Exception):  # pydicom cannot read it: then this is not the one
                shown.append(shows_the_same(candidate, stack, voxels, frame))
        assert any(shown), f"slice {frame} is shown by none of its files"


def restore_types(image: pydicom.Dataset) -> None:
    """Gives elements whose stated type is damaged the one that their tag has."""
    for tag in (*TEXTS, *BINARY):
        number = pydicom.datadict.tag_for_keyword(tag)
        assert number is not None
        own = pydicom.datadict.dictionary_VR(number).split(" ")[0]
        raw: Any = image.get_item(number) if number in image else None
        if isinstance(raw, pydicom.dataelem.RawDataElement) and raw.VR not in (own, "SS", None):
            image[number] = raw._replace(VR=own)


def shows_the_same(image: pydicom.Dataset, stack: Stack, voxels: NDArray[Any], frame: int) -> bool:
    """Compares a slice with its file by pydicom, voxel by voxel at their places in the patient."""
    assert stack.affine is not None
    orientation = numbers_of(image, "ImageOrientationPatient")
    row, column = orientation[:3], orientation[3:]
    height, width = numbers_of(image, "PixelSpacing")
    corner = numbers_of(image, "ImagePositionPatient")
    shown = pixels_of(image)
    t, h, w = np.meshgrid([frame], np.arange(stack.height), np.arange(stack.width), indexing="ij")
    places = stack.affine @ np.stack([t.ravel(), h.ravel(), w.ravel(), np.ones(t.size)])
    away = places[:3].T - corner
    # Rows and columns may be given with two decimals: their own lengths count, as in the file.
    along = away @ (row / (row @ row)) / width
    down = away @ (column / (column @ column)) / height
    normal = np.cross(row, column)
    # Through the slices an even grid may differ by what rounding of positions allows.
    aside = np.abs(away @ normal).max()
    at = np.rint(np.stack([down, along])).astype(int)
    if at.min() < 0 or at[0].max() >= shown.shape[0] or at[1].max() >= shown.shape[1]:
        return False
    expected = shown[at[0], at[1]].reshape(stack.height, stack.width)
    return bool(
        aside <= max(POSITION_MM, 0.26 * stack.spacing[0])
        and np.allclose(voxels[0, frame], expected, rtol=1e-5, atol=1e-3)
    )


def numbers_of(image: pydicom.Dataset, keyword: str) -> NDArray[np.float64]:
    """Returns the numbers of a tag from its bytes; a decimal comma is a decimal point."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    value: Any = image.get_item(tag).value
    if isinstance(value, bytes):
        value = value.decode("latin-1").replace(",", ".").strip(" \0").split("\\")
    texts = [value] if isinstance(value, float | int | str) else list(value or [])
    return np.array([float(text) for text in texts if text != ""])


def modality_of(image: pydicom.Dataset) -> str:
    """Returns the modality of a file, by its SOP class where it does not say it."""
    classes = {"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR"}
    stored = image.get("SOPClassUID") or image.file_meta.get("MediaStorageSOPClassUID")
    return str(image.get("Modality") or classes.get(str(stored), "")).upper()


def pixels_of(image: pydicom.Dataset) -> NDArray[np.float64]:
    """Returns a file's values as pydicom decodes them: rescaled, upright, padding as air."""
    slope, intercept = (
        next(iter(numbers_of(image, keyword) if image.get_item(keyword) else []), usual)
        for keyword, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    for keyword, usual in (("PhotometricInterpretation", "MONOCHROME2"), ("SamplesPerPixel", 1)):
        if not image.get(keyword):
            setattr(image, keyword, usual)
    if "TransferSyntaxUID" not in image.file_meta:  # damaged: the data set itself tells
        implicit, little = image.original_encoding
        assert little
        image.file_meta.TransferSyntaxUID = pydicom.uid.UID(SYNTAXES[0 if implicit else 1])
    if "NumberOfFrames" in image:  # a slice is one frame, whatever a damaged tag says
        del image.NumberOfFrames
    stored = image.pixel_array.astype(np.float64)
    padded = np.zeros(stored.shape, dtype=bool)
    modality = modality_of(image)
    if "PixelPaddingValue" in image and modality == "CT":
        raw = image.PixelPaddingValue
        value = raw if isinstance(raw, int) else int.from_bytes(raw[:2], "little")
        if image.PixelRepresentation == 1 and value > 32767:
            value -= 65536
        hu = value * slope + intercept
        sign = image.PixelRepresentation == 1
        lowest = -(1 << image.BitsStored - 1) if sign else 0
        beyond = not lowest <= value < lowest + (1 << image.BitsStored)
        seen = pixel_array(image, correct_unused_bits=False) if beyond else stored
        padded = (seen == value) & (hu < -1000 or hu > 3071)
    if image.PhotometricInterpretation == "MONOCHROME1" and modality not in UNITS:
        bits = image.BitsStored
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1)
        stored = (low + high if image.PixelRepresentation == 1 else (1 << bits) - 1) - stored
    values = stored * slope + intercept
    values[padded] = -1024
    return values


# NIfTI

FIELDS: dict[str, tuple[int, str]] = {
    "sizeof_hdr": (0, "<i"),
    **{f"dim{n}": (40 + 2 * n, "<h") for n in range(8)},
    "datatype": (70, "<h"),
    "bitpix": (72, "<h"),
    **{f"pixdim{n}": (76 + 4 * n, "<f") for n in range(8)},
    "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"),
    "scl_inter": (116, "<f"),
    "qform_code": (252, "<h"),
    "sform_code": (254, "<h"),
    **{f"quatern{n}": (256 + 4 * n, "<f") for n in range(6)},
    **{f"srow{n}": (280 + 4 * n, "<f") for n in range(12)},
}
MM = {1: 1000.0, 3: 0.001}
"""What a header's codes for metres and micrometres are in mm; every other one is taken as mm."""

INTEGERS = st.sampled_from([-32768, -1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 256, 512, 768, 32767])
REALS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, float("nan"), float("inf"), 1e30, 1e-30]),
    st.floats(-50, 50, width=32),
)
NIFTI_EDITS = st.tuples(
    st.sampled_from([".nii", ".nii.gz"]),
    st.lists(
        st.one_of(
            *(
                st.tuples(st.just(name), REALS if kind == "<f" else INTEGERS)
                for name, (_, kind) in FIELDS.items()
            ),
            BYTE_EDITS,
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)


def check_nifti(folder: Path, drawn: tuple[str, Sequence[Edit], bool]) -> None:
    ending, edits, packed = drawn
    plain = folder / "plain.nii"
    write_nifti(plain, draw_volume(), spacing=(5.0, 1.0, 2.0), orientation="LPS")
    content = plain.read_bytes()
    plain.unlink()
    if packed and ending == ".nii.gz":  # the damage is in the compressed bytes
        content = gzip.compress(content, mtime=0)
    for edit in edits:
        if edit[0] in FIELDS and not (packed and ending == ".nii.gz"):
            offset, kind = FIELDS[edit[0]]
            if len(content) >= offset + 4:
                value = struct.pack(kind, edit[1])
                content = content[:offset] + value + content[offset + len(value) :]
        elif edit[0] not in FIELDS:
            content = change_bytes(content, edit)
    if ending == ".nii.gz" and not packed:
        content = gzip.compress(content, mtime=0)
    path = folder / f"scan{ending}"
    path.write_bytes(content)
    (row,) = scan_all(folder)
    opened = open_or_refuse(path)
    if isinstance(opened, MedvidError):
        assert row.verdict != "ok", opened.message
    else:
        compare_with_nibabel(path, *opened)


def compare_with_nibabel(path: Path, stack: Stack, voxels: NDArray[Any]) -> None:
    """Asserts that every voxel has nibabel's value at nibabel's place."""
    assert stack.affine is not None
    assert np.isfinite(stack.affine).all()
    image: Any = nibabel.load(path)
    array = np.asanyarray(image.dataobj).reshape(image.shape[:3])
    t, h, w = np.meshgrid(*(np.arange(n) for n in voxels.shape[1:]), indexing="ij")
    places = stack.affine @ np.stack([t.ravel(), h.ravel(), w.ravel(), np.ones(t.size)])
    affine = image.affine.copy()
    affine[:3] *= MM.get(int(image.header["xyzt_units"]) & 7, 1.0)  # nibabel leaves them alone
    index = np.linalg.solve(RAS_TO_LPS @ affine, places)[:3]
    at = np.rint(index).astype(int)
    assert np.abs(index - at).max() < 0.01
    assert at.min() >= 0
    np.testing.assert_allclose(
        voxels.ravel(), array[at[0], at[1], at[2]].astype(voxels.dtype), rtol=1e-5, atol=1e-5
    )


# Video

FRAMES = 12
VIDEO_EDITS = st.tuples(
    st.sampled_from([".avi", ".mkv", ".mp4"]), st.lists(BYTE_EDITS, min_size=1, max_size=4)
)
VIDEOS: dict[str, bytes] = {}


def make_video(folder: Path, ending: str) -> bytes:
    """Twelve frames, each of a grey of its own; written once."""
    if ending not in VIDEOS:
        frames = np.full((FRAMES, 32, 32, 3), 20, np.uint8)
        frames += 15 * np.arange(FRAMES, dtype=np.uint8)[:, None, None, None]
        path = folder / f"whole{ending}"
        write_video(path, frames)
        VIDEOS[ending] = path.read_bytes()
        path.unlink()
    return VIDEOS[ending]


def check_video(folder: Path, drawn: tuple[str, Sequence[Edit]]) -> None:
    ending, edits = drawn
    content = make_video(folder, ending)
    for edit in edits:
        content = change_bytes(content, edit)
    path = folder / f"clip{ending}"
    path.write_bytes(content)
    (row,) = scan_all(folder)
    opened = open_or_refuse(path)
    if isinstance(opened, MedvidError):
        assert row.verdict != "ok", opened.message
        return
    stack, frames = opened
    assert frames.shape == (3, stack.num_frames, stack.height, stack.width)
    assert (np.diff(stack.positions) > 0).all()
    whole = decode_in_order(path)
    assert len(whole) == stack.num_frames
    np.testing.assert_array_equal(np.stack(whole, axis=1), frames)
    for frame in (stack.num_frames - 1, 0, stack.num_frames // 2):
        np.testing.assert_array_equal(stack.read([frame])[:, 0], whole[frame])


def decode_in_order(path: Path) -> list[NDArray[np.uint8]]:
    """Decodes from the first frame to the last, without a seek and in one thread.

    Packets that hold no frame, as other parts of a damaged container look like, are passed over.
    """
    frames = []
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            with suppress(av.error.FFmpegError):
                frames += packet.decode()
    shown = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]
    turns = [round(frame.rotation / 90) % 4 for frame in frames]
    return [
        np.moveaxis(np.rot90(picture, turn), 2, 0)
        for picture, turn in zip(shown, turns, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.timeout(20 * BUDGET_S)  # CPU time is not wall time where others work too
@pytest.mark.parametrize(
    ("edits", "check"),
    [
        pytest.param(DICOM_EDITS, check_dicom, id="dicom"),
        pytest.param(NIFTI_EDITS, check_nifti, id="nifti"),
        pytest.param(VIDEO_EDITS, check_video, id="video"),
    ],
)
def test_damaged_files_are_read_right_or_refused(
    edits: st.SearchStrategy[Any], check: Callable[[Path, Any], None]
) -> None:
    assert fuzz(edits, check) >= ROUND


@pytest.mark.parametrize(
    ("check", "unchanged"),
    [
        (check_dicom, []),
        (check_nifti, (".nii.gz", [], False)),
        (check_nifti, (".nii", [("srow8", 1.0), ("srow10", 1e-30)], False)),
        *((check_video, (ending, [])) for ending in (".avi", ".mkv", ".mp4")),
    ],
)
def test_the_oracles_agree_with_whole_files(
    tmp_path: Path, check: Callable[[Path, Any], None], unchanged: Any
) -> None:
    check(tmp_path, unchanged)


def test_the_oracle_tells_a_wrong_slice(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "s", draw_volume(), spacing=(5.0, 1.0, 2.0))
    opened = open_or_refuse(tmp_path / "s")
    assert not isinstance(opened, MedvidError)
    stack, voxels = opened
    compare_with_pydicom(tmp_path, stack, voxels)
    with pytest.raises(AssertionError):
        compare_with_pydicom(tmp_path, stack, voxels[:, ::-1])
