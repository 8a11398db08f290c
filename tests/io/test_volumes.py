"""NRRD and MetaImage: the same stack from every axis order; damaged and colour files refused."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from medvid.contract import DataError, GeometryError
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


NRRD_HEAD = "NRRD0005\ntype: int16\ndimension: 3\nsizes: 9 7 5\nencoding: raw\nendian: little\n"
META_HEAD = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 9 7 5\n"
META_TAIL = "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
STEPS = "space: LPS\nspace directions: (0.8,0,0) (0,0.7,0) (0,0,5)\n"


def write_text_header(path: Path, fields: str) -> Path:
    """Writes a volume of (9, 7, 5) voxels with a header that SimpleITK would not write."""
    nrrd = path.suffix == ".nrrd"
    head = f"{NRRD_HEAD}{fields}\n" if nrrd else f"{META_HEAD}{fields}{META_TAIL}"
    path.write_bytes(head.encode() + np.zeros((5, 7, 9), "<i2").tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("v.nrrd", "content: x\n"),
        ("v.nrrd", "spacings: 0.8 0.7 nan\n"),
        ("v.nrrd", "axis mins: 0 0 0\naxis maxs: 8 6 4\n"),
        ("v.nrrd", "thicknesses: 0.8 0.7 5\n"),
        ("v.nrrd", "# spacings: 0.8 0.7 5\n"),
        ("v.nrrd", "space: LPS\nspace directions: (0.8,0,0) (0,0.7,0) none\n"),
        ("v.nrrd", "space: LPS\nspace directions: (0.8,0,0) (0,0.7,0) (nan,nan,nan)\n"),
        ("v.mha", ""),
        ("v.mha", "ElementSpacing = 0.8 0.7 0\n"),
        ("v.mha", "elementspacing = 0.8 0.7 5\n"),  # which its library does not know
        ("v.mha", "Comment = ElementSpacing = 0.8 0.7 5\n"),
    ],
)
def test_a_volume_that_does_not_state_its_spacing_is_refused(
    tmp_path: Path, name: str, fields: str
) -> None:
    path = write_text_header(tmp_path / name, fields)
    with pytest.raises(GeometryError, match="does not say how far its voxels lie apart") as caught:
        open_stack(path)
    assert (caught.value.code, caught.value.files) == ("no_spacing", (str(path),))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("v.nrrd", "spacings: 0.8 0.7 5\n"),
        ("v.nrrd", "Spacings: 0.8 0.7 -5\n"),
        ("v.nrrd", STEPS),
        ("v.nrrd", f'{STEPS}space units: "mm" "mm" "mm"\n'),
        ("v.nrrd", f'{STEPS}space units: "" "" ""\n'),
        ("v.mha", "ElementSpacing = 0.8 0.7 5\n"),
        ("v.mha", "ElementSpacing=0.8 0.7 5\nElementSize = 9 9 9\n"),
        ("v.mha", "ElementSize = 0.8 0.7 5\n"),
        ("v.mha", "ElementSpacing = 0.8 0.7 5\nDistanceUnits = mm\n"),
        ("v.mha", "\n\nElementSpacing = 0.8 0.7 5\n\n"),
        ("v.mha", "ElementSpacing = 0.8 0.7 5\nDistanceUnits = ?\n"),
    ],
)
def test_every_way_to_state_a_spacing_is_read(tmp_path: Path, name: str, fields: str) -> None:
    stack = open_stack(write_text_header(tmp_path / name, fields))
    assert stack.spacing == pytest.approx((5.0, 0.7, 0.8))
    assert stack.notes == ()


@pytest.mark.parametrize(
    ("name", "fields", "unit"),
    [
        ("v.nrrd", 'spacings: 800 700 5000\nunits: "um" "um" "um"\n', "micrometres"),
        ("v.nrrd", 'spacings: 800 700 5000\nunits: "\u00b5m" "\u00b5m" "\u00b5m"\n', "micrometres"),
        ("v.nrrd", f'{STEPS.replace("5)", "0.5)")}space units: "cm" "cm" "cm"\n', "cm"),
        ("v.mha", "ElementSpacing = 800 700 5000\nDistanceUnits = um\n", "micrometres"),
        ("v.mha", "ElementSpacing = 0.08 0.07 0.5\nDistanceUnits = cm\n", "cm"),
    ],
)
def test_another_unit_is_turned_into_mm(tmp_path: Path, name: str, fields: str, unit: str) -> None:
    stack = open_stack(write_text_header(tmp_path / name, fields))
    edges = "8 x 7 x 5" if "directions" in fields else "0.8 x 0.7 x 5"
    assert stack.notes == (f"The header counts in {unit}; turned into mm, voxels are {edges} mm.",)


@pytest.mark.parametrize("units", ['"mm" "mm" "um"', '"pixel" "pixel" "pixel"', '"s" "s" "s"'])
def test_what_is_no_length_or_several_is_refused(tmp_path: Path, units: str) -> None:
    path = write_text_header(tmp_path / "v.nrrd", f"{STEPS}space units: {units}\n")
    with pytest.raises(GeometryError, match="and medvid reads mm, cm, metres or micro") as caught:
        open_stack(path)
    assert caught.value.code == "unit_unknown"


def test_a_unit_that_makes_no_scan_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = write_text_header(tmp_path / "v.nrrd", f'{STEPS}space units: "um" "um" "um"\n')
    with pytest.raises(GeometryError, match=r'numbers are micrometres, .* .space units "mm"'):
        open_stack(path)
    path = write_text_header(tmp_path / "v.mha", "ElementSpacing = 0.8 0.7 5\nDistanceUnits = um\n")
    with pytest.raises(GeometryError, match=r"numbers are micrometres, .* .DistanceUnits = mm"):
        open_stack(path)
