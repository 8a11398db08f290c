"""Which files of a folder may be scans: all that are not clearly something else."""

import os
from pathlib import Path

from medvid.io.endings import BESIDE_SLICES

SIDECARS = frozenset(
    f".{ending}"
    for ending in (
        *("csv", "tsv", "json", "txt", "md", "rst", "yaml", "yml", "toml", "log", "ini", "cfg"),
        *("py", "ipynb", "sh", "bat", "js", "css", "xml", "html", "htm"),
        *("pdf", "doc", "docx", "xls", "xlsx", "bval", "bvec", "sha256", "md5", "lock"),
        *("ckpt", "pt", "zip", "db", "exe", "dll", "inf", "ico"),
        "series",  # a list of the files of one, see `medvid.io.series_list`
    )
)
"""Files that lie beside scans and are none, by their extension."""

SIDECAR_NAMES = frozenset({"license", "readme", "lockfile", "version", "thumbs.db"})


MAC_FOLDER, MAC_FILE = "__macosx", "._"
"""What macOS adds to archives: a folder, and a file of the system's own beside each other one."""

DIRECTORY = "dicomdir"
"""DICOM too, and no scan: the table of contents of a CD."""

PREAMBLE = 128
MARK = b"DICM"
"""What a DICOM file says behind so many bytes."""


def is_sidecar(path: Path) -> bool:
    """Whether a file is clearly no scan: a table, a text, a DICOMDIR, a hidden file.

    Slices have any name, such as `IM_0007.log` or a UID that ends in `.7.py`. Of a file that is
    called like something else the first bytes are read; DICOM is never passed over.
    """
    name = path.name.lower()
    if name == DIRECTORY:
        return True
    called = name in SIDECAR_NAMES or name.startswith(".") or path.suffix.lower() in SIDECARS
    return called and not has_dicom_mark(path)


def is_of_macos(name: str) -> bool:
    """Whether a name is that of what macOS adds to archives: `__MACOSX`, `._scan.dcm`."""
    return name.casefold() == MAC_FOLDER or name.startswith(MAC_FILE)


def has_ending(name: str, ending: str) -> bool:
    """Whether a file's name ends so, in any case; what macOS adds to archives never does.

    Args:
        name: of the file, without its folder.
        ending: in lower case.
    """
    return name.casefold().endswith(ending) and not is_of_macos(name)


def has_dicom_mark(path: Path) -> bool:
    """Whether a file says that it is DICOM, whatever it is called."""
    try:
        if not path.is_file():  # a pipe, where opening might wait for ever
            return False
        with path.open("rb", buffering=0) as file:
            file.seek(PREAMBLE)
            return file.read(len(MARK)) == MARK
    except OSError:
        return False


def list_files(folder: Path) -> list[Path]:
    """Returns every file below a folder, sorted; linked folders are not followed."""
    found: list[Path] = []
    for root, _, names in os.walk(folder):
        found.extend(Path(root) / name for name in names)
    return sorted(found)


def list_images(folder: Path) -> list[Path]:
    """Returns the files below a folder that may be scans, sorted."""
    return [file for file in list_files(folder) if not is_sidecar(file)]


def is_other_kind(file: Path) -> bool:
    """Whether a file beside slices is a picture or a volume, and so no lost slice."""
    return file.name.lower().endswith(BESIDE_SLICES) and not has_dicom_mark(file)
