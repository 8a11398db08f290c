"""Sports-1M's partitions are followed; a video may show several sports."""

from pathlib import Path

import pytest

from medvid.contract import SourceError
from medvid.sources import load_adapter

sports1m = load_adapter("sports1m")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    sports1m.imitate(tmp_path)
    return tmp_path


def test_every_sport_is_0_or_1_and_the_partition_is_the_split(root: Path) -> None:
    found = {r.case_id[-1]: (r.split, r.label) for r in sports1m.records(root)}
    names = ("boomerang", "model aircraft", "pétanque")
    sports = ((0,), (1,), (0, 2), (1, 2), (0,), (1, 2))
    for number, shown in enumerate(sports):
        expected = {name: int(place in shown) for place, name in enumerate(names)}
        assert found[str(number)] == ("train" if number < 4 else "test", expected)


def test_a_million_records_share_their_labels(root: Path) -> None:
    labels = [r.label for r in sports1m.records(root)]
    assert labels[0] is labels[4]
    assert labels[3] is labels[5]


def test_an_absent_video_is_told(root: Path) -> None:
    assert sports1m.missing(root) == ["UDqivjS-l06"]
    assert len(list(sports1m.records(root))) == 6


def test_urls_are_read_in_their_usual_forms(root: Path) -> None:
    path = root / "original/train_partition.txt"
    text = path.read_text(encoding="utf-8")
    text = text.replace("www.youtube.com/watch?v=UDqivjS-l00", "youtu.be/UDqivjS-l00")
    text = text.replace("v=UDqivjS-l01", "v=UDqivjS-l01&feature=x")
    path.write_text(text, encoding="utf-8")
    assert len(list(sports1m.records(root))) == 6


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("https://www.youtube.com/watch?v=UDqivjS-l99 3", "numbers from 0 to 2"),
        ("https://www.youtube.com/watch?v=UDqivjS-l99", "numbers from 0 to 2"),
        ("https://www.youtube.com/ 1", "a URL that ends in a video's identifier"),
        ("https://www.youtube.com/watch?v=UDqivjS-l00 1", "which is in the other partition too"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(root: Path, line: str, sentence: str) -> None:
    (root / "original/test_partition.txt").write_text(line, encoding="utf-8")
    with pytest.raises(SourceError, match=sentence):
        list(sports1m.records(root))


def test_a_line_that_stands_there_twice_counts_once_and_must_name_the_same_sports(
    root: Path,
) -> None:
    before = list(sports1m.records(root))
    path = root / "original/train_partition.txt"
    text = path.read_text(encoding="utf-8")
    line = "https://www.youtube.com/watch?v=UDqivjS-l02"
    path.write_text(f"{text}{line} 2,0\n", encoding="utf-8")
    assert list(sports1m.records(root)) == before
    path.write_text(f"{text}{line} 1\n", encoding="utf-8")
    with pytest.raises(SourceError, match="line 5: names UDqivjS-l02, which is in line 3 with oth"):
        list(sports1m.records(root))


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match=r"labels\.txt is not there"):
        list(sports1m.records(root / "videos"))
    for path in root.rglob("*.mp4"):
        path.unlink()
    with pytest.raises(SourceError, match=r"the first is called UDqivjS-l00\.mp4"):
        list(sports1m.records(root))
