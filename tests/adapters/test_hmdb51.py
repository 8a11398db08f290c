"""HMDB51's lists are followed; what is absent is told."""

from pathlib import Path

import pytest

from medvid.contract import SourceError
from medvid.sources import load_adapter

hmdb51 = load_adapter("hmdb51")
LISTS = "testTrainMulti_7030_splits"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    hmdb51.imitate(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [(1, "April_09", "#20_Sarah"), (2, "Trip", "April_09"), (3, "April_09", "Trip")],
)
def test_1_is_training_2_is_test_and_0_is_left_out(
    root: Path, split: int, train: str, test: str
) -> None:
    sides: dict[str, set[str]] = {"train": set(), "test": set()}
    for record in hmdb51.records(root, split=split):
        sides[record.split].add(record.patient_id)
    assert sides["train"] == {f"brush_hair/{train}", f"wave/{train}"}
    assert sides["test"] == {f"brush_hair/{test}", f"wave/{test}"}


def test_clips_of_a_film_are_one_patient_unless_asked_otherwise(root: Path) -> None:
    films = list(hmdb51.records(root))
    clips = list(hmdb51.records(root, patient="clip"))
    assert len({r.patient_id for r in films}) == 4
    assert len({r.patient_id for r in clips}) == len(clips) == 6


def test_class_folders_may_lie_right_below_the_root(root: Path) -> None:
    for folder in (root / "hmdb51_org").iterdir():
        folder.rename(root / folder.name)
    assert hmdb51.missing(root) == []
    assert {r.label for r in hmdb51.records(root)} == {"brush_hair", "wave"}


def test_folders_and_endings_may_be_in_capitals_and_what_macos_adds_is_none(root: Path) -> None:
    before = [(r.case_id, r.label, r.split) for r in hmdb51.records(root)]
    folder = (root / "hmdb51_org/wave").rename(root / "hmdb51_org/Wave")
    for path in sorted(folder.iterdir()):
        path.rename(path.with_suffix(".AVI"))
    lists = root / LISTS / "wave_test_split1.txt"
    lists.with_name(f"._{lists.name}").write_bytes(b"\0\5\x16\7" * 40)
    text = lists.read_text(encoding="utf-8")
    lists.write_text("\n" + text.replace(".avi ", ".avi\t") + "\n\n", encoding="utf-8")
    records = list(hmdb51.records(root))
    assert [(r.case_id, r.label, r.split) for r in records] == before
    assert hmdb51.missing(root) == []
    assert all(Path(r.path).is_file() for r in records)


def test_an_absent_clip_is_told_unless_the_split_leaves_it_out(root: Path) -> None:
    (root / "hmdb51_org/wave/April_09_wave_u_nm_np1_ba_goo_1.avi").unlink()
    (root / "hmdb51_org/wave/Trip_wave_u_nm_np1_ba_goo_2.avi").unlink()
    assert hmdb51.missing(root, split=1) == ["wave/April_09_wave_u_nm_np1_ba_goo_1.avi"]
    assert len(list(hmdb51.records(root, split=1))) == 5


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a.avi 3", "not `<clip> 0`, 1 or 2"),
        ("a.avi", "not `<clip> 0`, 1 or 2"),
        ("a.avi 1\nA.avi 2", "names A.avi twice"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(root: Path, line: str, sentence: str) -> None:
    (root / LISTS / "wave_test_split1.txt").write_text(line, encoding="utf-8")
    with pytest.raises(SourceError, match=sentence):
        list(hmdb51.records(root))


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match=r"Unpack test_train_splits\.rar below the root"):
        list(hmdb51.records(root / "hmdb51_org"))
    for path in root.rglob("*.avi"):
        path.unlink()
    with pytest.raises(SourceError, match="holds none of the 8 clips of split 1"):
        list(hmdb51.records(root))
