"""NRRD and MetaImage: the same stack from every axis order; damaged and colour files refused."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from medvid.contract import DataError
from medvid.io import open_stack
from medvid.io.geometry import Plane, canonical_affine
from medvid.io.scan import scan_tree

SPACING = (5.0, 0.7, 0.8)
ORIGIN = (-10.0, 20.0, 30.0)
FLIPS = [(), (0,), (1, 2), (0, 1, 2)]


@pytest.fixture
def volume() -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1000, 1000, (5, 7, 9)).astype(np.int16)


def save(
    path: Path,
    volume: NDArray[np.int16],
    *,
    plane: Plane = "axial",
    order: tuple[int, ...] = (2, 1, 0),
    flips: tuple[int, ...] = (),
) -> Path:
    """Writes a canonical volume with the file's axes in another order and direction."""
    affine = canonical_affine(plane, SPACING, ORIGIN)
    columns, corner = affine[:3, list(order)], affine[:3, 3].copy()
    voxels = volume.transpose(order)
    for axis in flips:
        corner += columns[:, axis] * (voxels.shape[axis] - 1)
        columns[:, axis] *= -1
        voxels = np.flip(voxels, axis)
    lengths = np.linalg.norm(columns, axis=0)
    # SimpleITK takes arrays as (z, y, x), the last index first.
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetSpacing(lengths.tolist())
    image.SetDirection((columns / lengths).ravel().tolist())
    image.SetOrigin(corner.tolist())
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_every_axis_order_gives_one_array_and_affine(
    tmp_path: Path, volume: NDArray[np.int16], plane: Plane, ending: str
) -> None:
    for number, order in enumerate(permutations(range(3))):
        for flips in FLIPS:
            name = f"v{number}{''.join(map(str, flips))}{ending}"
            path = save(tmp_path / name, volume, plane=plane, order=order, flips=flips)
            stack = open_stack(path)
            assert stack.affine is not None
            np.testing.assert_array_equal(stack.read()[0], volume, err_msg=name)
            expected = canonical_affine(plane, SPACING, ORIGIN)
            np.testing.assert_allclose(stack.affine, expected, atol=1e-9)
            assert stack.spacing == pytest.approx(SPACING)
            assert stack.dtype == np.int16
            assert stack.unit == "mm"
            np.testing.assert_array_equal(stack.read([4, 0])[0], volume[[4, 0]])


def test_floating_point_voxels_are_float32(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.full((3, 4, 5), 0.1))
    SimpleITK.WriteImage(image, str(tmp_path / "v.nrrd"))
    stack = open_stack(tmp_path / "v.nrrd")
    assert stack.dtype == stack.read().dtype == np.float32


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_colours_and_four_axes_are_refused(tmp_path: Path, ending: str) -> None:
    colours = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colours, str(tmp_path / f"rgb{ending}"))
    with pytest.raises(DataError, match=f"rgb{ending} holds 3 values a voxel"):
        open_stack(tmp_path / f"rgb{ending}")
    series = SimpleITK.JoinSeries([SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16)] * 2)
    SimpleITK.WriteImage(series, str(tmp_path / f"four{ending}"))
    with pytest.raises(DataError, match=f"four{ending} has 4 dimensions"):
        open_stack(tmp_path / f"four{ending}")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_volume_cut_short_is_refused_by_name(
    tmp_path: Path, volume: NDArray[np.int16], ending: str
) -> None:
    path = save(tmp_path / f"v{ending}", volume)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=f"v{ending} cannot be read") as caught:
        open_stack(path).read()
    assert caught.value.files == (str(path),)


def test_a_header_without_its_voxels_is_refused(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    save(tmp_path / "v.mhd", volume)
    (tmp_path / "v.raw").unlink()
    with pytest.raises(DataError, match="voxel file may be missing beside it"):
        open_stack(tmp_path / "v.mhd").read()


def test_rows_of_a_scan_name_the_format(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    for name in ("a.nrrd", "b.nhdr", "c.mha", "d.mhd"):
        save(tmp_path / name, volume)
    rows = scan_tree(tmp_path)
    found = [(Path(row.path).name, row.kind) for row in rows if row.verdict == "ok"]
    assert found == [("a.nrrd", "nrrd"), ("b.nhdr", "nrrd"), ("c.mha", "mha"), ("d.mhd", "mha")]
