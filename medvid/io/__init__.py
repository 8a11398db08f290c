"""A path -> a `Stack`. The only room that knows file formats and patient axes.

Each format's library is imported when a file of that format is met, not before.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medvid.contract import DataError, Stack

if TYPE_CHECKING:
    from medvid.io.geometry import PlaneOrAuto

NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
ARRAY_ENDINGS = (".npy", ".npz")

__all__ = ["open_stack"]


def open_stack(
    path: str | Path,
    *,
    series: str | None = None,
    plane: "PlaneOrAuto" = "auto",
    modality: str | None = None,
) -> Stack:
    """Opens a scan or video of any known format; nothing is decoded before `Stack.read`.

    Args:
        path: the folder of a DICOM series, a .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npy or .npz
            file, a video, or a folder of frames.
        series: which series of a DICOM folder, as the token that `medvid scan` prints.
        plane: which plane's slices are the frames. `auto` keeps a scan's own slice axis, and reads
            volumes without one as axial. Videos and arrays have no planes and ignore it.
        modality: what the scan is, where its format does not say; DICOM series of another modality
            are not considered.

    Raises:
        DataError: when there is nothing, nothing readable, or no known format.
        GeometryError: when slices are no regular stack, or there are several series.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.", code="missing_file", files=[path])
    if path.is_dir():
        return _open_folder(path, series, plane, modality)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", code="empty_file", files=[path])
    if series is not None:
        raise DataError(
            f"{path} is a file, and `series` ({series}) chooses among those of a DICOM folder. "
            "Leave it out, or give the folder.",
            code="series_of_file",
            files=[path],
        )
    name = path.name.lower()
    if name.endswith(NIFTI_ENDINGS):
        from medvid.io.nifti import open_nifti

        return open_nifti(path, plane=plane, modality=modality)
    if name.endswith(ITK_ENDINGS):
        from medvid.io.arrays import open_itk

        return open_itk(path, plane=plane, modality=modality)
    if name.endswith(ARRAY_ENDINGS):
        from medvid.io.arrays import open_array

        return open_array(path, modality=modality)
    return _open_other_file(path)


def _open_folder(
    path: Path, series: str | None, plane: "PlaneOrAuto", modality: str | None
) -> Stack:
    from medvid.io.frames import is_frame_folder, open_frames

    if is_frame_folder(path):
        return open_frames(path)
    from medvid.io.dicom import open_dicom

    return open_dicom(path, series=series, plane=plane, modality=modality)


def _open_other_file(path: Path) -> Stack:
    from medvid.io.video import is_video, open_video

    opener: Callable[[Path], Stack] | None = open_video if is_video(path) else None
    if opener is not None:
        return opener(path)
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:132] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        raise DataError(
            f"{path} is a single DICOM file, and one slice is not a stack. Give the folder of its "
            f"series: {path.parent}.",
            code="single_dicom_file",
            files=[path],
        )
    raise DataError(
        f"{path} is of no known type. Known: DICOM folders, "
        f"{', '.join((*NIFTI_ENDINGS, *ITK_ENDINGS, *ARRAY_ENDINGS))}, videos, folders of frames.",
        code="unknown_type",
        files=[path],
    )
