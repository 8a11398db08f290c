"""Tokens that stand for patients and series, so that neither names nor numbers leave the reader.

A series' token is the same on every machine: a manifest written here selects the same series
there. A patient's token is salted with a secret of this user's account, because hospital numbers
are short enough to be guessed by hashing them all.
"""

import hashlib
import logging
import os
import secrets
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

TOKEN_DIGITS = 12
"""48 bits: among a million series two share a token with a chance of 1 in 560."""

SERIES_SALT = b"medvid series 1:"
"""Fixed. A UID is no secret of a patient, but it leads back to one inside the hospital."""

INSTANCE_SALT = b"medvid instance 1:"
"""Fixed, as a table of slice labels must mean the same images on every machine."""

SALT_BYTES = 32

_log = logging.getLogger(__name__)


def series_token(uid: str) -> str:
    """Returns the 12 hex digits that stand for a SeriesInstanceUID."""
    return hashlib.sha256(SERIES_SALT + uid.strip().encode()).hexdigest()[:TOKEN_DIGITS]


def instance_token(uid: str) -> str:
    """Returns the 12 hex digits that stand for a SOPInstanceUID, one image; "" for an empty UID."""
    known = uid.strip(" \0")
    digest = hashlib.sha256(INSTANCE_SALT + known.encode()).hexdigest()
    return digest[:TOKEN_DIGITS] if known else ""


def patient_token(patient_id: str) -> str:
    """Returns the 12 hex digits that stand for a patient on this account; "" for an empty ID."""
    known = patient_id.strip()
    if not known:
        return ""
    return hashlib.sha256(_read_salt(config_folder()) + known.encode()).hexdigest()[:TOKEN_DIGITS]


def config_folder() -> Path:
    """Returns the folder of this user's settings: APPDATA, XDG_CONFIG_HOME or ~/.config."""
    named = os.environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME", "")
    return (Path(named) if named else Path.home() / ".config") / "medvid"


@lru_cache(maxsize=4)
def _read_salt(folder: Path) -> bytes:
    path = folder / "patient_salt"
    try:
        if not path.exists():
            _create_salt(path)
        salt = path.read_bytes()
    except OSError as error:
        _log.warning(
            "The secret for patient tokens cannot be kept in %s (%s): tokens of this process will "
            "differ from those of the next.",
            folder,
            error.strerror,
        )
        return secrets.token_bytes(SALT_BYTES)
    if len(salt) != SALT_BYTES:
        _log.warning(
            "%s holds %d bytes, not %d: tokens of this process will differ from those of the "
            "next. Delete the file to have a new secret made.",
            path,
            len(salt),
            SALT_BYTES,
        )
        return secrets.token_bytes(SALT_BYTES)
    return salt


def _create_salt(path: Path) -> None:
    """Writes a new secret, whole or not at all; the first of several processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp opens with mode 0600: nobody else can read the secret, at no moment.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".salt-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(SALT_BYTES))
        try:
            os.link(name, path)  # unlike a rename, never replaces another process's secret
        except FileExistsError:
            pass
        except OSError:
            # No hard links here (FAT, some network drives). A rename may replace a secret made in
            # the same instant; both processes then read the one that stayed.
            if not path.exists():
                os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
