"""Packs slices by methods that pydicom has no encoder for, so that tests draw what they read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

END = b"\xff\xd9"


def pack_jpeg(pixels: NDArray[np.uint16]) -> bytes:
    """Packs a slice as lossless JPEG (process 14, each pixel from its left neighbour).

    Args:
        pixels: (rows, columns).
    """
    rows, columns = pixels.shape
    values = pixels.astype(np.int64)
    before = np.empty_like(values)
    before[:, 1:] = values[:, :-1]
    before[1:, 0] = values[:-1, 0]
    before[0, 0] = 1 << 15
    bits = "".join(_code(int(difference)) for difference in (values - before).ravel())
    bits += "1" * (-len(bits) % 8)
    stream = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    size = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    frame = b"\xff\xc3\0\x0b\x10" + size + b"\x01\x01\x11\0"
    # 17 numbers of bits, each with a code of five.
    table = b"\xff\xc4\0\x24\0" + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    scan = b"\xff\xda\0\x08\x01\x01\0\x01\0\0"
    return b"\xff\xd8" + frame + table + scan + stream + END


def _code(difference: int) -> str:
    """Returns how many bits a difference has, and these bits, of a negative one turned over."""
    count = abs(difference).bit_length()
    if count == 0:
        return "00000"
    value = difference if difference > 0 else difference + (1 << count) - 1
    return f"{count:05b}{value:0{count}b}"


def recode(image: pydicom.Dataset, syntax: UID) -> None:
    """Packs the pixels of an uncompressed slice; the rest of the header stays."""
    if syntax == RLELossless:
        image.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        return
    if syntax == JPEGLosslessSV1:
        image.PixelData = encapsulate([pack_jpeg(image.pixel_array)])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = syntax


PACKED: dict[str, UID] = {
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg": JPEGLosslessSV1,
}
"""What `recode` packs."""


def change_all(folder: Path, change: Callable[[pydicom.Dataset], None]) -> list[Path]:
    """Changes the data set of every file of a folder; returns the files, sorted."""
    files = sorted(folder.iterdir())
    for file in files:
        image = pydicom.dcmread(file)
        change(image)
        image.save_as(file)
    return files
