"""What is written as a manifest is read back as the same records."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medvid.contract import DataError, Label, Record
from medvid.data.manifest import write_manifest, write_refused
from medvid.io.sheet import is_missing
from medvid.sources import load_adapter

table = load_adapter("table")
ROOT = Path(Path(__file__).anchor)

# Cells are read without the blanks around them, and control characters belong in no label.
words = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="\\/"), min_size=1, max_size=8
).filter(lambda word: not is_missing(word))  # which is no class
# A column name that a spreadsheet's user would write, and that is none of the manifest's own.
names = st.from_regex(r"[a-zäö]{1,6}", fullmatch=True).filter(
    lambda name: name not in ("label", "slice", "path", "series", "split", "fold")
)
findings = st.dictionaries(names, st.integers(0, 1), min_size=1, max_size=3)
millimetres = st.floats(-1e4, 1e4)
places = millimetres | st.from_regex(
    r"file:(0|[1-9][0-9]{0,2})|[0-9a-f]{12}(#[1-9])?", fullmatch=True
)


@st.composite
def draw_fields(draw: st.DrawFn) -> list[dict[str, Any]]:
    labels: st.SearchStrategy[Label] = draw(st.sampled_from([words, findings]))
    cases = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    numbered = st.none() | st.dictionaries(st.integers(0, 500), labels, max_size=3)
    placed = st.none() | st.dictionaries(places, labels, min_size=1, max_size=3)
    return [
        {
            "case_id": case,
            "patient_id": draw(words),
            "path": str(ROOT / draw(words) / "scan.npy"),
            "series": draw(st.none() | words),
            "label": draw(st.none() | labels),
            "slice_labels": draw(numbered),
            "placed_labels": draw(placed),
            "center": draw(st.none() | st.tuples(millimetres, millimetres, millimetres)),
            "split": draw(st.sampled_from([None, "train", "val", "test"])),
            "fold": draw(st.none() | st.integers(0, 9)),
            "extra": draw(st.dictionaries(names, words, max_size=2)),
        }
        for case in cases
    ]


def read(path: Path) -> list[Record]:
    found = table.records(path, check_files=False)
    # a column that one record fills is there for all: empty is what was not given
    return [replace(r, extra={k: v for k, v in r.extra.items() if v}) for r in found]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(fields=draw_fields())
def test_every_record_comes_back_from_its_manifest(
    tmp_path: Path, fields: list[dict[str, Any]]
) -> None:
    records = [Record(**one) for one in fields]
    # Beside slices that are placed otherwise, no numbered ones and none that are known are one.
    records = [
        replace(r, slice_labels=r.slice_labels or None) if r.placed_labels else r for r in records
    ]
    path = tmp_path / "manifest.csv"
    write_manifest(path, records)
    assert read(path) == records


def test_slices_that_are_all_unknown_stay_a_slice_task(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    records = [
        Record("1", "p", str(ROOT / "a.npy"), slice_labels={}),
        Record("2", "q", str(ROOT / "b.npy"), slice_labels={3: "yes"}),
    ]
    write_manifest(path, records)
    assert read(path) == records


def test_the_label_of_the_stack_stands_beside_those_of_its_slices(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    record = Record("1", "p", str(ROOT / "a.npy"), label="yes", slice_labels={0: "no", 4: "yes"})
    write_manifest(path, [record])
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [(row["slice"], row["label"]) for row in rows] == [
        ("", "yes"),
        ("0", "no"),
        ("4", "yes"),
    ]
    assert read(path) == [record]


def test_an_unlabelled_table_with_a_column_like_label_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    record = Record("1", "p", str(ROOT / "a.npy"), extra={"lable": "kept as it is"})
    write_manifest(path, [record])
    assert read(path) == [record]


def test_one_class_and_several_findings_in_one_table_are_refused(tmp_path: Path) -> None:
    records = [
        Record("1", "p", str(ROOT / "a.npy"), label="x"),
        Record("2", "q", str(ROOT / "b.npy"), label={"y": 1}),
    ]
    with pytest.raises(DataError, match="one class, others several findings"):
        write_manifest(tmp_path / "manifest.csv", records)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["Split", "Label_x", "path", "label", "label_x", "x_mm", "slice"])
def test_an_extra_column_cannot_take_the_place_of_another(tmp_path: Path, name: str) -> None:
    record = Record("1", "p", str(ROOT / "a.npy"), extra={name: "1"})
    with pytest.raises(DataError, match=f"extra column `{name}`"):
        write_manifest(tmp_path / "manifest.csv", [record])


def test_a_name_that_is_not_utf_8_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    records = [
        Record("1", "p", str(ROOT / "a.npy"), label="x"),
        Record("2", "q", str(ROOT / "P\udcfc.npy"), label="y"),
    ]
    with pytest.raises(DataError, match=r"P\\xfc\.npy has a name that is not UTF-8"):
        write_manifest(tmp_path / "manifest.csv", records)
    assert not list(tmp_path.iterdir())


def test_what_was_refused_is_listed_whatever_its_name(tmp_path: Path) -> None:
    refused = [(Record("1", "p", "P\udcfc.npy"), DataError("P\udcfc.npy is empty.", code="c"))]
    write_refused(tmp_path / "refused.csv", refused)
    lines = (tmp_path / "refused.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1] == r"1,p,P\xfc.npy,c,P\xfc.npy is empty."
