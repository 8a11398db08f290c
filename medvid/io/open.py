"""A path -> a Stack, whatever the path holds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from medvid.contract import DataError, Stack
from medvid.io.geometry import PlaneOrAuto
from medvid.io.kinds import find_kind

DIRECTORY = "DICOMDIR"
"""The table of contents of a CD; its folder is read, as what it lists may have been moved."""

READABLE = (
    "a folder of DICOM files or a list of them (.series), a NIfTI (.nii, .nii.gz), NRRD, MHA, MHD "
    "or NumPy file, a video, or a folder of frames"
)


def open_stack(
    path: str | Path,
    *,
    series: str | None = None,
    plane: PlaneOrAuto = "auto",
    modality: str | None = None,
    on_gap: Literal["refuse", "resample", "keep"] = "refuse",
    on_bad: Literal["stop", "quarantine"] = "stop",
    detilt: bool = False,
    select: Mapping[str, Any] | None = None,
) -> Stack:
    """Opens a scan or a video. Nothing is decoded until its `read` is called.

    After this, nobody asks which of the two it was: slices and frames both lie along T.

    Args:
        path: a folder of DICOM files or frames, a list of the files of one series (.series), a
            volume file, or a video.
        series: the token of one series where a DICOM folder holds several; of an .npz the array
            that is meant, or a row of it, such as `train_images[12]`.
        plane: which patient axis T is. `auto`: the slices of a DICOM series; the coarse axis of a
            volume file, and axial where none is.
        modality: what a volume file is (NIfTI does not tell); of several DICOM series only those
            of this modality are considered.
        on_gap: what to do where slices of a DICOM series are missing or unevenly apart: `refuse`
            it, `resample` it to even steps (interpolated frames are counted in the notes), or
            `keep` the slices with their true positions.
        on_bad: `stop` at a broken image of a DICOM series, or `quarantine`: leave it out, with a
            note. What remains must still be a stack by itself or by `on_gap`.
        detilt: resample a DICOM series taken with a tilted gantry, so that its slices lie straight
            above each other; else they keep their pixels, and the shear stays in the affine.
        select: which of several DICOM series is meant, by `modality`, `description`, `kernel`,
            `plane`, `thickness` and `prefer`; see `medvid.io.dicom_select.Selection`.

    Raises:
        ConfigError: for a `select` that cannot be meant.
        DataError: when there is nothing at `path`, or nothing that can be read; names the file.
        GeometryError: when slices do not form one regular stack, or several series are there.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.", code="missing_file", files=[path])
    from medvid.io.dicom import open_dicom

    def open_series(folder: Path) -> Stack:
        return open_dicom(
            folder,
            series=series,
            plane=plane,
            modality=modality,
            on_gap=on_gap,
            on_bad=on_bad,
            detilt=detilt,
            select=select,
        )

    if path.is_dir():
        from medvid.io.frames import is_frame_folder, open_frames

        return open_frames(path) if is_frame_folder(path) else open_series(path)
    if path.name.upper() == DIRECTORY:
        return open_series(path.parent)
    kind = find_kind(path)
    if kind and kind != "dicom":
        return open_file(path, kind, series=series, plane=plane, modality=modality)
    return _open_dicom_file(path, open_series)


def open_file(
    path: Path,
    kind: str,
    *,
    series: str | None = None,
    plane: PlaneOrAuto = "auto",
    modality: str | None = None,
) -> Stack:
    """Opens a volume file, an array or a video whose kind is known.

    Args:
        path: of the file.
        kind: see `medvid.io.kinds.KINDS`.
        series: as in `open_stack`, like what follows.
        plane: as there.
        modality: as there.

    Raises:
        DataError: when it cannot be read; names the file.
        GeometryError: when its axes place no voxel.
    """
    _refuse_empty(path)
    if kind == "nifti":
        from medvid.io.nifti import open_nifti

        return open_nifti(path, plane=plane, modality=modality)
    if kind in ("nrrd", "mha"):
        from medvid.io.volumes import open_volume

        return open_volume(path, plane=plane, modality=modality)
    if kind == "array":
        from medvid.io.arrays import open_array

        return open_array(path, modality=modality, item=series)
    from medvid.io.video import open_video

    return open_video(path)


def _refuse_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", code="zero_bytes", files=[path])


def _open_dicom_file(path: Path, open_series: Callable[[Path], Stack]) -> Stack:
    from medvid.io.dicom_headers import looks_like_dicom, read_header
    from medvid.io.series_list import ENDING

    _refuse_empty(path)
    if path.name.lower().endswith(ENDING):
        return open_series(path)
    with path.open("rb") as file:
        start = file.read(1024)
    if looks_like_dicom(start):
        if read_header(path).frames > 1:
            return open_series(path)
        raise DataError(
            f"{path} is a single DICOM file. Give the folder that holds its series.",
            code="single_file",
            files=[path],
        )
    raise DataError(
        f"{path} is nothing that medvid reads: {READABLE}.", code="unknown_type", files=[path]
    )
