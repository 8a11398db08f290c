"""A folder whose name is not UTF-8, on disks that can hold one."""

import os
from pathlib import Path

import pytest

LATIN = os.fsdecode(b"Sch\xe4del")


def make_latin(parent: Path) -> Path:
    """Makes a folder whose name is Latin-1; skips the test where no disk holds such names."""
    if os.name == "nt":
        pytest.skip("Names are no bytes there.")
    folder = parent / LATIN
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("This disk holds no such name.")
    return folder
