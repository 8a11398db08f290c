"""Names that are not UTF-8, as archives of other systems leave them: told, and never fatal."""

import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from medvid.contract import DataError
from medvid.data.fingerprint import fingerprint
from medvid.io import open_stack
from medvid.io.names import make_legible
from medvid.io.scan import scan_tree
from medvid.io.series_list import write_series_list
from medvid.io.write import write_dicom_series
from tests.io.latin import LATIN, make_latin


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    """Returns a folder whose name is Latin-1."""
    return make_latin(tmp_path)


def write_stacks(folder: Path) -> None:
    """Writes a volume, an array and a DICOM series, each slice of a value of its own."""
    volume = np.repeat(np.arange(4, dtype=np.int16), 30).reshape(4, 5, 6)
    folder.mkdir(exist_ok=True)
    header, voxels = folder.parent / "v.mhd", folder.parent / "v.raw"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(volume), str(header))
    for file in (header, voxels):
        file.rename(folder / file.name)
    np.save(folder / "a.npy", volume)
    write_dicom_series(folder / "ct", volume, spacing=(5.0, 1.0, 1.0))


def test_a_volume_in_such_a_folder_is_refused_and_the_process_lives(latin: Path) -> None:
    write_stacks(latin)
    with pytest.raises(DataError, match=r"Sch\\xe4del/v\.mhd has a name that is not UTF-8.*Rename"):
        open_stack(latin / "v.mhd")


def test_the_scan_has_a_row_for_everything_and_every_row_can_be_written(latin: Path) -> None:
    write_stacks(latin)
    (latin / "notes.txt").write_text("no scan", encoding="utf-8")
    (latin / "broken.nii").write_bytes(b"nothing")
    write_stacks(latin.parent / "good")
    rows = {row.path: row for row in scan_tree(latin.parent)}
    root = make_legible(str(latin))
    assert root.endswith(r"Sch\xe4del")
    for name in ("v.mhd", "a.npy", "ct"):
        row = rows[os.path.join(root, name)]
        assert (row.verdict, row.code) == ("refused", "name_not_utf8")
        assert r"Sch\xe4del" in row.reason
        assert "Rename" in row.reason
        assert rows[str(latin.parent / "good" / name)].verdict == "ok"
    assert rows[os.path.join(root, "broken.nii")].code != "name_not_utf8"
    assert rows[str(latin.parent)].verdict == "ignored"
    assert len(rows) == 8
    for row in rows.values():
        str(astuple(row)).encode("utf-8")


def test_a_scan_from_within_such_a_folder_refuses_too(
    latin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(latin / "a.npy", np.zeros((4, 5, 6), np.int16))
    monkeypatch.chdir(latin)
    (row,) = scan_tree(".")
    assert (row.path, row.code) == ("a.npy", "name_not_utf8")


def test_a_series_is_read_whatever_its_files_are_called(latin: Path) -> None:
    write_stacks(latin.parent / "good")
    series = latin.parent / "good" / "ct"
    for file in list(series.iterdir()):
        file.rename(series / f"{LATIN}{file.name}")
    assert [row.verdict for row in scan_tree(series)] == ["ok"]
    assert open_stack(series).read()[0, :, 0, 0].tolist() == [0, 1, 2, 3]
    assert fingerprint(series)


def test_the_store_refuses_what_no_manifest_of_a_run_could_name(latin: Path) -> None:
    np.save(latin / "a.npy", np.zeros((4, 5, 6), np.int16))
    with pytest.raises(DataError, match=r"Sch\\xe4del/a\.npy has a name"):
        fingerprint(latin / "a.npy")


def test_a_list_of_a_series_names_no_such_file(latin: Path) -> None:
    write_stacks(latin)
    path = latin.parent / "lists" / "a.series"
    with pytest.raises(DataError, match=r"Sch\\xe4del.* has a name"):
        write_series_list(path, sorted((latin / "ct").iterdir()))
    assert not path.parent.exists()


def test_half_of_a_pair_is_spelled_as_well() -> None:
    assert make_legible("Schädel") == "Schädel"
    assert make_legible("a\ud83d.npy") == r"a\ud83d.npy"
