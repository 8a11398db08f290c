"""Several fixed crops of one clip, for testing; their predictions are averaged."""

from typing import Annotated

import torch
from pydantic import Field

from medvid.transforms.crops import cut, measure_room
from medvid.transforms.flips import mirror
from medvid.transforms.planes import MODALITIES
from medvid.transforms.protocol import OutputSize, Sample, Size

Places = Annotated[int, Field(ge=1)]


class FiveCrop:
    """Makes five clips of one: four corners and the centre.

    Must be the last step: it adds an axis.

    Args:
        size: (H, W) of each crop, in pixels.

    Shape:
        (C, T, H, W) -> (5, C, T, *size): top left, top right, bottom left, bottom right, centre.

    Raises:
        DataError: for frames smaller than `size`.

    References:
        Krizhevsky et al., NIPS 2012, section 4.1.
    """

    output_size: OutputSize = "fixed"
    adds_views = True

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(self, sample: Sample) -> Sample:
        """Returns a sample of five clips."""
        return _join(_cut_five(sample, self.size, "five_crop"))


class TenCrop:
    """Makes ten clips of one: four corners and the centre, and the mirror image of each.

    The standard test of two-stream networks and TSN. On scans the mirror images swap left and
    right: take `five_crop` where a label is lateralised. Must be the last step: it adds an axis.

    Args:
        size: (H, W) of each crop, in pixels.

    Shape:
        (C, T, H, W) -> (10, C, T, *size): the crops of `five_crop`, then those mirrored along W.

    Raises:
        DataError: for frames smaller than `size`.

    References:
        Two-stream networks (Simonyan and Zisserman, NIPS 2014, section 5); TSN (Wang et al., ECCV
        2016, section 4.1).
    """

    output_size: OutputSize = "fixed"
    adds_views = True

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(self, sample: Sample) -> Sample:
        """Returns a sample of ten clips."""
        five = _cut_five(sample, self.size, "ten_crop")
        return _join(five + [mirror(view, ["W"]) for view in five])


class GridCrop:
    """Makes a clip of every place of a grid over the frames, and the mirror image of each.

    On scans the mirror images swap left and right: `mirrored: false` where a label is lateralised.
    Must be the last step: it adds an axis.

    Args:
        size: (H, W) of each crop, in pixels.
        grid: places along H and W, evenly spread from edge to edge; one alone lies in the middle.
        mirrored: also mirror every crop along W.

    Shape:
        (C, T, H, W) -> (K, C, T, *size), K the places of the grid row by row, then those mirrored:
        18 by default.

    Raises:
        DataError: for frames smaller than `size`.

    References:
        FSTCN (Sun et al., ICCV 2015, section 3.4): nine places and their mirror images.
    """

    output_size: OutputSize = "fixed"
    adds_views = True

    def __init__(
        self, size: Size, grid: tuple[Places, Places] = (3, 3), mirrored: bool = True
    ) -> None:
        self.size = size
        self.grid = grid
        self.mirrored = mirrored

    def __call__(self, sample: Sample) -> Sample:
        """Returns a sample of all places."""
        tops, lefts = (
            [room // 2] if places == 1 else [room * k // (places - 1) for k in range(places)]
            for room, places in zip(
                measure_room(sample, self.size, "grid_crop"), self.grid, strict=True
            )
        )
        views = [cut(sample, top, left, self.size) for top in tops for left in lefts]
        return _join(views + [mirror(view, ["W"]) for view in views if self.mirrored])


class ThreeCrop:
    """Makes three clips of one: the beginning, middle and end of the longer side of the frames.

    Must be the last step: it adds an axis.

    Args:
        size: (H, W) of each crop, in pixels.

    Shape:
        (C, T, H, W) -> (3, C, T, *size): left, centre, right; top, centre, bottom for frames that
        are higher than wide. The shorter side is cropped around its middle.

    Raises:
        DataError: for frames smaller than `size`.

    References:
        SlowFast networks (Feichtenhofer et al., ICCV 2019, section 4).
    """

    output_size: OutputSize = "fixed"
    adds_views = True

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(self, sample: Sample) -> Sample:
        """Returns a sample of three clips."""
        room_h, room_w = measure_room(sample, self.size, "three_crop")
        height, width = sample["clip"].shape[-2:]
        if width >= height:
            corners = [(room_h // 2, left) for left in (0, room_w // 2, room_w)]
        else:
            corners = [(top, room_w // 2) for top in (0, room_h // 2, room_h)]
        return _join([cut(sample, top, left, self.size) for top, left in corners])


def _cut_five(sample: Sample, size: Size, what: str) -> list[Sample]:
    room_h, room_w = measure_room(sample, size, what)
    corners = [(0, 0), (0, room_w), (room_h, 0), (room_h, room_w), (room_h // 2, room_w // 2)]
    return [cut(sample, top, left, size) for top, left in corners]


def _join(views: list[Sample]) -> Sample:
    joined = dict(views[0])
    for key in MODALITIES:
        if key in joined:
            joined[key] = torch.stack([view[key] for view in views])
    return joined
