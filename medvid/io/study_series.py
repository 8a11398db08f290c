"""One axial series out of each of many head CT studies, told by headers and by folders' names.

A study holds a folder for each series: thin and thick slices, bone kernels, some with contrast
medium, reformats and parts of a head.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Literal, TypeGuard

import numpy as np

from medvid.contract import DataError
from medvid.io.dicom import read_headers
from medvid.io.dicom_groups import count_lost, group_series
from medvid.io.dicom_regularity import normal_of
from medvid.io.dicom_select import describe_found
from medvid.io.dicom_series import Found, Series
from medvid.io.geometry import nearest_plane
from medvid.io.ordering import NaturalKey, natural_key
from medvid.io.scan_pool import start_pool
from medvid.io.sidecars import search_tree

Wanted = Literal["thin", "thick", "most_slices"]

LEAST_MM = 100.0
"""Of a series' extent. A brain is 120 to 150 mm high, and what covers less is a part of a head."""

PARALLEL_FROM = 20
"""Fewer studies are read before other processes have started."""

_PLAIN = re.compile(
    r"plain|(pre|non|without)( *-* *(iv|oral))? *-* *contrast|without|\bc-(?!\w)", re.IGNORECASE
)
"""What says that there is no contrast medium; the rest of a name may still say that there is some,
as in `CT PLAIN AND CONTRAST`. The 2 of `CT C-2` counts copies."""
_CONTRAST = re.compile(r"contrast|cect|angio|\b(post|oral|iv|c|cta|\d*cc)\b", re.IGNORECASE)
"""Names of series with contrast medium, such as `CT 4cc sec 150cc D3D on`. `CT C` counts as one:
the export dropped what stood behind the C, a plus or a minus."""
_BONE = re.compile(r"bone|hi ?res|hrct", re.IGNORECASE)


@dataclass(frozen=True)
class Wish:
    """Which series of a study is wanted.

    Args:
        series: that with the `thin` or the `thick` slices, or with `most_slices`; of equal ones
            that with most slices, then the first by name.
        names: of its folder; `*` stands for any text, case does not matter.
        contrast: consider series with contrast medium too.
        bone: consider series of a bone kernel too.
    """

    series: Wanted = "thin"
    names: str = "*"
    contrast: bool = False
    bone: bool = False

    def allows(self, name: str) -> bool:
        """Tells by a folder's name whether its series is considered."""
        with_contrast = _CONTRAST.search(_PLAIN.sub(" ", name.replace("_", " ")))
        return (
            fnmatchcase(name.casefold(), self.names.casefold())
            and (self.contrast or not with_contrast)
            and (self.bone or not _BONE.search(name))
        )

    def rank(self, one: Series) -> tuple[float, int, NaturalKey]:
        """Returns what is smallest for the series that is wanted."""
        thickness = {"thin": 1, "thick": -1, "most_slices": 0}[self.series] * one.thickness
        return thickness, -len(one.slices), natural_key(f"{one.place.name}/{one.token}")


@dataclass(frozen=True)
class Choice:
    """The series that was chosen of a study.

    Args:
        path: its folder; empty when nothing fits.
        token: of the series in the folder.
        thickness: of its slices in mm.
        others: how many more fit.
        why: what the study holds instead, when nothing fits.
    """

    path: str = ""
    token: str = ""
    thickness: float = 0.0
    others: int = 0
    why: str = ""


def choose_series(studies: Sequence[Path], wish: Wish, *, workers: int = 1) -> dict[Path, Choice]:
    """Reads the headers of each study's series and chooses one.

    Only axial series that can be read as a stack and cover a brain are considered.

    Args:
        studies: their folders.
        wish: which series is wanted.
        workers: processes that read headers.
    """
    with start_pool(workers if len(studies) >= PARALLEL_FROM else 1) as pool:
        return dict(pool(partial(_choose, wish), studies, _blame_crash))


def _blame_crash(study: Path) -> Choice:
    return Choice(why=f"a reader crashed on a file of {study.name}.")


def _choose(wish: Wish, study: Path) -> Choice:
    folders: dict[Path, list[Path]] = {}
    tree = search_tree(study)
    for file in tree.images:
        folders.setdefault(file.parent, []).append(file)
    found = [
        one
        for folder, files in folders.items()
        if wish.allows(folder.name)
        for one in _group_files(files, tree.locked)
    ]
    fitting = [one for one in found if _fits(one)]
    if not fitting:
        return Choice(why=_say_why(found, sorted({path.name for path in folders}, key=natural_key)))
    best = min(fitting, key=wish.rank)
    return Choice(str(best.place), best.token, best.thickness, len(fitting) - 1)


def _group_files(files: Sequence[Path], locked: Sequence[DataError]) -> list[Found]:
    headers, errors = read_headers(files)
    lost = count_lost(headers, ((error.code, error.files[0]) for error in (*errors, *locked)))
    return group_series(headers, lost)


def _say_why(found: Sequence[Found], folders: Sequence[str]) -> str:
    if found:
        return f"{'; '.join(describe_found(one) for one in found)}."
    if folders:
        return f"none of the folders {', '.join(folders)} is asked for."
    return "it holds no images."


def _fits(one: Found) -> TypeGuard[Series]:
    """Whether it is a stack of axial slices that covers a brain."""
    return (
        isinstance(one, Series)
        and nearest_plane(normal_of(one.first)) == "axial"
        and float(np.ptp(one.along)) + one.thickness >= LEAST_MM
    )
