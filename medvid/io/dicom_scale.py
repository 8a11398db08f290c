"""Whether the values of a stack are on one scale; a `GeometryError` where they are not.

An image without a rescale has the values that it stores. Beside one with a rescale it is another
scale, and nothing in the pixels shows it: a slice that lost its slope is merely too bright.
"""

from collections.abc import Sequence

from medvid.contract import GeometryError
from medvid.io.dicom_regularity import head, name_images
from medvid.io.dicom_slice import SliceHeader, list_paths
from medvid.io.wording import agree, count


def require_one_scale(images: Sequence[SliceHeader]) -> None:
    """Refuses images of which only some are rescaled, and PET in several units.

    A rescale by 1 and 0 is the same as none.

    Raises:
        GeometryError: when they differ; names the files.
    """
    bare = [image for image in images if not image.rescaled and _is_as_stored(image)]
    if bare and not all(map(_is_as_stored, images)):
        number = count(len(bare), "image")
        raise GeometryError(
            f"{head(images[0])}{number} of {len(images)} ({name_images(bare)}) "
            f"{agree(len(bare), 'has', 'have')} no rescale and the others have one, so their "
            "values are on different scales. Export the series again.",
            code="mixed_rescale",
            files=list_paths(bare),
        )
    stated = [image for image in images if image.modality == "PT" and image.units]
    odd = [image for image in stated if image.units != stated[0].units]
    if odd:
        raise GeometryError(
            f"{head(images[0])}its {len(images)} images are PET in several units (Units of "
            f"{stated[0].name} against {name_images(odd)}). Export the series again, or move each "
            "unit's images into a folder of their own.",
            code="mixed_units",
            files=list_paths(odd),
        )


def _is_as_stored(image: SliceHeader) -> bool:
    return image.table is None and image.slope == 1 and image.intercept == 0
