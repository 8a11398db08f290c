"""LUNA16: 888 chest CTs, with candidate positions that are lung nodules or are not.

Where from: the page of the LUNA16 challenge on grand-challenge.org and its Zenodo records, the
archives `subset0` to `subset9`, `annotations.csv` and `candidates_V2.csv` (or `candidates.csv`).
The scans are of LIDC-IDRI, under CC BY 3.0. medvid downloads nothing.

On disk: `subset0/` to `subset9/` with `<series>.mhd` and `<series>.raw`; the tables right below the
root, in `CSVFILES/`, or in a folder of their own name, as the archives unpack. Some subsets may be
absent; their scans are reported.

A case is a candidate: a `region` task, whose centre is in mm as ITK's world coordinates are, which
are DICOM's. The subset is the fold, as the challenge asks; published results are over all ten. No
table names the patients, so the scan stands for the patient.

Rows that repeat a place of a scan count once, and are refused where their classes differ. There are
1,557 nodules among 754,975 candidates of V2. `negatives=20` keeps twenty times as many
others as there are nodules (those with the smallest hash of scan and position: the same on every
machine, and more of them hold the fewer). `sizes=true` adds a column `diameter_mm` to candidates
that lie within a nodule of annotations.csv.

Command: `medvid manifest luna16 ROOT -o manifest.csv negatives=20`
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import numpy as np
from pydantic import Field

from medvid.contract import Record, SourceError
from medvid.io.identity import series_token
from medvid.io.sheet import Row, Sheet, read_sheet
from medvid.io.sidecars import has_ending, list_files
from medvid.io.text_files import read_decimal

CLASSES = ("non-nodule", "nodule")

Version = Literal["V2", "V1"]
Negatives = Annotated[float, Field(gt=0)]
Point = tuple[float, float, float]

_TABLES = {"V2": "candidates_V2.csv", "V1": "candidates.csv"}
_SUBSETS = 10
_POSITION = ("coordX", "coordY", "coordZ")


@dataclass(frozen=True)
class _Candidate:
    """A row of the table of candidates; `line` counts from 1, as editors do."""

    scan: str
    center: Point
    is_nodule: bool
    line: int


def records(
    root: Path,
    *,
    candidates: Version = "V2",
    negatives: Negatives | None = None,
    sizes: bool = False,
) -> Iterator[Record]:
    """Yields the candidates of the scans that are on disk, in the order of the table.

    Args:
        root: holds `subset0/` to `subset9/`, or some of them, and the tables.
        candidates: V2, or V1 for candidates.csv.
        negatives: so many non-nodules are kept for every nodule; all when None.
        sizes: add the diameters of annotations.csv.

    Raises:
        SourceError: when a table or all scans are absent, or a row cannot be meant.
    """
    scans = _find_scans(root)
    listed = _read_candidates(root, candidates)
    there = [candidate for candidate in listed if candidate.scan in scans]
    if not there:
        _refuse(
            root,
            f"holds none of the scans that {_TABLES[candidates]} names. They should lie there as "
            "subset0/<series>.mhd.",
            "no_cases",
        )
    nodules = _read_nodules(root) if sizes else {}
    for candidate in _keep_negatives(there, negatives):
        path, subset = scans[candidate.scan]
        diameter = _find_diameter(candidate, nodules.get(candidate.scan, ()))
        token = series_token(candidate.scan)
        yield Record(
            case_id=f"{token}-{candidate.line}",
            patient_id=token,
            path=str(path.absolute()),
            label=CLASSES[candidate.is_nodule],
            center=candidate.center,
            fold=subset,
            extra={} if diameter is None else {"diameter_mm": f"{diameter:.2f}"},
        )


def missing(
    root: Path,
    *,
    candidates: Version = "V2",
    negatives: Negatives | None = None,
    sizes: bool = False,
) -> list[str]:
    """Returns the scans that the table names and no subset holds, as tokens."""
    scans = _find_scans(root)
    listed = dict.fromkeys(item.scan for item in _read_candidates(root, candidates))
    return [series_token(scan) for scan in listed if scan not in scans]


def imitate(root: Path) -> None:
    """Writes three scans in three subsets, one with flipped axes, and tables of four scans."""
    import SimpleITK

    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows, nodules = ["seriesuid,coordX,coordY,coordZ,class"], ["seriesuid,coordX,coordY,coordZ"]
    nodules[0] += ",diameter_mm"
    for case in range(4):
        scan = f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{1000 + case}"
        voxels = rng.normal(-800, 50, (12, 24, 32)).astype(np.int16)
        voxels[5:8, 9:12, 19:22] = 100  # z, y, x
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing((0.7, 0.7, 2.5))
        image.SetOrigin((-120.5, -80.25, -310.0))
        if case == 1:  # as some scans of the challenge
            image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        nodule = image.TransformIndexToPhysicalPoint((20, 10, 6))
        other = image.TransformIndexToPhysicalPoint((5, 15, 3))
        third = image.TransformIndexToPhysicalPoint((25, 5, 9))
        rows += [
            ",".join(map(str, (scan, *point, kind)))
            for point, kind in ((other, 0), (nodule, 1), (third, 0))
        ]
        nodules.append(",".join(map(str, (scan, *nodule, 5.25))))
        if case < 3:
            folder = root / f"subset{case * 4}"
            folder.mkdir(exist_ok=True)
            SimpleITK.WriteImage(image, str(folder / f"{scan}.mhd"))
    for name, lines in (("candidates_V2.csv", rows), ("annotations.csv", nodules)):
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _find_scans(root: Path) -> dict[str, tuple[Path, int]]:
    """Returns series -> header file and subset."""
    found: dict[str, tuple[Path, int]] = {}
    for folder, subset in _find_subsets(root):
        for path in (file for file in list_files(folder) if has_ending(file.name, ".mhd")):
            known, _ = found.setdefault(path.stem, (path, subset))
            if known != path:
                places = " and ".join(str(one.parent) for one in (known, path))
                raise SourceError(
                    f"{root} holds the scan …{series_token(path.stem)} twice: in {places}. Its "
                    "subset is its fold: keep the one that the challenge gives.",
                    code="double_case",
                    files=[known, path],
                )
    return found


def _find_subsets(root: Path) -> list[tuple[Path, int]]:
    """Returns the subsets' folders and their numbers."""
    numbers = {f"subset{subset}": subset for subset in range(_SUBSETS)}
    places = sorted(root.iterdir()) if root.is_dir() else []
    return [(one, numbers[name]) for one in places if (name := one.name.casefold()) in numbers]


def _read_table(root: Path, name: str, columns: Sequence[str]) -> Sheet:
    places = [root / name, root / "CSVFILES" / name, root / Path(name).stem / name]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        _refuse(
            root / name,
            "is not there, nor in CSVFILES/, nor in a folder of its own name. It is part of the "
            "challenge's download.",
            "no_table",
        )
    sheet = read_sheet(path)
    for column in columns:
        sheet.require(column, "It is part of the challenge's table.")
    return sheet


def _read_candidates(root: Path, version: Version) -> list[_Candidate]:
    """Returns the candidates, each place of a scan once."""
    sheet = _read_table(root, _TABLES[version], ("seriesuid", *_POSITION, "class"))
    found: dict[tuple[str, Point], _Candidate] = {}
    for row in sheet:
        if not row.get("seriesuid"):
            _refuse(
                sheet.path,
                f"line {row.line}: there is no seriesuid, so nobody can tell whose candidate it "
                "is. Take the table anew from the challenge.",
                "empty_cell",
            )
        if row.get("class") not in ("0", "1"):
            _refuse(
                sheet.path,
                f"line {row.line}: the class is `{row.get('class')}`, and should be 0 or 1.",
                "no_label",
            )
        center = _read_point(sheet, row)
        one = _Candidate(row.get("seriesuid"), center, row.get("class") == "1", row.line)
        first = found.setdefault((one.scan, center), one)
        if first.is_nodule != one.is_nodule:
            _refuse(
                sheet.path,
                f"line {row.line}: the candidate is a {CLASSES[one.is_nodule]}, and the same place "
                f"of the scan is a {CLASSES[first.is_nodule]} in line {first.line}. Keep the right "
                "one.",
                "double_case",
            )
    return list(found.values())


def _read_point(sheet: Sheet, row: Row) -> Point:
    x, y, z = (_read_mm(sheet, row, column) for column in _POSITION)
    return x, y, z


def _read_mm(sheet: Sheet, row: Row, column: str) -> float:
    value = read_decimal(row.get(column), comma=sheet.decimal_comma)
    if value is None:
        _refuse(
            sheet.path,
            f"line {row.line}: `{row.get(column)}` in the column `{column}` is no number.",
            "no_number",
        )
    return value


def _read_nodules(root: Path) -> dict[str, list[tuple[Point, float]]]:
    """Returns scan -> centres and diameters, mm."""
    sheet = _read_table(root, "annotations.csv", ("seriesuid", *_POSITION, "diameter_mm"))
    nodules = defaultdict(list)
    for row in sheet:
        diameter = _read_mm(sheet, row, "diameter_mm")
        nodules[row.get("seriesuid")].append((_read_point(sheet, row), diameter))
    return nodules


def _find_diameter(candidate: _Candidate, nodules: Sequence[tuple[Point, float]]) -> float | None:
    """Returns the diameter of the nearest nodule in which the candidate lies."""
    near = [(math.dist(candidate.center, center), diameter) for center, diameter in nodules]
    inside = [(distance, diameter) for distance, diameter in near if distance <= diameter / 2]
    return min(inside)[1] if inside else None


def _keep_negatives(candidates: Sequence[_Candidate], ratio: float | None) -> Sequence[_Candidate]:
    if ratio is None:
        return candidates
    others = [candidate for candidate in candidates if not candidate.is_nodule]
    wanted = round(ratio * (len(candidates) - len(others)))
    kept = {candidate.line for candidate in sorted(others, key=_hash)[:wanted]}
    return [candidate for candidate in candidates if candidate.is_nodule or candidate.line in kept]


def _hash(candidate: _Candidate) -> str:
    text = "|".join([candidate.scan, *(f"{value:.6f}" for value in candidate.center)])
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
