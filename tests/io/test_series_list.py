"""A list of files is read as the series that it names, and no other of the folder."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from medvid.contract import DataError, GeometryError
from medvid.data.fingerprint import fingerprint
from medvid.io import open_stack
from medvid.io.identity import instance_token, series_token
from medvid.io.scan import scan_tree
from medvid.io.series_list import read_series_list, sort_images, write_series_list
from medvid.io.write import write_dicom_series


def write_flat(folder: Path, values: tuple[int, ...] = (100, 200, 300)) -> dict[int, list[Path]]:
    """Puts a series of each value into one folder; returns their files."""
    files: dict[int, list[Path]] = {}
    folder.mkdir()
    for value in values:
        apart = folder.parent / f"apart_{value}"
        volume = np.full((5, 8, 8), value, np.int16) + np.arange(5, dtype=np.int16)[:, None, None]
        write_dicom_series(apart, volume, spacing=(5.0, 1.0, 1.0), shuffle_names=True)
        moved = [file.rename(folder / f"{value}_{file.name}") for file in apart.glob("*.dcm")]
        files[value] = sorted(moved)
        apart.rmdir()
    return files


def test_only_the_listed_files_are_read(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat")
    (tmp_path / "flat" / "200_broken.dcm").write_bytes(b"no DICOM at all")
    for value, members in files.items():
        path = tmp_path / "größe mit Leerzeichen" / f"{value}.series"
        write_series_list(path, members)
        assert open_stack(path).read()[0, :, 0, 0].tolist() == [value + n for n in range(5)]


def test_a_list_holds_when_its_folder_moves_along(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat")
    write_series_list(tmp_path / "lists" / "a.series", files[100])
    (tmp_path / "new").mkdir()
    shutil.move(tmp_path / "flat", tmp_path / "new" / "flat")
    shutil.move(tmp_path / "lists", tmp_path / "new" / "lists")
    assert open_stack(tmp_path / "new" / "lists" / "a.series").num_frames == 5


def test_images_are_sorted_in_the_order_of_the_files(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat")
    names = [str(file) for file in sorted((tmp_path / "flat").iterdir())]
    seen: list[tuple[int, int]] = []
    images = sort_images(names, progress=lambda done, total: seen.append((done, total)))
    assert [image.file for image in images] == names
    assert len({image.series for image in images}) == 3
    assert {len(image.key) for image in images} == {len(instance_token("1.2"))}
    assert seen == [(15, 15)]
    assert not any(image.fault for image in images)
    assert len(files) == 3


def test_several_processes_sort_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_flat(tmp_path / "flat")
    names = [str(file) for file in sorted((tmp_path / "flat").iterdir())]
    alone = sort_images(names)
    monkeypatch.setattr("medvid.io.series_list.PARALLEL_FROM", 1)
    monkeypatch.setattr("medvid.io.series_list.CHUNK", 4)
    assert sort_images(names, workers=2) == alone


def test_a_file_that_is_no_slice_says_why(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat", (100,))[100]
    files[2].write_bytes(files[2].read_bytes()[:-60])
    files[3].write_bytes(b"nothing of the kind" * 20)
    images = sort_images([str(file) for file in files])
    assert [bool(image.fault) for image in images] == [False, False, True, True, False]
    assert images[2].series == images[0].series != series_token("")
    assert images[3].series == ""
    assert all(str(files[n]) in images[n].fault for n in (2, 3))


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.series"
    for content in (b"flat/one.dcm\n", b"\xff\xfe\x00", b"medvid series 1\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is no list of the files of a series") as caught:
            open_stack(path)
        assert caught.value.code == "no_series_list"


def test_a_listed_file_that_is_gone_is_named(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat", (100,))[100]
    write_series_list(tmp_path / "a.series", files)
    files[1].unlink()
    with pytest.raises(DataError, match=r"names 5 files, and 1 of them are not there, such as"):
        read_series_list(tmp_path / "a.series")


def test_a_list_of_two_series_needs_a_choice(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat", (100, 200))
    write_series_list(tmp_path / "a.series", [*files[100], *files[200]])
    with pytest.raises(GeometryError, match="holds several series"):
        open_stack(tmp_path / "a.series")
    token = sort_images([str(files[200][0])])[0].series
    assert open_stack(tmp_path / "a.series", series=token).read()[0, 0, 0, 0] == 200


def test_a_series_in_two_folders_of_a_list_is_refused(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat", (100,))[100]
    shutil.copytree(tmp_path / "flat", tmp_path / "copy")
    copies = sorted((tmp_path / "copy").iterdir())
    write_series_list(tmp_path / "a.series", [*files, *copies])
    with pytest.raises(GeometryError, match="2 times, in copy, flat"):
        open_stack(tmp_path / "a.series")


def test_a_changed_image_changes_the_fingerprint(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat", (100, 200))
    write_series_list(tmp_path / "a.series", files[100])
    before = fingerprint(tmp_path / "a.series")
    os.utime(files[200][0], (1, 1))
    assert fingerprint(tmp_path / "a.series") == before
    os.utime(files[100][0], (1, 1))
    assert fingerprint(tmp_path / "a.series") != before


def test_a_list_is_written_once(tmp_path: Path) -> None:
    files = write_flat(tmp_path / "flat", (100,))[100]
    path = tmp_path / "a.series"
    write_series_list(path, files)
    os.utime(path, (1, 1))
    write_series_list(path, files)
    assert path.stat().st_mtime == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.series", "flat"]


def test_scan_passes_over_lists(tmp_path: Path) -> None:
    write_series_list(tmp_path / "a.series", write_flat(tmp_path / "flat", (100,))[100])
    rows = scan_tree(tmp_path)
    assert [(row.kind, row.verdict) for row in rows] == [("dicom", "ok"), ("other", "ignored")]
