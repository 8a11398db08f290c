"""A series in several folders: copies have a row each, parts of one belong together."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medvid.contract import GeometryError
from medvid.io import open_stack
from medvid.io.scan import scan_tree


def files_of(series: Path) -> list[Path]:
    return sorted(series.glob("*.dcm"))


def copy_to(series: Path, *names: str) -> Path:
    root = series.parent
    for name in names:
        shutil.copytree(series, root / name)
    return root


def test_copies_of_a_series_have_a_row_each(series: Path, volume: NDArray[np.int16]) -> None:
    root = copy_to(series, "backup", "deep/er/copy")
    rows = scan_tree(root)
    assert [row.verdict for row in rows] == ["ok"] * 3
    assert len({row.path for row in rows}) == 3
    for row in rows:
        stack = open_stack(row.path, series=row.series)
        np.testing.assert_array_equal(stack.read()[0], volume)


def test_a_copy_in_a_subfolder_is_left_out_and_noted(
    series: Path, volume: NDArray[np.int16]
) -> None:
    shutil.copytree(series, series / "copy")
    rows = scan_tree(series)
    assert {Path(row.path).name: row.verdict for row in rows} == {"ct": "ok", "copy": "ok"}
    stack = open_stack(series)
    assert stack.num_frames == 8
    assert "8 images of the same series in copy were left out." in stack.notes


def test_a_folder_of_copies_asks_for_one_of_them(series: Path) -> None:
    root = copy_to(series, "backup")
    with pytest.raises(GeometryError, match="2 times, in backup, ct") as caught:
        open_stack(root)
    assert caught.value.code == "several_copies"


def test_a_broken_copy_does_not_spoil_the_good_one(series: Path) -> None:
    root = copy_to(series, "backup")
    files_of(root / "backup")[3].unlink()
    rows = {Path(row.path).name: row.verdict for row in scan_tree(root)}
    assert rows == {"backup": "fixable", "ct": "ok"}


def test_a_series_spread_over_folders_is_one(series: Path, volume: NDArray[np.int16]) -> None:
    for number, file in enumerate(files_of(series)):
        folder = series / f"part{number // 3}"
        folder.mkdir(exist_ok=True)
        shutil.move(file, folder)
    (row,) = scan_tree(series)
    assert (row.verdict, row.frames, Path(row.path)) == ("ok", 8, series)
    np.testing.assert_array_equal(open_stack(series).read()[0], volume)


def test_halves_with_a_gap_between_do_not_become_two_stacks(series: Path) -> None:
    files = files_of(series)
    files[4].unlink()
    for number, file in enumerate([*files[:4], *files[5:]]):
        folder = series / ("low" if number < 4 else "high")
        folder.mkdir(exist_ok=True)
        shutil.move(file, folder)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("fixable", "missing_slices")
