"""Made-up anatomy is drawn as physics would have it."""

import numpy as np
import pytest

from medvid.data.rendering import draw_noise, draw_texture, lay, make_grid, to_hu


@pytest.mark.parametrize("spacing", [(1.0, 0.7, 0.7), (3.0, 0.5, 0.5), (5.0, 2.0, 2.0)])
def test_an_ellipsoid_keeps_its_volume_whatever_the_spacing(
    spacing: tuple[float, float, float],
) -> None:
    radii = (9.0, 7.0, 11.0)
    size = tuple(int(60 / step) for step in spacing)
    grid = make_grid((size[0], size[1], size[2]), spacing)
    cover = grid.average(grid.ellipsoid((1.3, -0.4, 2.1), radii))
    # An edge that is blurred alike to both sides adds volume on a convex body: below 3 %.
    truth = 4 / 3 * np.pi * np.prod(radii)
    assert cover.sum() * np.prod(spacing) == pytest.approx(truth, rel=0.03)


def test_a_surface_covers_half() -> None:
    grid = make_grid((4, 4, 4), (1.0, 1.0, 1.0))
    assert grid.cover(np.zeros((1, 1, 1), dtype=np.float32)) == pytest.approx(0.5)


def test_a_slice_half_in_a_body_is_half_its_tissue() -> None:
    grid = make_grid((3, 1, 1), (4.0, 1.0, 1.0))
    cover = grid.average(grid.cover(grid.t))  # the half space below the middle of slice 1
    assert cover.ravel() == pytest.approx([1, 0.5, 0], abs=0.01)


def test_a_turned_body_lies_where_it_was_moved() -> None:
    grid = make_grid((4, 64, 64), (1.0, 1.0, 1.0)).turn(0.7, (0.0, 5.0, -8.0))
    cover = grid.ellipsoid((0.0, 0.0, 0.0), (6.0, 6.0, 6.0)).mean(axis=0)
    center = [(cover.sum(axis=1 - axis) @ np.arange(64)) / cover.sum() for axis in (0, 1)]
    assert center == pytest.approx([31.5 + 5, 31.5 - 8], abs=0.05)


def test_tissue_replaces_by_its_share() -> None:
    volume = np.full((1, 1, 2), -1000, dtype=np.float32)
    lay(volume, np.array([[[0.25, 1.0]]], dtype=np.float32), 200.0)
    assert volume.ravel() == pytest.approx([-700, 200])


def test_noise_has_its_sigma_and_correlates_in_plane_only() -> None:
    noise = draw_noise(np.random.default_rng(0), (20, 100, 100), 30.0)
    assert noise.std() == pytest.approx(30, rel=0.02)
    lags = [
        np.corrcoef(
            np.take(noise, range(1, n), axis).ravel(), np.take(noise, range(n - 1), axis).ravel()
        )
        for axis, n in enumerate(noise.shape)
    ]
    # (1, 2, 1) with itself one step on: (2 + 2) / 6.
    assert [lag[0, 1] for lag in lags] == pytest.approx([0, 2 / 3, 2 / 3], abs=0.02)


def test_texture_is_smooth_and_of_unit_spread() -> None:
    texture = draw_texture(np.random.default_rng(0), (40, 120, 120), (10, 30, 30))
    assert texture.std() == pytest.approx(1, rel=0.1)
    assert abs(texture.mean()) < 0.05
    assert np.abs(np.diff(texture, axis=1)).mean() < 0.4


def test_hu_stay_within_twelve_bits() -> None:
    hu = to_hu(np.array([[[-5000, 0.6, 9000]]], dtype=np.float32))
    assert hu.ravel().tolist() == [-1024, 1, 3071]
    assert hu.dtype == np.int16
