"""LUNA16's candidates end where the table says, in scans of any orientation."""

from pathlib import Path

import pytest

from medvid.contract import SourceError
from medvid.io import open_stack
from medvid.sources import load_adapter

luna16 = load_adapter("luna16")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    luna16.imitate(tmp_path)
    return tmp_path


def test_a_centre_is_the_nodule_also_in_a_flipped_scan(root: Path) -> None:
    records = list(luna16.records(root))
    assert len(records) == 9
    for record in records:
        stack = open_stack(record.path)
        t, h, w = (round(place) for place in stack.locate(record.center))
        value = stack.read([t])[0, 0, h, w]
        assert (value == 100) == (record.label == "nodule")


def test_subsets_are_folds(root: Path) -> None:
    folds = {r.patient_id: r.fold for r in luna16.records(root)}
    assert sorted(folds.values()) == [0, 4, 8]


def test_folders_and_endings_may_be_in_capitals(root: Path) -> None:
    before = [(r.case_id, r.label, r.center, r.fold) for r in luna16.records(root)]
    (root / "subset0").rename(root / "Subset0")
    assert open_stack(next(iter(luna16.records(root))).path).num_frames == 12
    (header,) = (root / "Subset0").glob("*.mhd")
    header.rename(header.with_suffix(".MHD"))
    header.with_name(f"._{header.name}").write_bytes(b"\0\5\x16\7" * 40)
    assert [(r.case_id, r.label, r.center, r.fold) for r in luna16.records(root)] == before


def test_a_scan_in_two_subsets_is_refused(root: Path) -> None:
    (header,) = (root / "subset0").glob("*.mhd")
    (root / "subset7").mkdir()
    for file in (root / "subset0").glob(f"{header.stem}.*"):
        (root / "subset7" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SourceError, match=r"twice: in .*subset0 and .*subset7\. ") as caught:
        list(luna16.records(root))
    assert caught.value.code == "double_case"
    assert "6279" not in caught.value.message


def test_no_series_uid_stands_in_a_name(root: Path) -> None:
    records = list(luna16.records(root))
    assert not any("6279" in r.case_id + r.patient_id for r in records)
    assert not any("6279" in name for name in luna16.missing(root))
    assert len(luna16.missing(root)) == 1


@pytest.mark.parametrize(("ratio", "kept"), [(1.0, 3), (0.5, 2), (2.0, 6), (20.0, 6)])
def test_negatives_are_kept_in_proportion(root: Path, ratio: float, kept: int) -> None:
    labels = [r.label for r in luna16.records(root, negatives=ratio)]
    assert labels.count("nodule") == 3
    assert labels.count("non-nodule") == kept


def test_fewer_negatives_are_part_of_more(root: Path) -> None:
    few = {r.case_id for r in luna16.records(root, negatives=1.0)}
    more = {r.case_id for r in luna16.records(root, negatives=1.5)}
    assert few < more


def test_sizes_are_those_of_the_nodule_in_which_a_candidate_lies(root: Path) -> None:
    records = list(luna16.records(root, sizes=True))
    assert {(r.label, r.extra.get("diameter_mm")) for r in records} == {
        ("nodule", "5.25"),
        ("non-nodule", None),
    }


@pytest.mark.parametrize("place", ["CSVFILES", "candidates_V2"])
def test_tables_are_found_where_the_archives_unpack(root: Path, place: str) -> None:
    (root / place).mkdir()
    (root / "candidates_V2.csv").rename(root / place / "candidates_V2.csv")
    assert len(list(luna16.records(root))) == 9


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("1.2,3,4,5,2", "the class is `2`, and should be 0 or 1"),
        ("1.2,3,x,5,1", "`x` in the column `coordY` is no number"),
        (",3,4,5,1", "line 14: there is no seriesuid"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(root: Path, row: str, sentence: str) -> None:
    with (root / "candidates_V2.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    with pytest.raises(SourceError, match=sentence):
        list(luna16.records(root))


def repeat_candidate(root: Path, line: int, kind: int) -> None:
    """Appends a row of the table again, with its numbers written otherwise."""
    path = root / "candidates_V2.csv"
    text = path.read_text(encoding="utf-8")
    scan, *point, _ = text.splitlines()[line - 1].split(",")
    again = ",".join([scan, *(f"{float(value):.15e}" for value in point), str(kind)])
    path.write_text(f"{text}{again}\n", encoding="utf-8")


def test_a_row_that_stands_there_twice_is_one_candidate(root: Path) -> None:
    before = list(luna16.records(root))
    repeat_candidate(root, 3, 1)
    assert list(luna16.records(root)) == before


def test_one_place_with_two_classes_is_refused(root: Path) -> None:
    repeat_candidate(root, 3, 0)
    with pytest.raises(
        SourceError, match=r"line 14: .* is a non-nodule, .* nodule in line 3\. "
    ) as (caught):
        list(luna16.records(root))
    assert "6279" not in caught.value.message


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match=r"candidates\.csv is not there, nor in CSVFILES/"):
        list(luna16.records(root, candidates="V1"))
    for path in root.rglob("*.mhd"):
        path.unlink()
    with pytest.raises(SourceError, match=r"none of the scans that candidates_V2\.csv names"):
        list(luna16.records(root))
