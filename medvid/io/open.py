"""A path -> a Stack, whatever the path holds."""

from pathlib import Path

from medvid.contract import DataError, Stack
from medvid.io.geometry import PlaneOrAuto

NIFTI = (".nii", ".nii.gz")
VOLUMES = (".nrrd", ".nhdr", ".mha", ".mhd")
ARRAYS = (".npy", ".npz")

READABLE = (
    "a folder of DICOM files, a NIfTI (.nii, .nii.gz), NRRD, MHA, MHD or NumPy file, a video, or a "
    "folder of frames"
)


def open_stack(
    path: str | Path,
    *,
    series: str | None = None,
    plane: PlaneOrAuto = "auto",
    modality: str | None = None,
) -> Stack:
    """Opens a scan or a video. Nothing is decoded until its `read` is called.

    After this, nobody asks which of the two it was: slices and frames both lie along T.

    Args:
        path: a folder of DICOM files or frames, a volume file, or a video.
        series: the token of one series where a DICOM folder holds several.
        plane: which patient axis T is. `auto`: the slices of a DICOM series; the coarse axis of a
            volume file, and axial where none is.
        modality: what a volume file is (NIfTI does not tell); of several DICOM series only those
            of this modality are considered.

    Raises:
        DataError: when there is nothing at `path`, or nothing that can be read; names the file.
        GeometryError: when slices do not form one regular stack, or several series are there.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.", code="missing_file", files=[path])
    if path.is_dir():
        return _open_folder(path, series, plane, modality)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes).", code="zero_bytes", files=[path])
    return _open_file(path, plane, modality)


def _open_folder(path: Path, series: str | None, plane: PlaneOrAuto, modality: str | None) -> Stack:
    from medvid.io.dicom import open_dicom
    from medvid.io.frames import is_frame_folder, open_frames

    if is_frame_folder(path):
        return open_frames(path)
    return open_dicom(path, series=series, plane=plane, modality=modality)


def _open_file(path: Path, plane: PlaneOrAuto, modality: str | None) -> Stack:
    name = path.name.lower()
    if name.endswith(NIFTI):
        from medvid.io.nifti import open_nifti

        return open_nifti(path, plane=plane, modality=modality)
    if name.endswith(VOLUMES):
        from medvid.io.volumes import open_volume

        return open_volume(path, plane=plane, modality=modality)
    if name.endswith(ARRAYS):
        from medvid.io.arrays import open_array

        return open_array(path, modality=modality)
    from medvid.io.dicom_headers import looks_like_dicom
    from medvid.io.video import is_video, open_video

    if is_video(path):
        return open_video(path)
    with path.open("rb") as file:
        start = file.read(1024)
    if looks_like_dicom(start):
        raise DataError(
            f"{path} is a single DICOM file. Give the folder that holds its series.",
            code="single_file",
            files=[path],
        )
    raise DataError(
        f"{path} is nothing that medvid reads: {READABLE}.", code="unknown_type", files=[path]
    )
