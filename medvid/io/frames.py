"""Reads a folder of numbered pictures as a Stack."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from medvid.contract import DataError, Stack
from medvid.io.ordering import natural_key

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

# Left in folders by Windows and macOS; they say nothing about the frames.
_LITTER = ("thumbs.db", "desktop.ini")

# Pillow's names of pixel layouts that hold one channel as it is.
_GREY_MODES = {"1": np.uint8, "L": np.uint8, "I;16": np.uint16, "I;16B": np.uint16}

_SPACING_SECONDS = 1.0  # pictures carry no rate; one second a frame is a placeholder


def is_frame_folder(path: str | Path) -> bool:
    """Returns whether a path is a folder that holds pictures and nothing else."""
    path = Path(path)
    if not path.is_dir():
        return False
    files = _list_files(path)
    return bool(files) and all(
        file.is_file() and file.suffix.lower() in FRAME_SUFFIXES for file in files
    )


def open_frames(path: str | Path) -> Stack:
    """Opens a folder of pictures as a Stack; grey ones give one channel, colour ones three.

    Pictures are sorted as a reader would: `img9` before `img10`. They carry no frame rate, so
    positions count frames, one a second. 16-bit grey pictures stay 16 bits.

    Raises:
        DataError: for a folder that holds anything else, a picture that does not open, and
            pictures that differ in size or colour; names the file.
    """
    path = Path(path)
    if not is_frame_folder(path):
        raise DataError(
            f"{path}: a folder of frames holds only pictures ({', '.join(FRAME_SUFFIXES)}).",
            code="not_frames",
            files=[path],
        )
    files = sorted(_list_files(path), key=lambda file: (natural_key(file.name), file.name))
    first = _read_header(files[0])
    for file in files[1:]:
        header = _read_header(file)
        if header != first:
            raise DataError(
                f"{file}: this picture is {header}, the first one ({files[0].name}) is {first}. "
                "All frames of a folder must be alike.",
                code="frames_differ",
                files=[file],
            )
    count = len(files)
    return Stack(
        num_frames=count,
        height=first.height,
        width=first.width,
        channels=first.channels,
        dtype=first.dtype,
        spacing=(_SPACING_SECONDS, 1.0, 1.0),
        positions=np.arange(count, dtype=np.float64) * _SPACING_SECONDS,
        unit="s",
        modality="video",
        read_frames=_FolderReader(tuple(files), first),
        notes=("Pictures carry no frame rate; positions count frames, one a second.",),
    )


@dataclass(frozen=True)
class _Header:
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        kind = "grey" if self.channels == 1 else "colour"
        return f"{self.height}x{self.width} {kind} {self.dtype}"


@dataclass(frozen=True)
class _FolderReader:
    """Reads the asked pictures; picklable, so that worker processes can hold it."""

    files: tuple[Path, ...]
    header: _Header

    def __call__(self, frames: Sequence[int]) -> NDArray[Any]:
        """Shape: (C, len(frames), H, W)."""
        size = (self.header.channels, len(frames), self.header.height, self.header.width)
        clip = np.empty(size, self.header.dtype)
        places: dict[int, list[int]] = {}
        for place, frame in enumerate(frames):
            places.setdefault(frame, []).append(place)
        for frame, wanted in places.items():
            picture = _read_picture(self.files[frame], self.header)
            for place in wanted:
                clip[:, place] = picture
        return clip


def _list_files(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.iterdir()
        if not file.name.startswith(".") and file.name.lower() not in _LITTER
    ]


def _read_header(file: Path) -> _Header:
    try:
        with Image.open(file) as image:
            grey = _GREY_MODES.get(image.mode)
            return _Header(image.height, image.width, 1 if grey else 3, np.dtype(grey or np.uint8))
    except (OSError, UnidentifiedImageError):
        raise _unreadable(file) from None


def _read_picture(file: Path, header: _Header) -> NDArray[Any]:
    """Shape: (C, H, W)."""
    try:
        with Image.open(file) as image:
            if header.channels == 3:
                pixels = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
            else:
                grey = image.convert("L") if image.mode == "1" else image
                pixels = np.asarray(grey)[None]
    except (OSError, SyntaxError, ValueError):  # Pillow's PNG reader raises SyntaxError
        raise _unreadable(file) from None
    if pixels.shape[1:] != (header.height, header.width):
        raise _unreadable(file)
    return pixels


def _unreadable(file: Path) -> DataError:
    return DataError(
        f"{file}: this picture does not open; it is damaged, cut off or no picture. Copy it again "
        "or leave the whole folder out.",
        code="frame_unreadable",
        files=[file],
    )
