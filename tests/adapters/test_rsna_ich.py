"""RSNA's labels end on the slices that they were given to, series by series out of one folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medvid.contract import GeometryError, Record, SourceError
from medvid.data.manifest import write_manifest
from medvid.io import open_stack
from medvid.io.series_list import read_series_list
from medvid.io.slice_truth import place_labels
from medvid.sources import load_adapter

rsna_ich = load_adapter("rsna_ich")

FINDINGS = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a copy of three series of two patients, each with bleeding of its own."""
    monkeypatch.setattr(rsna_ich, "_COPY", rsna_ich._COPY[:3])
    rsna_ich.imitate(tmp_path)
    return tmp_path


def list_images(root: Path) -> list[Path]:
    return sorted((root / "stage_2_train").glob("*.dcm"))


def read_rows(root: Path) -> dict[str, str]:
    lines = (root / "stage_2_train.csv").read_text(encoding="utf-8").splitlines()[1:]
    return dict(line.split(",", 1) for line in lines)


def change_table(root: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = root / "stage_2_train.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


def label_frames(record: Record, *, lenient: bool = False) -> dict[int, dict[str, int]]:
    """Returns the labels of a record by the grey value of the frame on which they ended."""
    stack = (
        open_stack(record.path, on_bad="quarantine", on_gap="keep")
        if lenient
        else open_stack(record.path)
    )
    assert record.placed_labels is not None
    labels = place_labels(stack, record.path, record.placed_labels)
    found = {}
    for frame, label in labels.items():
        assert not isinstance(label, str)
        found[int(stack.read([frame])[0, 0, -1, -1])] = dict(label)
    return found


def test_a_label_ends_on_the_slice_that_it_was_given_to(root: Path) -> None:
    records = list(rsna_ich.records(root))
    assert len(records) == 3
    kinds = set()
    for record in records:
        labels = label_frames(record)
        assert sorted(labels) == [100, 110, 120, 130, 140, 150]
        for grey, label in labels.items():
            assert set(label) == set(FINDINGS)
            assert label["any"] == (grey >= 130)
            assert sum(label.values()) == (3 if grey >= 130 else 0)
        kinds.add(tuple(name for name, value in labels[150].items() if value))
    assert len(kinds) == 3


def test_the_table_and_the_pixels_agree_image_by_image(root: Path) -> None:
    rows = read_rows(root)
    greys = {
        path.stem: int(np.frombuffer(path.read_bytes()[-2:], "<i2")[0]) - 1024
        for path in list_images(root)
    }
    wanted = sorted(
        (greys[image], *(int(rows[f"{image}_{name}"]) for name in FINDINGS)) for image in greys
    )
    found = sorted(
        (grey, *(label[name] for name in FINDINGS))
        for record in rsna_ich.records(root)
        for grey, label in label_frames(record).items()
    )
    assert found == wanted


def test_labels_come_back_from_a_manifest_onto_the_same_slices(root: Path) -> None:
    records = list(rsna_ich.records(root))
    write_manifest(root / "manifest.csv", records)
    for record, read in zip(records, load_adapter("table").records(root), strict=True):
        assert label_frames(read) == label_frames(record)


def test_series_of_one_patient_share_a_token(root: Path) -> None:
    records = list(rsna_ich.records(root))
    assert sorted(len([r for r in records if r.patient_id == p.patient_id]) for p in records) == [
        1,
        2,
        2,
    ]
    text = " ".join(f"{r.case_id} {r.patient_id} {r.placed_labels} {r.extra}" for r in records)
    assert "ID_" not in text


def test_lists_lie_where_they_are_asked_for(root: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists of series"
    records = list(rsna_ich.records(root, lists=str(lists)))
    assert {Path(record.path).parent for record in records} == {lists}
    assert not (root / "medvid_series").exists()


def test_the_folder_of_the_archive_is_found(root: Path) -> None:
    home = root / "rsna-intracranial-hemorrhage-detection"
    home.mkdir()
    for name in ("stage_2_train", "stage_2_train.csv"):
        (root / name).rename(home / name)
    assert len(list(rsna_ich.records(root))) == 3


def test_equal_rows_count_once_and_contradictory_ones_are_refused(root: Path) -> None:
    name, value = next(iter(read_rows(root).items()))
    change_table(root, lambda lines: [*lines, f"{name},{value}"])
    assert len(list(rsna_ich.records(root))) == 3
    change_table(root, lambda lines: [*lines, f"{name},{1 - int(value)}"])
    with pytest.raises(
        SourceError, match=f"line 117: the label of {name} is 1, and an earlier row says 0. Keep"
    ):
        list(rsna_ich.records(root))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("ID_000012eaf_any,2", "line 116: the label of ID_000012eaf_any is `2`, not 0 or 1"),
        ("ID_000012eaf_any", "line 116: the label of ID_000012eaf_any is ``, not 0 or 1"),
        ("ID_000012eaf_extradural,1", "`ID_000012eaf_extradural` is no ID_<image>_<finding> with"),
        ("ID_000012eaf_any,1", "has no row ID_000012eaf_epidural; every image has one for each"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(root: Path, row: str, sentence: str) -> None:
    change_table(root, lambda lines: [*lines, row])
    with pytest.raises(SourceError, match=sentence):
        list(rsna_ich.records(root))


def test_another_table_is_refused(root: Path) -> None:
    change_table(root, lambda lines: ["image,epidural", *lines[1:]])
    with pytest.raises(SourceError, match="begins with the columns image, epidural, and should"):
        list(rsna_ich.records(root))
    change_table(root, lambda lines: ["ID,Label"])
    with pytest.raises(SourceError, match="labels no image: it has no rows"):
        list(rsna_ich.records(root))


def test_absent_images_are_reported_and_their_series_are_incomplete(root: Path) -> None:
    gone = list_images(root)[4]
    gone.unlink()
    assert rsna_ich.missing(root) == [gone.name]
    placed = [len(record.placed_labels) for record in rsna_ich.records(root)]
    assert sorted(placed) == [5, 6, 6]


def test_images_without_a_row_are_slices_without_a_label(root: Path) -> None:
    name = list_images(root)[0].stem
    change_table(root, lambda lines: [line for line in lines if not line.startswith(name)])
    assert rsna_ich.unlisted(root) == [f"{name}.dcm"]
    records = list(rsna_ich.records(root))
    assert sorted(len(record.placed_labels) for record in records) == [5, 6, 6]
    assert all(open_stack(record.path).num_frames == 6 for record in records)


def test_a_damaged_image_stops_its_series_or_is_left_out(root: Path) -> None:
    damaged = find_image(root, 120)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    record = next(r for r in rsna_ich.records(root) if r.extra)
    assert record.extra == {"damaged": damaged.name}
    with pytest.raises(GeometryError, match=damaged.name):
        open_stack(record.path)
    labels = label_frames(record, lenient=True)
    assert sorted(labels) == [100, 110, 130, 140, 150]
    assert all(label["any"] == (grey >= 130) for grey, label in labels.items())


def test_a_series_whose_air_was_wrapped_is_refused_and_its_images_are_named(root: Path) -> None:
    wrapped = next(rsna_ich.records(root))
    files = read_series_list(Path(wrapped.path))
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
        dataset.RescaleIntercept = 0
        dataset.save_as(file)
    first, *others = rsna_ich.records(root)
    assert first.extra["damaged"].split() == [file.name for file in files]
    assert first.placed_labels == {}
    assert [record.extra for record in others] == [{}, {}]
    with pytest.raises(GeometryError) as caught:
        open_stack(first.path)
    assert caught.value.code == "no_air"


def find_image(root: Path, grey: int) -> Path:
    ending = np.array([grey + 1024], "<i2").tobytes()
    return next(path for path in list_images(root) if path.read_bytes().endswith(ending))


def test_a_file_that_tells_no_series_stops_or_is_left_out(root: Path) -> None:
    path = list_images(root)[0]
    path.write_bytes(b"not a scan at all" * 50)
    with pytest.raises(SourceError, match="1 of 18 files do not tell their series") as caught:
        list(rsna_ich.records(root))
    assert caught.value.files == (str(path),)
    records = list(rsna_ich.records(root, on_bad="quarantine"))
    assert sorted(len(record.placed_labels) for record in records) == [5, 6, 6]


def test_a_copy_under_another_name_is_refused(root: Path) -> None:
    source = find_image(root, 150)
    shutil.copy(source, source.with_name("ID_copy.dcm"))
    rows = [f"ID_copy_{name},0" for name in FINDINGS]
    change_table(root, lambda lines: [*lines, *rows])
    with pytest.raises(
        SourceError, match=r"image in them: ID_copy\.dcm\. .* Copy these files anew"
    ):
        list(rsna_ich.records(root))


@pytest.mark.parametrize("on_bad", ["stop", "quarantine"])
def test_two_files_that_swapped_their_names_are_refused(root: Path, on_bad: str) -> None:
    below, above = find_image(root, 120), find_image(root, 130)
    aside = below.rename(root / "aside")
    above.rename(below)
    aside.rename(above)
    with pytest.raises(SourceError, match="2 of 18 files are not called after the image") as caught:
        list(rsna_ich.records(root, on_bad=on_bad))
    assert caught.value.code == "other_name"
    assert sorted(caught.value.files) == sorted(map(str, (below, above)))


def test_endings_may_be_in_capitals(root: Path) -> None:
    end = find_image(root, 150)
    other = end.rename(end.with_suffix(".DCM"))
    assert rsna_ich.missing(root) == []
    records = list(rsna_ich.records(root))
    assert [len(record.placed_labels) for record in records] == [6, 6, 6]
    assert all(open_stack(record.path).num_frames == 6 for record in records)
    if not end.exists():  # as on disks that tell the two apart
        shutil.copy(other, end)
        with pytest.raises(SourceError, match=r"lies there as .*\.DCM too\. Keep one"):
            list(rsna_ich.records(root))


def test_what_macos_adds_to_archives_is_no_image(root: Path) -> None:
    before = list(rsna_ich.records(root))
    for path in list_images(root):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" * 40)
    assert list(rsna_ich.records(root)) == before
    assert rsna_ich.unlisted(root) == []


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    for path in list_images(root):
        path.unlink()
    with pytest.raises(SourceError, match=r"holds none of the 18 images that stage_2_train\.csv"):
        list(rsna_ich.records(root))
    (root / "stage_2_train").rmdir()
    with pytest.raises(SourceError, match=r"stage_2_train is not there. The images lie in it, as"):
        list(rsna_ich.records(root))
    (root / "stage_2_train.csv").unlink()
    with pytest.raises(SourceError, match=r"stage_2_train\.csv is not there, nor in rsna-intracr"):
        list(rsna_ich.records(root))


def test_lists_that_cannot_be_written_say_what_to_do(root: Path) -> None:
    (root / "medvid_series").write_text("in the way", encoding="utf-8")
    with pytest.raises(SourceError, match="Name a folder for the lists with lists=FOLDER"):
        list(rsna_ich.records(root))


def test_progress_counts_headers(root: Path) -> None:
    seen = []
    list(rsna_ich.records(root, progress=lambda done, total: seen.append((done, total))))
    assert seen == [(18, 18)]
