"""Several readers' outlines in LIDC-IDRI, in the patient's axes, and which are of one nodule.

The readers worked alone and their files do not say which outlines belong together. That is
estimated from distances as pylidc does (Hancock and Magnan, J Med Imaging 3(4), 2016), so that
counts of nodules and readers can be compared with what has been published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist, pdist

from medvid.contract import SourceError
from medvid.io.dicom_slice import SliceHeader
from medvid.io.lidc_xml import Annotation

READERS = 4
"""Of every scan; more outlines in one place are of several nodules."""

SHRINK, NEAREST_MM = 0.9, 0.1
"""By how much the joining distance shrinks where too many are joined, and where that ends: pylidc's
`factor` and `min_tol`."""


@dataclass(frozen=True, eq=False)
class Mark:
    """An annotation in the patient.

    Args:
        annotation: what the reader drew and said.
        points: (n, 3) of all outlines, mm, DICOM patient axes.
        diameter: the greatest distance of two points of one outline, mm.
    """

    annotation: Annotation
    points: NDArray[np.float64]
    diameter: float

    @property
    def center(self) -> NDArray[np.float64]:
        """(3,) mm, the mean of the points."""
        return np.asarray(self.points.mean(axis=0))


def place_annotation(annotation: Annotation, images: Mapping[str, SliceHeader]) -> Mark:
    """Puts an annotation where the images that its outlines name lie.

    The images' own position, orientation and pixel size count; the file's imageZposition is one
    number, which no tilted or turned slice has.

    Args:
        annotation: of a reading.
        images: SOPInstanceUID -> header; holds all that the outlines name.

    Raises:
        SourceError: when an image does not state where it lies.
    """
    placed, longest = [], 0.0
    for outline in annotation.outlines:
        header = images[outline.image]
        if header.position is None or header.orientation is None or header.pixel_spacing is None:
            raise SourceError(
                f"{header.path} states no ImagePositionPatient, ImageOrientationPatient or "
                "PixelSpacing, so an outline on it has no place.",
                code="no_position",
                files=[header.path],
            )
        between_rows, between_columns = header.pixel_spacing
        along_row, down_column = np.array(header.orientation).reshape(2, 3)
        columns, rows = outline.points[:, :1], outline.points[:, 1:]
        points = columns * between_columns * along_row + rows * between_rows * down_column
        placed.append(np.array(header.position) + points)
        longest = max(longest, float(pdist(points).max(initial=0.0)))
    return Mark(annotation, np.concatenate(placed), longest)


def join_marks(marks: Sequence[Mark], distance: float) -> list[list[Mark]]:
    """Returns the marks nodule by nodule, by rising z of their centre.

    Marks are joined where their points come within `distance`, also by way of a third one. Where
    more than four are joined, all distances of the scan are judged again by a smaller measure, as
    pylidc does; at `NEAREST_MM` they stay joined.

    Args:
        marks: of one scan.
        distance: mm; pylidc takes the slice thickness.
    """
    if not marks:
        return []
    apart = np.zeros((len(marks), len(marks)))
    for place, mark in enumerate(marks):
        for other in range(place):
            apart[place, other] = cdist(mark.points, marks[other].points).min()
    # Undirected components need one triangle of the matrix; the other one must then say no.
    apart[np.triu_indices(len(marks), 1)] = np.inf
    while True:
        _, groups = connected_components(apart <= distance, directed=False)
        if np.bincount(groups).max() <= READERS or distance * SHRINK < NEAREST_MM:
            break
        distance *= SHRINK
    nodules = [
        [mark for mark, own in zip(marks, groups, strict=True) if own == group]
        for group in range(groups.max() + 1)
    ]
    return sorted(nodules, key=lambda own: find_center(own)[::-1])


def find_center(marks: Sequence[Mark]) -> tuple[float, float, float]:
    """Returns (x, y, z) of a nodule, mm: the mean of its readers' centres."""
    x, y, z = np.mean([mark.center for mark in marks], axis=0).tolist()
    return x, y, z
