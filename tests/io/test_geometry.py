"""Laws of orientation, for every box that a file may hold: upright, turned, mirrored, sheared."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io.geometry import (
    CANONICAL_AXES,
    LETTERS,
    Plane,
    PlaneOrAuto,
    canonical_affine,
    orient,
    orient_to_letters,
)

SHAPES = st.tuples(*[st.integers(1, 5)] * 3)
SPACINGS = st.tuples(*[st.floats(0.2, 12.0)] * 3)
ORIGINS = st.tuples(*[st.floats(-500.0, 500.0)] * 3)
ANGLES = st.tuples(*[st.floats(-np.pi, np.pi)] * 3)
PLANES: tuple[PlaneOrAuto, ...] = ("auto", "axial", "coronal", "sagittal")
MM = 1e-6
"""Positions reach 600 mm in double precision; a millionth of a mm leaves room for the sums."""


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turned = step @ turned
    return turned


@st.composite
def affines(draw: st.DrawFn) -> NDArray[np.float64]:
    """Any rotation, mirrored or not, with a shear of up to 35 degrees."""
    matrix = rotation(draw(ANGLES))
    shear = np.eye(3)
    shear[0, 2], shear[1, 2] = draw(st.floats(-0.5, 0.5)), draw(st.floats(-0.5, 0.5))
    mirror = np.diag([draw(st.sampled_from([-1.0, 1.0])), 1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = matrix @ shear @ mirror * np.array(draw(SPACINGS))
    affine[:3, 3] = draw(ORIGINS)
    return affine


def index_grid(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(float)


@settings(max_examples=150, deadline=None)
@given(affine=affines(), shape=SHAPES, plane=st.sampled_from(PLANES))
def test_turning_an_array_and_back_gives_the_array(
    affine: NDArray[np.float64], shape: tuple[int, int, int], plane: PlaneOrAuto
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    orientation = orient(affine, shape, plane=plane)
    turned = orientation.apply(array)
    assert turned.shape == orientation.shape
    np.testing.assert_array_equal(orientation.apply_back(turned), array)


@settings(max_examples=150, deadline=None)
@given(affine=affines(), shape=SHAPES, plane=st.sampled_from(PLANES))
def test_every_voxel_keeps_its_place_in_the_patient(
    affine: NDArray[np.float64], shape: tuple[int, int, int], plane: PlaneOrAuto
) -> None:
    orientation = orient(affine, shape, plane=plane)
    before = index_grid(shape) @ affine[:3, :3].T + affine[:3, 3]
    after = index_grid(orientation.shape) @ orientation.affine[:3, :3].T
    after += orientation.affine[:3, 3]
    turned = np.stack([orientation.apply(before[..., axis]) for axis in range(3)], axis=-1)
    np.testing.assert_allclose(turned, after, atol=MM)


@settings(max_examples=150, deadline=None)
@given(affine=affines(), shape=SHAPES, plane=st.sampled_from(PLANES))
def test_positions_are_distances_along_the_normal_and_rise(
    affine: NDArray[np.float64], shape: tuple[int, int, int], plane: PlaneOrAuto
) -> None:
    orientation = orient(affine, shape, plane=plane)
    normal = orientation.normal
    assert np.linalg.norm(normal) == pytest.approx(1)
    within = orientation.affine[:3, 1:3] / np.linalg.norm(orientation.affine[:3, 1:3], axis=0)
    np.testing.assert_allclose(normal @ within, 0, atol=1e-9)
    # Every voxel of a slice has the slice's position, not its first corner alone.
    places = index_grid(orientation.shape) @ orientation.affine[:3, :3].T
    along = (places + orientation.affine[:3, 3]) @ normal
    expected = np.broadcast_to(orientation.positions[:, None, None], orientation.shape)
    np.testing.assert_allclose(along, expected, atol=MM)
    assert np.all(np.diff(orientation.positions) > 0)
    assert orientation.spacing[0] > 0


@settings(max_examples=150, deadline=None)
@given(affine=affines(), shape=SHAPES, plane=st.sampled_from(PLANES))
def test_what_is_canonical_stays_as_it_is(
    affine: NDArray[np.float64], shape: tuple[int, int, int], plane: PlaneOrAuto
) -> None:
    once = orient(affine, shape, plane=plane)
    twice = orient(once.affine, once.shape, plane=plane)
    assert twice.plane == once.plane
    assert twice.order == (0, 1, 2)
    assert twice.flips == (False, False, False)
    np.testing.assert_array_equal(twice.affine, once.affine)


@settings(max_examples=100, deadline=None)
@given(affine=affines(), shape=SHAPES, data=st.data())
def test_the_order_of_a_files_axes_does_not_matter(
    affine: NDArray[np.float64], shape: tuple[int, int, int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations([0, 1, 2]))
    # Two axes alike in length or direction may be told apart either way.
    lengths = np.sort(np.linalg.norm(affine[:3, :3], axis=0))
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    assume(np.diff(lengths).min() > 0.01)
    assume(abs(lengths[2] - 1.5 * lengths[1]) > 0.01)
    assume(np.diff(np.sort(cosines, axis=0), axis=0).min() > 0.01)
    permuted = affine[:, [*order, 3]]
    one = orient(affine, shape)
    other = orient(permuted, (shape[order[0]], shape[order[1]], shape[order[2]]))
    assert (one.plane, one.shape) == (other.plane, other.shape)
    np.testing.assert_allclose(one.affine, other.affine, atol=MM)


@settings(max_examples=60, deadline=None)
@given(spacing=SPACINGS, origin=ORIGINS, shape=SHAPES, letters=st.permutations(["RL", "AP", "SI"]))
def test_letters_name_where_axes_run(
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    shape: tuple[int, int, int],
    letters: list[str],
) -> None:
    code = "".join(pair[0] for pair in letters)
    affine = canonical_affine("coronal", spacing, origin)
    order, flips = orient_to_letters(affine, shape, code)
    for letter, axis, flip in zip(code, order, flips, strict=True):
        world, sign = LETTERS[letter]
        assert affine[world, axis] * (-1 if flip else 1) * sign > 0


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_an_upright_volume_is_its_own_canonical_one(plane: Plane) -> None:
    affine = canonical_affine(plane, (5.0, 0.7, 0.8), (1.0, 2.0, 3.0))
    orientation = orient(affine, (3, 4, 5))
    assert (orientation.plane, orientation.order) == (plane, (0, 1, 2))
    assert orientation.describe() == ()
    np.testing.assert_allclose(orientation.normal, CANONICAL_AXES[plane][0], atol=1e-12)


def test_a_shear_shortens_no_step_and_is_noted() -> None:
    affine = canonical_affine("axial", (5.0, 0.7, 0.8), (0.0, 0.0, 0.0))
    affine[1, 0] = 5.0 * np.tan(np.radians(20))
    orientation = orient(affine, (3, 4, 5))
    assert orientation.spacing == pytest.approx((5.0, 0.7, 0.8))
    assert any("sheared by 20.0 degrees" in note for note in orientation.describe())


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_axis_without_length_is_refused(value: float) -> None:
    affine = np.eye(4)
    affine[1, 1] = value
    with pytest.raises(GeometryError, match="do not span space"):
        orient(affine, (2, 2, 2))
