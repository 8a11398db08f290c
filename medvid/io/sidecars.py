"""Which files of a folder may be scans: all that are not clearly something else."""

import os
from dataclasses import dataclass
from pathlib import Path

from medvid.contract import DataError
from medvid.io.endings import BESIDE_SLICES
from medvid.io.wording import agree, count, name_first

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

LOCKED = "folder_unreadable"
"""Reason code of a folder that cannot be searched."""

NAMED_FOLDERS = 4
"""So many folders are named in a note."""

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


@dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    Args:
        files: all of them, sorted.
        locked: an error for each folder that cannot be searched.
        links: linked folders, which are not followed.
    """

    files: tuple[Path, ...] = ()
    locked: tuple[DataError, ...] = ()
    links: tuple[Path, ...] = ()

    @property
    def images(self) -> list[Path]:
        """The files that may be scans."""
        return [file for file in self.files if not is_sidecar(file)]

    def describe(self) -> list[str]:
        """Returns a sentence each on the folders that were not looked into."""
        notes = []
        if self.locked:
            names = name_first([Path(error.files[0]).name for error in self.locked], NAMED_FOLDERS)
            notes.append(
                f"{count(len(self.locked), 'folder')} cannot be searched ({names}): what "
                f"{agree(len(self.locked), 'it holds', 'they hold')} is unknown."
            )
        if self.links:
            names = name_first([link.name for link in self.links], NAMED_FOLDERS)
            notes.append(
                f"{count(len(self.links), 'linked folder')} "
                f"{agree(len(self.links), 'was', 'were')} not followed ({names})."
            )
        return notes


def search_tree(folder: Path) -> Tree:
    """Finds every file below a folder; linked folders are not followed."""
    files: list[Path] = []
    locked: list[DataError] = []
    links: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=lambda e: locked.append(explain_locked(e))):
        files.extend(Path(root) / name for name in names)
        links.extend(Path(root) / name for name in folders if (Path(root) / name).is_symlink())
    return Tree(tuple(sorted(files)), tuple(locked), tuple(sorted(links)))


def explain_locked(error: OSError) -> DataError:
    """Returns the error of a folder that cannot be searched."""
    folder = Path(error.filename)
    why = error.strerror or "the disk reported an error"
    return DataError(
        f"{folder} cannot be searched: {why}. Its files are unknown.",
        code=LOCKED,
        files=[folder],
    )


def list_files(folder: Path) -> list[Path]:
    """Returns every file below a folder, sorted; linked folders are not followed."""
    return list(search_tree(folder).files)


def list_images(folder: Path) -> list[Path]:
    """Returns the files below a folder that may be scans, sorted."""
    return search_tree(folder).images


def is_other_kind(file: Path) -> bool:
    """Whether a file beside slices is a picture or a volume, and so no lost slice."""
    return file.name.lower().endswith(BESIDE_SLICES) and not has_dicom_mark(file)
