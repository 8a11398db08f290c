"""NIfTI-1 and -2, plain and gzipped, in any axis order and sign.

nibabel reads the header; the voxels are taken from the file directly: mapped where it is plain,
inflated in one go by ISA-L where it is gzipped.
"""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from isal import isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medvid.contract import DataError, GeometryError, Stack
from medvid.io.geometry import Orientation, PlaneOrAuto, orient
from medvid.io.held import HeldVolume
from medvid.io.nifti_affine import read_affine
from medvid.io.slice_truth import file_key

GZIP_WINDOW = 31
"""zlib's window bits for a gzip header and trailer."""

DEFLATE_RATIO = 1032
"""Deflate's best: 258 bytes for 2 bits."""

INFLATE_ERROR: type[Exception] = cast("type[Exception]", isal_zlib.error)
"""Named here with its type: isal's stubs declare an object of it."""

INT16 = np.iinfo(np.int16)


def open_nifti(path: Path, *, plane: PlaneOrAuto = "auto", modality: str | None = None) -> Stack:
    """Opens a NIfTI volume; decodes nothing yet, with one exception.

    Integer voxels keep their type, also after a whole-numbered rescale whose results fit int16;
    all others become float32. CT is taken to fit, as in DICOM; of another volume whose stored type
    could exceed int16 after the rescale, the voxels are looked at now.

    Args:
        path: .nii or .nii.gz.
        plane: which patient axis T is; `auto` takes the coarse axis, and axial where none is.
        modality: NIfTI does not tell. `CT` is int16 HU wherever its rescale is whole-numbered.

    Raises:
        DataError: when the file is no NIfTI, cut short, 4-D, or holds colours or complex numbers;
            on reading, when a CT holds values beyond int16.
        GeometryError: when its affine is singular or not known for certain, or its unit makes
            voxels that no scanner has.
    """
    header, slope, intercept = _read_header(path)
    shape = _check_shape(path, header)
    _check_voxels(path, header)
    stored = np.dtype(header.get_data_dtype())
    affine, notes = read_affine(path, header)
    try:
        orientation = orient(affine, shape, plane=plane)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", code=error.code, files=[path]) from None
    load = HeldVolume(lambda: _load(path, header, shape, stored))
    is_ct = modality is not None and modality.upper() == "CT"
    dtype = _choose_dtype(stored, slope, intercept, None if is_ct else load)
    return make_volume_stack(
        orientation,
        load,
        dtype=dtype,
        modality=modality or "unknown",
        rescale=lambda voxels: _rescale(path, voxels, slope, intercept, dtype),
        notes=notes,
    )


def make_volume_stack(
    orientation: Orientation,
    load: Callable[[], NDArray[Any]],
    *,
    dtype: np.dtype[Any],
    modality: str,
    rescale: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    notes: Sequence[str] = (),
) -> Stack:
    """Makes the stack of a volume file whose voxels come as one array in the file's axes.

    Args:
        orientation: from the file's axes to (T, H, W).
        load: gives the stored voxels.
        dtype: of the voxels that are read.
        modality: DICOM's word, or `unknown`.
        rescale: stored voxels -> values, applied to the frames that are asked for.
        notes: one sentence each.
    """

    def read_frames(frames: Sequence[int]) -> NDArray[Any]:
        voxels = _take(orientation.apply(load()), frames)
        values = voxels if rescale is None else rescale(voxels)
        return values[None].astype(dtype, copy=False)

    step, height, width = orientation.shape
    in_file = range(step)[::-1] if orientation.flips[0] else range(step)
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
        frame_keys=tuple(file_key(index) for index in in_file),
        notes=(*notes, *orientation.describe()),
    )


def _take(volume: NDArray[Any], frames: Sequence[int]) -> NDArray[Any]:
    """Picks frames; a run of them stays a view, since a copy costs a fifth of inflating a file."""
    asked = list(frames)
    if asked and asked == list(range(asked[0], asked[0] + len(asked))):
        return volume[asked[0] : asked[-1] + 1]
    return volume[asked]


def _read_header(path: Path) -> tuple[Any, float, float]:
    """Returns the header, the slope and the intercept."""
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", code="zero_bytes", files=[path])
    try:
        # nibabel says on stderr what it mends in a header; what matters is judged here.
        with LoggingOutputSuppressor():
            image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, OverflowError):
        raise DataError(
            f"{path} is no NIfTI file, whatever its name says, or its header holds numbers that "
            "mean nothing.",
            code="no_nifti",
            files=[path],
        ) from None
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise _truncated(path, str(error)) from None
    if not isinstance(image, nibabel.Nifti1Image):
        raise DataError(
            f"{path} is a {type(image).__name__}, not a single NIfTI file. Convert it to .nii.gz.",
            code="no_nifti",
            files=[path],
        )
    # nibabel takes offset and rescale out of the header once it has made an image of it.
    voxels: Any = image.dataobj
    image.header.set_data_offset(voxels.offset)
    return image.header, float(voxels.slope), float(voxels.inter)


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


def _choose_dtype(
    stored: np.dtype[Any],
    slope: float,
    intercept: float,
    look: Callable[[], NDArray[Any]] | None,
) -> np.dtype[Any]:
    """Returns the type that holds the rescaled voxels exactly, else float32.

    `look` gives the voxels where their type alone leaves it open; without it they are taken to fit.
    """
    native = stored.newbyteorder("=")
    if stored.kind == "f":
        return np.dtype(np.float32)
    if slope == 1.0 and intercept == 0.0:
        return native
    if not slope.is_integer() or not intercept.is_integer():
        return np.dtype(np.float32)
    limits = np.iinfo(native)
    fits = look is None or _fits_int16(limits.min, limits.max, slope, intercept)
    if not fits and look is not None:
        voxels = look()
        fits = _fits_int16(voxels.min(), voxels.max(), slope, intercept)
    return np.dtype(np.int16 if fits else np.float32)


def _fits_int16(low: Any, high: Any, slope: float, intercept: float) -> bool:
    ends = [int(value) * int(slope) + int(intercept) for value in (low, high)]
    return INT16.min <= min(ends) and max(ends) <= INT16.max


def _rescale(
    path: Path, voxels: NDArray[Any], slope: float, intercept: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    if slope == 1.0 and intercept == 0.0:
        return voxels
    if dtype != np.dtype(np.int16):
        return (voxels.astype(np.float64) * slope + intercept).astype(np.float32)
    values = voxels.astype(np.int64) * int(slope) + int(intercept)
    if values.size and (values.min() < INT16.min or values.max() > INT16.max):
        raise DataError(
            f"{path} holds values up to {values.max()} and down to {values.min()}, which are no HU "
            "and do not fit 16 bits. Leave out `modality`, or give the right one.",
            code="values_outside",
            files=[path],
        )
    return values.astype(np.int16)


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
    if needed > DEFLATE_RATIO * len(packed):
        # A damaged header may ask for more than any memory holds.
        raise _truncated(path, f"{len(packed)} bytes packed, and {needed} announced")
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
