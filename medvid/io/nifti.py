"""NIfTI-1 and -2, plain and gzipped, in any axis order and sign.

nibabel reads the header; the voxels are taken from the file directly: mapped where it is plain,
inflated in one go by ISA-L where it is gzipped.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from isal import isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medvid.contract import DataError, GeometryError, Stack
from medvid.io.geometry import RAS_TO_LPS, Orientation, PlaneOrAuto, orient

GZIP_WINDOW = 31
"""zlib's window bits for a gzip header and trailer."""

INFLATE_ERROR: type[Exception] = cast("type[Exception]", isal_zlib.error)
"""Named here with its type: isal's stubs declare an object of it."""

INT16 = np.iinfo(np.int16)


def open_nifti(path: Path, *, plane: PlaneOrAuto = "auto", modality: str | None = None) -> Stack:
    """Opens a NIfTI volume; decodes nothing yet.

    Integer voxels keep their type, also after a whole-numbered rescale that fits int16; all others
    become float32.

    Args:
        path: .nii or .nii.gz.
        plane: which patient axis T is; `auto` takes the coarse axis, and axial where none is.
        modality: NIfTI does not tell.

    Raises:
        DataError: when the file is no NIfTI, cut short, 4-D, or holds colours or complex numbers.
        GeometryError: when its affine is singular.
    """
    header = _read_header(path)
    shape = _check_shape(path, header)
    _check_voxels(path, header)
    stored = np.dtype(header.get_data_dtype())
    slope, intercept = _read_rescale(path, header)
    dtype = _choose_dtype(stored, slope, intercept)
    try:
        orientation = orient(RAS_TO_LPS @ header.get_best_affine(), shape, plane=plane)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code, files=[path]) from None
    # The decoded volume stays as long as the stack does: a gzipped file has no random access.
    load = lru_cache(maxsize=1)(lambda: _load(path, header, shape, stored))
    return make_volume_stack(
        orientation,
        lambda: _rescale(load(), slope, intercept, dtype),
        dtype=dtype,
        modality=modality or "unknown",
        notes=_describe_codes(header),
    )


def make_volume_stack(
    orientation: Orientation,
    load: Callable[[], NDArray[Any]],
    *,
    dtype: np.dtype[Any],
    modality: str,
    notes: Sequence[str] = (),
) -> Stack:
    """Makes the stack of a volume file whose voxels come as one array in the file's axes."""

    def read_frames(frames: Sequence[int]) -> NDArray[Any]:
        volume = orientation.apply(load())
        return np.ascontiguousarray(volume[list(frames)])[None].astype(dtype, copy=False)

    step, height, width = orientation.shape
    return Stack(
        num_frames=step,
        height=height,
        width=width,
        channels=1,
        dtype=dtype,
        spacing=orientation.spacing,
        positions=orientation.positions,
        unit="mm",
        modality=modality,
        read_frames=read_frames,
        affine=orientation.affine,
        notes=(*notes, *orientation.describe()),
    )


def _read_header(path: Path) -> Any:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", code="zero_bytes", files=[path])
    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError):
        raise DataError(
            f"{path} is no NIfTI file, whatever its name says.", code="no_nifti", files=[path]
        ) from None
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise _truncated(path, str(error)) from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise DataError(
            f"{path} is a {type(image).__name__}, not a single NIfTI file. Convert it to .nii.gz.",
            code="no_nifti",
            files=[path],
        )
    # nibabel sets the header's offset to 0 once it has made an image of it.
    image.header.set_data_offset(image.dataobj.offset)
    return image.header


def _check_shape(path: Path, header: Any) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(
            f"{path} has the shape {' x '.join(map(str, shape))}; medvid reads 3-D volumes. Split "
            "a series of volumes into one file each.",
            code="not_3d",
            files=[path],
        )
    return shape


def _check_voxels(path: Path, header: Any) -> None:
    dtype = header.get_data_dtype()
    if dtype.fields is not None or dtype.kind not in "iuf":
        kind = "complex numbers" if dtype.kind == "c" else "colours"
        raise DataError(
            f"{path} holds {kind}, and medvid reads one grey value a voxel. Convert it first.",
            code="not_grey",
            files=[path],
        )


def _read_rescale(path: Path, header: Any) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise DataError(
            f"{path} has a rescale that is no number: {error}.", code="bad_rescale", files=[path]
        ) from None
    return 1.0 if slope is None else float(slope), float(intercept or 0.0)


def _choose_dtype(stored: np.dtype[Any], slope: float, intercept: float) -> np.dtype[Any]:
    """Returns the type that holds the rescaled voxels exactly, else float32."""
    native = stored.newbyteorder("=")
    if stored.kind == "f":
        return np.dtype(np.float32)
    if slope == 1.0 and intercept == 0.0:
        return native
    limits = np.iinfo(native)
    ends = [limits.min * slope + intercept, limits.max * slope + intercept]
    whole = slope.is_integer() and intercept.is_integer()
    if whole and INT16.min <= min(ends) and max(ends) <= INT16.max:
        return np.dtype(np.int16)
    return np.dtype(np.float32)


def _rescale(
    voxels: NDArray[Any], slope: float, intercept: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    if slope == 1.0 and intercept == 0.0:
        return voxels
    if dtype == np.dtype(np.int16):
        return (voxels.astype(np.int32) * int(slope) + int(intercept)).astype(np.int16)
    return (voxels.astype(np.float64) * slope + intercept).astype(np.float32)


def _load(
    path: Path, header: Any, shape: tuple[int, int, int], stored: np.dtype[Any]
) -> NDArray[Any]:
    offset = int(header.get_data_offset())
    needed = offset + int(np.prod(shape)) * stored.itemsize
    zipped = path.suffix.lower() == ".gz"
    content: Any = inflate(path, needed) if zipped else np.memmap(path, dtype=np.uint8, mode="r")
    if len(content) < needed:
        raise _truncated(path, f"{len(content)} bytes of {needed}")
    flat = np.frombuffer(content, dtype=stored, count=int(np.prod(shape)), offset=offset)
    return flat.reshape(shape, order="F")


def inflate(path: Path, needed: int) -> bytes:
    """Returns the first `needed` bytes of what a gzip file holds.

    Raises:
        DataError: when the file is cut short or damaged.
    """
    packed = path.read_bytes()
    parts = []
    length = 0
    while packed and length < needed:
        member = isal_zlib.decompressobj(wbits=GZIP_WINDOW)
        try:
            # One byte more than needed, so that the checksum at the end is reached and verified.
            part = member.decompress(packed, needed - length + 1)
        except INFLATE_ERROR as error:
            raise _truncated(path, str(error)) from None
        parts.append(part)
        length += len(part)
        if length < needed and not member.eof:
            raise _truncated(path, f"{length} bytes of {needed}")
        packed = member.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _truncated(path: Path, detail: str) -> DataError:
    return DataError(
        f"{path} is cut short or damaged ({detail}). Copy it again from its source.",
        code="truncated",
        files=[path],
    )


def _describe_codes(header: Any) -> list[str]:
    if int(header["sform_code"]) or int(header["qform_code"]):
        return []
    return [
        "The header has neither sform nor qform: left and right are not known for certain; the "
        "axes are taken as right, front, head."
    ]
