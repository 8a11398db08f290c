"""Images under a stack's series UID that are no slices of it and no stack: scouts, odd ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medvid.io.dicom_judge import refuse
from medvid.io.dicom_parts import SAME_DIRECTION
from medvid.io.dicom_refusals import FOREIGN
from medvid.io.dicom_regularity import SAME_PLACE_MM, may_hide_gaps, normal_of
from medvid.io.dicom_series import Found, Refusal, Series
from medvid.io.dicom_slice import SliceHeader
from medvid.io.geometry import nearest_plane

SCOUT_IMAGES = 3
"""So few images in another direction than the stack's are a localizer, whatever they call
themselves: scouts come one, two or three at a time."""


def collect_singles(found: list[Found]) -> list[Found]:
    """Calls single images beside a stack what they are: no second stack, perhaps a scout."""
    stacks = [one for one in found if isinstance(one, Series)]
    main = max(stacks, key=lambda one: len(one.slices), default=None)
    singles = [one for one in found if isinstance(one, Refusal) and one.code == "single_image"]
    if main is not None and (between := _list_between(singles, main)):
        mixed = _refuse_between(main, between)
        return [mixed, *(one for one in found if one is not main and one.first not in between)]
    if main is None and len(singles) > 1:
        images = [image for one in singles for image in one.images]
        sentence = (
            "differs from all others in direction, size, pixel size or frame of reference, so no "
            "two of them make a stack (a turning view, or single pictures)."
        )
        return [*(one for one in found if one not in singles), refuse(images, "mixed", sentence)]
    if main is None and not any(_is_broken_stack(one) for one in found):
        return found
    scouts = [] if main is None else [one for one in found if _is_scout(one, main)]
    kept = [one for one in found if not any(one is other for other in (*scouts, *singles))]
    alone = [image for one in singles for image in one.images]
    sentence = (
        "is no slice of the series' stack: another matrix, pixel size, frame of reference or phase."
    )
    if alone:
        kept.append(refuse(alone, "single_image", sentence))
    turned = [image for one in scouts if one.first not in alone for image in one.images]
    if turned:
        sentence = "lies across the series' stack: a localizer (scout), not a slice."
        kept.append(refuse(turned, "localizer", sentence))
    return kept


def _is_broken_stack(one: Found) -> bool:
    return isinstance(one, Refusal) and len(one.images) > 1 and one.code not in FOREIGN


def _list_between(singles: Sequence[Refusal], main: Series) -> list[SliceHeader]:
    """Lists single images that lie like slices of a stack, where these may hide its gaps."""
    along = main.along
    between = []
    for one in singles:
        image = one.first
        if image.position is None or image.orientation is None:
            continue
        place = float(np.array(image.position) @ normal_of(main.first))
        alike = float(normal_of(image) @ normal_of(main.first)) > 1 - SAME_DIRECTION
        if alike and along[0] < place < along[-1] and np.abs(along - place).min() > SAME_PLACE_MM:
            between.append(image)
    return between if may_hide_gaps(len(main.slices), len(between)) else []


def _refuse_between(main: Series, between: Sequence[SliceHeader]) -> Refusal:
    sentence = (
        "lies between slices of another matrix, pixel size or frame of reference, each where one "
        "of theirs may be missing. Export the series again, or move what does not belong to it "
        "elsewhere."
    )
    refusal = refuse(between, "mixed", sentence)
    return replace(refusal, images=(*main.slices, *between), part=main.part)


def _is_scout(found: Found, main: Series) -> bool:
    """Whether a few images lie across a stack under the same UID."""
    images = found.images
    if len(images) > SCOUT_IMAGES or len(main.slices) <= SCOUT_IMAGES:
        return False
    if any(image.orientation is None for image in images):
        return False
    plane = nearest_plane(normal_of(images[0]))
    return plane != nearest_plane(normal_of(main.first))
