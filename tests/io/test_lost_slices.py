"""Where slices are lost, what is left has the true step, or it is refused.

Every second slice of a series is as even as the whole. Files whose headers are lost say nothing of
where they lay, so their number alone tells whether one may have lain between each two of the rest.
"""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medvid.contract import DataError, GeometryError, MedvidError, Stack
from medvid.io import open_stack
from medvid.io.dicom import read_headers
from medvid.io.dicom_elements import NO_PIXELS
from medvid.io.dicom_groups import count_lost
from medvid.io.dicom_headers import read_header
from medvid.io.dicom_series import OnBad
from medvid.io.scan import scan_tree
from medvid.io.study_series import Wish, choose_series
from medvid.io.write import write_dicom_series

STEP_MM = 5.0
HOW = ("gone", "empty", "preamble", "mark", "nameless", "renamed", "damaged", "page", "pixels")
"""What is left of a file: a link that leads nowhere, nothing, zeros, half the mark behind them, a
header that ends before or within its series' number or within the pixels' length, a web page in its
place, or a header whose pixels are cut off."""

SERIES_TAG, PIXELS_TAG = b"\x20\0\x0e\0", b"\xe0\x7f\x10\0"


def damage(files: list[Path], which: list[int], how: str = "damaged") -> None:
    for number in which:
        if how == "gone":
            files[number].unlink()
            files[number].symlink_to("../.git/annex/objects/nothing")
            continue
        content = files[number].read_bytes()
        kept = {
            "empty": 0,
            "preamble": 100,
            "mark": 130,
            "nameless": content.index(SERIES_TAG),
            "renamed": content.index(SERIES_TAG) + 20,
            "damaged": content.rindex(PIXELS_TAG) + 9,
            "page": 0,
            "pixels": len(content) - 10,
        }
        page = b"<html>Log in again</html>" * (how == "page")
        files[number].write_bytes(content[: kept[how]] + page)


def lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away the right to list a folder, also from the superuser."""
    scandir = os.scandir

    def list_or_refuse(path: Any = ".") -> Any:
        if isinstance(path, (str, os.PathLike)) and Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", list_or_refuse)


def open_or_refuse(path: Path, series: str, on_bad: OnBad) -> Stack | None:
    try:
        return open_stack(path, series=series, on_bad=on_bad)
    except MedvidError:
        return None


@pytest.mark.parametrize("how", [how for how in HOW if how != "pixels"])
@pytest.mark.parametrize(
    "lost", [[1, 3, 5, 7], [1, 2, 3, 4, 5, 6], [0, 2, 3, 5, 6]], ids=["half", "ends", "thirds"]
)
def test_even_slices_are_no_stack_where_others_may_lie_between(
    series: Path, lost: list[int], how: str
) -> None:
    damage(sorted(series.iterdir()), lost, how)
    rows = scan_tree(series)
    row, *_ = [row for row in rows if row.series and row.code == "header_damaged"]
    assert (row.verdict, row.code, row.fix) == ("refused", "header_damaged", "")
    told = f"{len(lost)} files in the folders of its {8 - len(lost)} whole images are damaged"
    assert told in row.reason
    assert not [row for row in rows if row.verdict in ("ok", "fixable")]
    for on_bad in get_args(OnBad):
        with pytest.raises(GeometryError, match="missing without a trace") as caught:
            open_stack(series, series=row.series, on_bad=on_bad)
        assert caught.value.code == "header_damaged"


def test_files_on_which_a_reader_died_may_have_been_slices(series: Path) -> None:
    whole = read_header(sorted(series.iterdir())[0])
    for name, lost in (("IM_0009.dcm", 1), ("mask.nii", 0)):
        found = count_lost([whole], [("reader_crashed", str(series / name))])
        assert sum(found.values()) == lost


def test_few_lost_files_cannot_hide_and_are_noted(series: Path, volume: NDArray[np.int16]) -> None:
    damage(sorted(series.iterdir()), [0, 1, 7])
    stack = open_stack(series)
    assert (stack.spacing[0], stack.left_out) == (STEP_MM, 3)
    np.testing.assert_array_equal(stack.read()[0], volume[2:7])
    assert any("3 unreadable files were left out" in note for note in stack.notes)


def test_a_folder_that_cannot_be_searched_may_hold_every_second_slice(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (series / "odd").mkdir()
    for file in sorted(series.glob("*.dcm"))[1::2]:
        file.rename(series / "odd" / file.name)
    lock(series / "odd", monkeypatch)
    rows = {row.path: row for row in scan_tree(series)}
    assert rows[str(series)].code == rows[str(series / "odd")].code == "folder_unreadable"
    assert [row.verdict for row in rows.values()] == ["refused", "refused"]
    with pytest.raises(GeometryError, match="a folder beside its 4 whole images cannot be"):
        open_stack(series)


def test_a_folder_that_cannot_be_searched_elsewhere_is_noted(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = series.parent / "other"
    other.mkdir()
    lock(other, monkeypatch)
    stack = open_stack(series.parent)
    assert "1 folder cannot be searched (other): what it holds is unknown." in stack.notes
    assert stack.left_out == 1
    lock(series, monkeypatch)
    with pytest.raises(DataError, match="cannot be searched: Permission denied"):
        open_stack(series.parent)


def test_a_linked_folder_is_noted(series: Path) -> None:
    (series / "more").symlink_to(series.parent, target_is_directory=True)
    assert "1 linked folder was not followed (more)." in open_stack(series).notes


def test_no_series_is_chosen_of_a_study_that_is_searched_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = np.zeros((30, 8, 8), np.int16)
    write_dicom_series(tmp_path / "study" / "ct", head, spacing=(STEP_MM, 1.0, 1.0))
    (tmp_path / "study" / "ct" / "more").mkdir()
    lock(tmp_path / "study" / "ct" / "more", monkeypatch)
    wish = Wish(series="thin", contrast=True, bone=True, names="*")
    choice = choose_series([tmp_path / "study"], wish)[tmp_path / "study"]
    assert "refused: folder_unreadable" in choice.why


def test_every_second_broken_slice_is_not_left_out(series: Path) -> None:
    """Four whole slices and three broken ones between them: ten millimetres are not the step."""
    files = sorted(series.iterdir())
    files[7].unlink()
    damage(files, [1, 3, 5], how="pixels")
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("refused", "truncated")
    with pytest.raises(GeometryError):
        open_stack(series, on_bad="quarantine")


@pytest.mark.parametrize("apart", [False, True], ids=["two folders", "a folder each"])
def test_lost_slices_in_other_folders_of_the_series_count(series: Path, apart: bool) -> None:
    files = sorted(series.iterdir())
    damage(files, [1, 3, 5, 7], "empty")
    for number, file in enumerate(files):
        place = series / (f"{number}" if apart else "high" if number > 3 else "low")
        place.mkdir(exist_ok=True)
        file.rename(place / file.name)
    (row,) = [row for row in scan_tree(series) if row.series]
    assert (row.verdict, row.code) == ("refused", "header_damaged")
    with pytest.raises(GeometryError, match="missing without a trace"):
        open_stack(series)


def test_whatever_is_left_of_a_header_is_no_slice_of_another_series(series: Path) -> None:
    """Cut off anywhere before its pixels, a file is damaged, nameless, or a header alone."""
    file = sorted(series.iterdir())[0]
    content = file.read_bytes()
    whole = read_header(file)
    for kept in range(content.rindex(PIXELS_TAG)):
        file.write_bytes(content[:kept])
        headers, errors = read_headers([file])
        if headers and headers[0].uid:
            assert (headers[0].uid, headers[0].offset) == (whole.uid, NO_PIXELS)
        else:
            assert count_lost([whole, *headers], [(e.code, str(file)) for e in errors]), kept


def test_what_keeps_a_broken_slice_from_being_left_out_is_said(series: Path) -> None:
    damage(sorted(series.iterdir()), [0], "pixels")
    assert open_stack(series, on_bad="quarantine").num_frames == 7
    for number in range(7):
        (series / f"IM_{number + 20:04d}.dcm").touch()
    with pytest.raises(GeometryError, match=r"cut off.* 7 files in the folders of its 7 whole"):
        open_stack(series, on_bad="quarantine")


def test_maps_with_an_empty_background_are_no_lost_slices(series: Path) -> None:
    for name in ("t1map.bin", "t2map.bin", "roi_a", "roi_b", "roi_c", "roi_d", "roi_e"):
        (series / name).write_bytes(bytes(20_000))
    assert open_stack(series).num_frames == 8
    rows = scan_tree(series)
    assert [row.code for row in rows if not row.series] == ["only_zeros"] * 7


def test_what_lies_in_another_folder_is_no_lost_slice(series: Path) -> None:
    other = series.parent / "other"
    shutil.copytree(series, other)
    damage(sorted(other.iterdir()), list(range(8)))
    row, *refused = scan_tree(series.parent)
    assert (row.verdict, len(refused)) == ("ok", 8)
    assert open_stack(series.parent, series=row.series).num_frames == 8


def test_a_picture_beside_two_slices_is_no_lost_slice(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    write_dicom_series(tmp_path / "ct", volume[:2], spacing=(STEP_MM, 1.0, 1.0))
    (tmp_path / "ct" / "mask.nii").write_bytes(b"")
    assert open_stack(tmp_path / "ct").num_frames == 2


def test_no_series_of_a_study_is_chosen_where_slices_may_be_missing(tmp_path: Path) -> None:
    head = np.zeros((30, 8, 8), np.int16)
    write_dicom_series(tmp_path / "study" / "ct", head, spacing=(STEP_MM, 1.0, 1.0))
    wish = Wish(series="thin", contrast=True, bone=True, names="*")
    assert choose_series([tmp_path / "study"], wish)[tmp_path / "study"].path
    damage(sorted((tmp_path / "study" / "ct").iterdir()), list(range(1, 30, 2)))
    choice = choose_series([tmp_path / "study"], wish)[tmp_path / "study"]
    assert not choice.path
    assert "15 images, 5 mm thick, refused: header_damaged" in choice.why


@settings(deadline=None)
@given(
    count=st.integers(2, 9),
    lost=st.dictionaries(st.integers(0, 8), st.sampled_from(HOW)),
    on_bad=st.sampled_from(get_args(OnBad)),
)
def test_the_step_is_the_true_one_or_nothing_is_read(
    count: int, lost: dict[int, str], on_bad: OnBad
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        volume = np.arange(count, dtype=np.int16)[:, None, None] + np.zeros((1, 4, 4), np.int16)
        write_dicom_series(folder, volume, spacing=(STEP_MM, 1.0, 1.0))
        files = sorted(Path(folder).iterdir())
        (whole,) = scan_tree(folder)
        lost = {number: how for number, how in lost.items() if number < count}
        for number, how in lost.items():
            damage(files, [number], how)
        opened = open_or_refuse(Path(folder), whole.series, on_bad)
        rows = [row for row in scan_tree(folder) if row.series == whole.series]
        fits = ("ok", "on_bad=quarantine") if on_bad == "quarantine" else ("ok",)
        assert any(row.verdict in fits or row.fix in fits for row in rows) == (opened is not None)
        assert lost or opened is not None
        if opened is not None:
            assert opened.spacing[0] == pytest.approx(STEP_MM)
            shown = opened.read()[0, :, 0, 0]
            assert (np.diff(shown) == 1).all()
            assert set(shown.tolist()).isdisjoint(lost)


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("SamplesPerPixel", 0, "samples"),
        ("SamplesPerPixel", 3, "samples"),
        ("PhotometricInterpretation", "RGB", "photometric"),
    ],
)
def test_a_grey_slice_with_one_word_of_a_colour_image_is_broken(
    series: Path, keyword: str, value: int | str, code: str
) -> None:
    """A screenshot beside the slices is passed over; this is one of them."""
    file = sorted(series.iterdir())[3]
    image = pydicom.dcmread(file)
    setattr(image, keyword, value)
    image.save_as(file)
    (row,) = scan_tree(series)
    assert (row.verdict, row.code) == ("fixable", code)
    assert row.fix == "on_bad=quarantine on_gap=resample"
    with pytest.raises(GeometryError, match=file.name):
        open_stack(series)
