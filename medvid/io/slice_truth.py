"""On which frame of a stack the label of one slice lies.

Readers, hospitals and annotation tools count slices in orders of their own, and sorting and
reorientation change every one of them. A label may therefore name its slice by

* the image's SOPInstanceUID (DICOM), of which only a token is kept;
* the index along the slice axis of a volume file, as nibabel and viewers count it;
* a position in mm.

`place_labels` finds the frame once the stack is open. What has no frame is refused: a label that
slips to the neighbouring slice makes every slice-level result a little worse, and nobody sees it.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medvid.contract import GeometryError, Label, Stack
from medvid.io.identity import TOKEN_DIGITS, instance_token

OUTSIDE_SHARE = 0.5
"""Of a step, how far from its nearest slice a position may lie: half a step is the slice's own."""

INCLINED_SHARE = 0.5
"""Of a step, how much a slice's coordinate may change over its image. Its corner (which DICOM
states) and its centre then differ by a quarter of a step, and both are nearest to this slice."""

ROUNDING_MM = 1e-3
"""Positions in tables are rounded; one in the middle of two slices goes to the lower one."""

FILE_KEY = "file:"

_TOKEN = re.compile(rf"[0-9a-f]{{{TOKEN_DIGITS}}}")


def instance_key(sop_uid: str, frame: int | None = None) -> str:
    """Returns the key of a DICOM image.

    Args:
        sop_uid: its SOPInstanceUID, or the token of one, which comes back as it is.
        frame: of a multi-frame image, counted from 1 as in DICOM.
    """
    token = sop_uid if _TOKEN.fullmatch(sop_uid) else instance_token(sop_uid)
    return token if frame is None or not token else f"{token}#{frame}"


def file_key(index: int) -> str:
    """Returns the key of a volume file's slice; 0-based index along the file's own axis."""
    return f"{FILE_KEY}{index}"


def place_labels(
    stack: Stack,
    path: str | Path,
    placed: Mapping[str | float, Label],
    known: Mapping[int, Label] | None = None,
) -> dict[int, Label]:
    """Returns frame index -> label.

    Args:
        stack: of the case.
        path: of the case, for messages.
        placed: key or position in mm -> label.
        known: labels whose frames are known already.

    Raises:
        GeometryError: for a slice that the stack lacks, or two labels for one slice.
    """
    labels = dict(known or {})
    for place, label in placed.items():
        frame = find_frame(stack, path, place)
        if labels.setdefault(frame, label) != label:
            raise GeometryError(
                f"{path}: {_name(place)} is slice {frame} (from 0, in canonical order), which has "
                "another label already. Give every slice one label.",
                code="double_slice",
                files=[path],
            )
    return dict(sorted(labels.items()))


def find_frame(stack: Stack, path: str | Path, place: str | float) -> int:
    """Returns the frame that a key names or at whose place a position in mm lies.

    Args:
        stack: of the case.
        path: of the case, for messages.
        place: a key as `instance_key` and `file_key` make them, or mm.

    Raises:
        GeometryError: when there is none.
    """
    if isinstance(place, str):
        return _find_key(stack, path, place)
    along = list_coordinates(stack, path)
    frame = int(np.argmin(np.abs(along - place) - ROUNDING_MM * (along < place)))
    if abs(along[frame] - place) > OUTSIDE_SHARE * stack.spacing[0] + ROUNDING_MM:
        raise GeometryError(
            f"{path}: no slice lies at {place:g} mm. The slices lie {stack.spacing[0]:.2f} mm "
            f"apart, from {along[0]:.1f} to {along[-1]:.1f} mm. {_AXES}",
            code="unknown_slice",
            files=[path],
        )
    return frame


_AXES = (
    "Positions are DICOM patient coordinates: z (to the head) of axial slices, y (to the back) of "
    "coronal and x (to the left) of sagittal ones; NIfTI's x and y have the other sign."
)


def list_coordinates(stack: Stack, path: str | Path) -> NDArray[np.float64]:
    """Returns the patient coordinate of every slice's centre along the axis it is nearest to, mm.

    Shape: (T,), rising or falling with t.

    Raises:
        GeometryError: when the stack has no patient axes, or its slices are too inclined to have
            one coordinate each.
    """
    if stack.affine is None:
        raise GeometryError(
            f"{path}: a slice is named by its position in mm, and the file has no patient axes (a "
            "video or a plain array). Number the slices in a column `slice`.",
            code="no_patient_axes",
            files=[path],
        )
    normal = np.cross(stack.affine[:3, 1], stack.affine[:3, 2])
    axis = int(np.argmax(np.abs(normal)))
    down, across = stack.affine[axis, 1:3]
    span = abs(down) * (stack.height - 1) + abs(across) * (stack.width - 1)
    if span > INCLINED_SHARE * stack.spacing[0]:
        raise GeometryError(
            f"{path}: a slice is named by its position in mm, and the slices are inclined: each "
            f"reaches over {span:.1f} mm along {'xyz'[axis]}, more than half a step. Name them by "
            "`sop_uid` (DICOM) or `slice_file` (volume files) instead.",
            code="inclined_slices",
            files=[path],
        )
    frames = np.arange(stack.num_frames)
    if len(stack.positions) == stack.num_frames and stack.num_frames > 1:
        # Even a filled or kept gap has its true positions; the affine knows equal steps only.
        frames = (stack.positions - stack.positions[0]) / stack.spacing[0]
    middle = np.array([0.0, (stack.height - 1) / 2, (stack.width - 1) / 2, 1.0])
    start: float = float(stack.affine[axis] @ middle)
    along: NDArray[np.float64] = start + frames * stack.affine[axis, 0]
    return along


def _find_key(stack: Stack, path: str | Path, key: str) -> int:
    found = [frame for frame, one in enumerate(stack.frame_keys) if key and one == key]
    if len(found) == 1:
        return found[0]
    numbered = any(one.startswith(f"{key}#") for one in stack.frame_keys)
    if numbered or found:
        why = "which is an image of several frames. Add the frame's number: UID#1, UID#2, ..."
    elif not any(stack.frame_keys):
        why = (
            "which nothing in it is called by. Slices have SOPInstanceUIDs in DICOM and an index "
            "in the file in NIfTI, NRRD and MHA, as long as slices are read as they were acquired: "
            "not cut across by `data.plane`, and not resampled along T by `data.spacing`."
        )
    else:
        why = "which is not among its slices. Is the label of another series?"
    raise GeometryError(
        f"{path}: a label names {_name(key)}, {why}", code="unknown_slice", files=[path]
    )


def _name(place: str | float) -> str:
    if not isinstance(place, str):
        return f"the slice at {place:g} mm"
    if place.startswith(FILE_KEY):
        return f"slice {place.removeprefix(FILE_KEY)} of the file"
    return f"the image …{place}"
