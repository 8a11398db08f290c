"""What a file is read as: DICOM where it says so, else what its name ends in."""

from collections.abc import Mapping
from pathlib import Path

from medvid.io.endings import ARRAYS, META_IMAGE, NIFTI, NRRD, VIDEOS
from medvid.io.sidecars import has_dicom_mark

KINDS: Mapping[str, tuple[str, ...]] = {
    "nifti": NIFTI,
    "nrrd": NRRD,
    "mha": META_IMAGE,
    "array": ARRAYS,
    "video": VIDEOS,
}
"""A kind by the ending of the file's name."""


def name_kind(name: str) -> str:
    """Returns the kind that a file's name ends in; "" where it ends in none."""
    name = name.lower()
    return next((kind for kind, endings in KINDS.items() if name.endswith(endings)), "")


def find_kind(path: Path) -> str:
    """Returns what a file is read as: `dicom`, a kind of `KINDS`, or "" where it is unknown.

    Slices have any name, and other readers would take one for a volume of their own: its first
    bytes are asked before its ending, and only where that is one of theirs.
    """
    kind = name_kind(path.name)
    return "dicom" if kind and has_dicom_mark(path) else kind
