"""Which files of a folder may be scans, told by their names alone."""

import os
from pathlib import Path

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

SIDECAR_NAMES = frozenset({"license", "readme", "dicomdir", "lockfile", "version", "thumbs.db"})


def is_sidecar(path: Path) -> bool:
    """Whether a file is clearly no scan: a table, a text, a DICOMDIR, a hidden file."""
    name = path.name.lower()
    return name in SIDECAR_NAMES or name.startswith(".") or path.suffix.lower() in SIDECARS


def list_files(folder: Path) -> list[Path]:
    """Returns every file below a folder, sorted; linked folders are not followed."""
    found: list[Path] = []
    for root, _, names in os.walk(folder):
        found.extend(Path(root) / name for name in names)
    return sorted(found)


def list_images(folder: Path) -> list[Path]:
    """Returns the files below a folder that may be scans, sorted."""
    return [file for file in list_files(folder) if not is_sidecar(file)]
