"""Images of a folder in BIDS, found by their names.

In the Brain Imaging Data Structure a name says everything: `sub-01_ses-2_acq-mprage_T1w.nii.gz` is
key and value, key and value, and at last the kind of image. Folders say subject and session again;
where the two differ, one of them is wrong, and nobody can tell which.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvid.contract import SourceError
from medvid.io.ordering import natural_key
from medvid.io.sidecars import is_of_macos

Only = dict[str, str | int]
"""Key -> value that a name must hold."""

_DATATYPES = ("anat", "dwi", "func", "pet", "ct")
_NAME = re.compile(r"(?P<keys>.+)_(?P<suffix>[A-Za-z0-9]+)(?i:\.nii(\.gz)?)")

_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """An image file by its name.

    Args:
        path: of the file.
        subject: `sub-01`.
        session: `ses-01`, or "".
        entities: the name's other keys.
        suffix: such as T1w.
    """

    path: Path
    subject: str
    session: str
    entities: Mapping[str, str]
    suffix: str

    @property
    def stem(self) -> str:
        """The name without `.nii` or `.nii.gz`."""
        return _ENDING.sub("", self.path.name)

    @property
    def visit(self) -> str:
        """Subject and session."""
        return "_".join(filter(None, (self.subject, self.session)))


def find_images(
    root: Path, wanted: Sequence[str], session: str | None, only: Only
) -> dict[str, list[Image]]:
    """Returns subject -> images of the wanted suffixes, in natural order.

    Links that lead nowhere are among them: DataLad makes them of contents that were not fetched.

    Args:
        root: of the data set; only its own `sub-*` are read.
        wanted: suffixes, such as T1w.
        session: `ses-01` or `01`; all when None.
        only: what names must say besides.

    Raises:
        SourceError: when a name says another subject or session than its folder.
    """
    asked = None if session is None else f"ses-{session.removeprefix('ses-')}"
    found: dict[str, list[Image]] = {}
    for subject in sorted(root.glob("sub-*/"), key=lambda path: natural_key(path.name)):
        visits = [subject, *sorted(subject.glob("ses-*/"), key=lambda p: natural_key(p.name))]
        paths = [
            path
            for visit in visits
            for datatype in _DATATYPES
            for path in sorted((visit / datatype).glob("*"), key=lambda p: natural_key(p.name))
        ]
        images = [image for path in paths if (image := _read_name(subject, path)) is not None]
        kept = [
            image
            for image in images
            if image.suffix in wanted
            and asked in (None, image.session)
            and all(_fits(image.entities.get(key, ""), value) for key, value in only.items())
        ]
        if kept:
            found[subject.name] = kept
    return found


def _read_name(subject: Path, path: Path) -> Image | None:
    """Returns what a file's name says; None for names that BIDS does not have."""
    match = _NAME.fullmatch(path.name)
    if match is None or is_of_macos(path.name):
        return None
    entities = {}
    for part in match["keys"].split("_"):
        key, _, value = part.partition("-")
        entities[key] = value
    visit = path.parent.parent
    session = "" if visit == subject else visit.name
    told = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    if told != [subject.name, *filter(None, [session])]:
        raise SourceError(
            f"{path} says another subject or session in its name than in its folder. Rename it, or "
            "move it where it belongs.",
            code="other_name",
            files=[path],
        )
    others = {key: value for key, value in entities.items() if key not in ("sub", "ses")}
    return Image(path, subject.name, session, others, match["suffix"])


def _fits(told: str, asked: str | int) -> bool:
    """Tells whether a name's value is the asked one; run-1 and run-01 are one number."""
    if isinstance(asked, int):
        return told.isdecimal() and int(told) == asked
    return told == asked
