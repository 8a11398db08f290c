"""Places to write to, tried before the work and not after it."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from medvid.contract import DataError

PLACE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENAMETOOLONG,
    }
)
"""Errors that are the fault of the place which a user named, and none of the program."""


def claim_file(path: Path) -> None:
    """Makes sure that a file can be written, making its folder if need be.

    What lies at `path` is left alone.

    Raises:
        DataError: when it cannot be; says why.
    """
    if path.is_dir():
        raise DataError(
            f"{path} is a folder, and a file is to be written there. Give a file's name, such as "
            f"{path / 'table.csv'}.",
            code="not_written",
            files=[path],
        )
    claim_folder(path.parent)


def claim_folder(folder: Path) -> None:
    """Makes a folder if need be, and makes sure that files can be written into it.

    Raises:
        DataError: when they cannot; says why.
    """
    probe = folder / f".{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise explain_place(error, folder) from None


@contextlib.contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Claims a folder for work that may be refused; then the folders made for it are gone again.

    Raises:
        DataError: when the folder cannot be written to; says why.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    claim_folder(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the work may have left something to keep
            for path in made:
                path.rmdir()
        raise


def explain_place(error: OSError, place: Path | None = None) -> DataError:
    """Returns the sentence for a place that cannot be written to."""
    where = place if place is not None else Path(str(error.filename or "The output"))
    return DataError(
        f"{where} cannot be written to: {error.strerror or error}. Give another place, or make "
        "room or mend the rights of this one.",
        code="not_written",
        files=[where],
    )


def explain_system(error: OSError) -> DataError:
    """Returns the sentence for anything that the operating system refused."""
    if error.errno in PLACE:
        return explain_place(error)
    what = f"{error.strerror or error or 'no reason given'} ({type(error).__name__})"
    if error.filename is None:
        return DataError(
            f"The operating system refused something and names no file: {what}. Look whether disks "
            "and network drives are connected and memory is left, and try again.",
            code="system",
        )
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return DataError(
        f"{' or '.join(files)} cannot be used: {what}. Look whether it is still there and its "
        "disk or network drive is connected, and try again.",
        code="system",
        files=files,
    )
