"""Kinetics' lists are followed; clips that are gone are told."""

from collections import Counter
from pathlib import Path

import pytest

from medvid.contract import SourceError
from medvid.sources import load_adapter

kinetics = load_adapter("kinetics")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    kinetics.imitate(tmp_path)
    return tmp_path


def test_splits_and_labels_are_those_of_the_row(root: Path) -> None:
    records = list(kinetics.records(root))
    assert Counter((r.split, r.label) for r in records) == {
        ("train", "air drumming"): 2,
        ("train", "abseiling"): 2,
        ("val", "air drumming"): 2,
        ("val", "abseiling"): 1,
    }
    assert records[0].case_id == "-0Ab_cD3000_000059_000069"
    assert Path(records[0].path).stem == records[0].case_id
    assert records[0].patient_id == "-0Ab_cD3000"


def test_a_clip_that_is_gone_is_told_and_not_replaced(root: Path) -> None:
    assert kinetics.missing(root) == ["-0Ab_cD3007_000066_000076.mp4"]
    assert len(list(kinetics.records(root))) == 7


def test_clips_are_found_in_any_folder(root: Path) -> None:
    for path in list(root.rglob("*.mp4")):
        path.rename(root / path.name)
    assert len(list(kinetics.records(root))) == 7


def test_two_clips_of_a_video_are_one_patient_unless_asked_otherwise(root: Path) -> None:
    clip = root / "train/abseiling/-0Ab_cD3001_000060_000070.mp4"
    clip.rename(clip.with_name("-0Ab_cD3000_000100_000110.mp4"))
    lines = (root / "annotations/train.csv").read_text(encoding="utf-8")
    lines = lines.replace("-0Ab_cD3001,60,70", "-0Ab_cD3000,100,110")
    (root / "annotations/train.csv").write_text(lines, encoding="utf-8")
    assert len({r.patient_id for r in kinetics.records(root)}) == 6
    assert len({r.patient_id for r in kinetics.records(root, patient="clip")}) == 7


def test_a_test_list_without_labels_gives_unlabelled_cases(root: Path) -> None:
    path = root / "annotations/val.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    unlabelled = [line.partition(",")[2].replace("validate", "test") for line in lines]
    path.write_text("\n".join(unlabelled) + "\n", encoding="utf-8")
    assert [r.label for r in kinetics.records(root) if r.split == "test"] == [None] * 3


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("nan,x,0,10,train", "line 6: the label is `nan`, which would be a class"),
        ("abseiling,x,soon,10,train", "`soon` to `10` are no times in seconds"),
        ("abseiling,x,0,10,holdout", "`holdout` is no split"),
        ("abseiling,-0Ab_cD3000,59,69,train", "has another label or split in an earlier line"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(root: Path, row: str, sentence: str) -> None:
    with (root / "annotations/train.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    with pytest.raises(SourceError, match=sentence):
        list(kinetics.records(root))


def test_lists_may_end_in_capitals_and_what_macos_adds_is_none(root: Path) -> None:
    before = list(kinetics.records(root))
    path = root / "annotations/train.csv"
    path.rename(path.with_name("train.CSV"))
    for name in ("._train.csv", "._val.csv"):
        path.with_name(name).write_bytes(b"\0\5\x16\7" * 40)
    assert list(kinetics.records(root)) == before


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match="holds no CSV with the columns split, time_end"):
        list(kinetics.records(root / "train"))
    for path in root.rglob("*.mp4"):
        path.unlink()
    with pytest.raises(SourceError, match="holds none of the 8 listed clips"):
        list(kinetics.records(root))
