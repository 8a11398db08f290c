"""UCF101's official lists are followed to the letter; what is absent is told."""

from collections import Counter
from pathlib import Path

import pytest

from medvid.contract import SourceError
from medvid.sources import load_adapter

ucf101 = load_adapter("ucf101")
MINI = Path(__file__).parents[2].parent / "shared/data/video_ucf101_mini"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ucf101.imitate(tmp_path)
    return tmp_path


@pytest.fixture
def mini() -> Path:
    if not MINI.is_dir():
        pytest.skip("video_ucf101_mini absent")
    return MINI


@pytest.mark.parametrize(("split", "tested"), [(1, "g01"), (2, "g08"), (3, "g15")])
def test_a_split_tests_the_groups_that_its_list_names(root: Path, split: int, tested: str) -> None:
    records = list(ucf101.records(root, split=split))
    assert len(records) == 6
    assert {r.patient_id for r in records if r.split == "test"} == {
        f"Archery_{tested}",
        f"HandstandPushups_{tested}",
    }


def test_the_two_spellings_of_handstand_are_one_class(root: Path) -> None:
    listed = root / "ucfTrainTestlist/trainlist01.txt"
    text = listed.read_text(encoding="utf-8").replace("HandStand", "Handstand")
    listed.write_text(text, encoding="utf-8")
    labels = Counter(record.label for record in ucf101.records(root))
    assert labels == {"Archery": 3, "HandstandPushups": 3}
    assert ucf101.missing(root) == ucf101.unlisted(root) == []


def test_one_group_number_of_two_classes_is_two_groups(root: Path) -> None:
    assert len({record.patient_id for record in ucf101.records(root)}) == 6


def test_classes_follow_their_numbers(root: Path) -> None:
    index = root / "ucfTrainTestlist/classInd.txt"
    index.write_text("2 HandstandPushups\n1 Archery\n", encoding="utf-8")
    assert ucf101.classes(root) == ("Archery", "HandstandPushups")


def test_endings_may_be_in_capitals_and_any_blank_comes_before_the_number(root: Path) -> None:
    before = [(r.case_id, r.label, r.split) for r in ucf101.records(root)]
    for path in sorted(root.glob("UCF-101/Archery/*.avi")):
        path.rename(path.with_suffix(".AVI"))
        path.with_name(f"._{path.name}").touch()
    for name in ("trainlist01.txt", "classInd.txt"):
        path = root / "ucfTrainTestlist" / name
        path.write_text(path.read_text(encoding="utf-8").replace(" ", "\t"), encoding="utf-8")
    records = list(ucf101.records(root))
    assert [(r.case_id, r.label, r.split) for r in records] == before
    assert ucf101.missing(root) == ucf101.unlisted(root) == []
    assert all(Path(r.path).is_file() for r in records)


def test_an_absent_video_is_told_and_not_replaced(root: Path) -> None:
    (root / "UCF-101/Archery/v_Archery_g08_c01.avi").unlink()
    assert ucf101.missing(root) == ["Archery/v_Archery_g08_c01.avi"]
    assert len(list(ucf101.records(root))) == 5


def test_a_video_of_no_list_is_told(root: Path) -> None:
    (root / "UCF-101/Archery/v_Archery_g25_c01.avi").touch()
    assert ucf101.unlisted(root) == ["Archery/v_Archery_g25_c01.avi"]
    assert len(list(ucf101.records(root))) == 6


def test_a_class_number_that_contradicts_the_index_is_refused(root: Path) -> None:
    listed = root / "ucfTrainTestlist/trainlist01.txt"
    text = listed.read_text(encoding="utf-8").replace("avi 1", "avi 0")
    listed.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=r"the class 0, but classInd\.txt numbers Archery as 1"):
        list(ucf101.records(root))


def test_a_video_in_both_lists_is_refused(root: Path) -> None:
    listed = root / "ucfTrainTestlist/testlist01.txt"
    text = listed.read_text(encoding="utf-8") + "Archery/v_Archery_g08_c01.avi\n"
    listed.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match="a second time in split 1"):
        list(ucf101.records(root))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Juggling/v_Juggling_g01_c01.avi", "no class of classInd.txt"),
        ("Archery/v_Archery_g02_c01.avi one", "`one` where the number of its class belongs"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(root: Path, line: str, sentence: str) -> None:
    (root / "ucfTrainTestlist/testlist01.txt").write_text(line, encoding="utf-8")
    with pytest.raises(SourceError, match=sentence):
        list(ucf101.records(root))


def test_a_root_without_videos_or_lists_is_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match="must hold UCF-101/"):
        list(ucf101.records(root / "UCF-101"))
    (root / "ucfTrainTestlist/testlist01.txt").unlink()
    with pytest.raises(SourceError, match="Unpack the official train/test lists"):
        list(ucf101.records(root))


def test_a_root_with_none_of_the_listed_videos_is_refused(root: Path) -> None:
    for path in root.glob("UCF-101/*/*.avi"):
        path.unlink()
    with pytest.raises(SourceError, match="holds none of the 6 videos of split 1"):
        list(ucf101.records(root))


def test_the_official_lists_have_their_published_lengths(mini: Path) -> None:
    here = list(ucf101.records(mini, split=1))
    assert Counter(record.split for record in here) == {"test": 17, "train": 2}
    # Counts of the authors' lists: 9,537 + 3,783; 9,586 + 3,734; 9,624 + 3,696.
    assert len(ucf101.missing(mini, split=1)) + len(here) == 13_320
    assert len(ucf101.classes(mini)) == 101
    assert ucf101.unlisted(mini, split=1) == []


@pytest.mark.parametrize("split", [1, 2, 3])
def test_no_official_split_has_a_group_on_both_sides(mini: Path, split: int) -> None:
    sides: dict[str, set[str]] = {}
    for record in ucf101.records(mini, split=split):
        sides.setdefault(record.patient_id, set()).add(record.split or "")
    assert all(len(side) == 1 for side in sides.values())
