"""MONAI's data lists are read for classification; segmentation is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from medvid.contract import Record, SourceError
from medvid.sources import load_adapter

datalist = load_adapter("datalist")


def write(folder: Path, content: Any) -> Path:
    for name in "abcd":
        (folder / f"{name}.nii.gz").touch()
    path = folder / "list.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read(path: Path) -> list[Record]:
    return list(datalist.records(path))


def refuse(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        read(path)
    return caught.value.message


def test_numbers_are_named_by_the_list(tmp_path: Path) -> None:
    entries = [{"image": "a.nii.gz", "label": 1, "fold": 3, "age": 61}, {"image": "./b.nii.gz"}]
    path = write(tmp_path, {"labels": {"0": "no", "1": "yes"}, "training": entries})
    first, second = read(path)
    assert (first.label, first.fold, first.extra) == ("yes", 3, {"age": "61"})
    assert (first.case_id, first.patient_id, first.split) == ("a", "a", None)
    assert second.label is None


def test_the_name_of_the_list_is_the_split(tmp_path: Path) -> None:
    content = {
        "training": [{"image": "a.nii.gz", "label": "x"}],
        "validation": [{"image": "b.nii.gz", "label": "y"}],
        "test": ["c.nii.gz"],
    }
    assert [record.split for record in read(write(tmp_path, content))] == ["train", "val", "test"]


def test_a_list_of_zeros_and_ones_is_several_findings(tmp_path: Path) -> None:
    content = {
        "labels": {"0": "oedema", "1": "bleed"},
        "training": [{"image": "a.nii.gz", "label": [0, 1]}],
    }
    path = write(tmp_path, content)
    assert read(path)[0].label == {"oedema": 0, "bleed": 1}
    assert datalist.classes(path) == ("bleed", "oedema")


def test_whole_numbers_of_pandas_are_whole(tmp_path: Path) -> None:
    entries = [{"image": "a.nii.gz", "label": 10.0}, {"image": "b.nii.gz", "label": 2}]
    path = write(tmp_path, {"training": entries})
    assert datalist.classes(path) == ("2", "10")


@pytest.mark.parametrize("label", ["nan", "NA", "n/a"])
def test_a_word_for_nothing_is_no_class(tmp_path: Path, label: str) -> None:
    content = {"training": [{"image": "a.nii.gz", "label": label}]}
    assert f"is `{label}`, which would be a class" in refuse(write(tmp_path, content))


def test_a_named_patient_joins_cases(tmp_path: Path) -> None:
    entries = [{"image": f"{name}.nii.gz", "label": 0, "patient_id": 7} for name in "ab"]
    assert {record.patient_id for record in read(write(tmp_path, {"training": entries}))} == {"7"}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"image": "a.nii.gz", "label": "b.nii.gz"}, "b.nii.gz, a segmentation"),
        ({"image": "a.nii.gz", "label": [0, 2]}, "0 or 1 for each"),
        ({"image": "a.nii.gz", "label": 0.5}, "names no class"),
        ({"image": "a.nii.gz", "label": 0, "fold": "x"}, "folds count 0, 1, 2"),
        ({"image": ["a.nii.gz", "b.nii.gz"], "label": 0}, "one path"),
        ({"label": 0}, "one path"),
        ({"image": "gone.nii.gz", "label": 0}, "1 of 2 images that are not there"),
        ({"image": "sub/../d.nii.gz", "label": 0}, "would both be the case `d`"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    (tmp_path / "sub").mkdir()
    content = {"training": [{"image": "d.nii.gz", "label": 0}, entry]}
    assert sentence in refuse(write(tmp_path, content))


def test_null_is_taken_as_absent(tmp_path: Path) -> None:
    nothing = {"label": None, "patient_id": None, "case_id": None, "fold": None, "age": None}
    entries = [{"image": "a.nii.gz", **nothing}, {"image": "b.nii.gz", "label": 0}]
    path = write(tmp_path, {"training": entries, "validation": None, "labels": None})
    first, _ = read(path)
    assert (first.case_id, first.patient_id, first.label, first.extra) == ("a", "a", None, {})


def test_a_patient_number_that_pandas_wrote_as_a_float_is_the_same(tmp_path: Path) -> None:
    entries = [
        {"image": f"{name}.nii.gz", "label": 0, "patient_id": patient}
        for name, patient in (("a", 7), ("b", 7.0), ("c", "7"))
    ]
    assert {record.patient_id for record in read(write(tmp_path, {"training": entries}))} == {"7"}


def test_truth_is_a_number_and_names_may_stand_before_numbers(tmp_path: Path) -> None:
    """As pandas writes a column of truths, and as nnU-Net writes its names."""
    entries = [
        {"image": f"{name}.nii.gz", "label": label}
        for name, label in (("a", True), ("b", 0), ("c", 1.0))
    ]
    plain = read(write(tmp_path, {"training": entries}))
    assert [record.label for record in plain] == ["1", "0", "1"]
    names = {"background": 0, "tumor": 1}
    named = read(write(tmp_path, {"training": entries, "labels": names}))
    assert [record.label for record in named] == ["tumor", "background", "tumor"]


NAMES = {"0": "benign", "1": "malignant"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"training": 5}, "`training` is no list of entries"),
        ({"labels": ["no", "yes"], "training": [{"label": 0}]}, "`labels` is no mapping"),
        ({"labels": NAMES, "training": [{"label": 2}]}, "training[0] has the number 2"),
        ({"labels": NAMES, "training": [{"label": "2"}]}, "`labels` has no name for it"),
        ({"labels": NAMES, "training": [{"label": [0, 1, 0]}]}, "has the number 2 as a label or"),
        (
            {"training": [{"label": [0, 1]}, {"label": [0, 1, 1]}]},
            "2 at training[0] and 3 at training[1]",
        ),
        ({"training": [{"label": 0, "patient_id": ["p"]}]}, "The patient_id of training[0] is ['p"),
        ({"training": [{"label": 0, "patient_id": float("nan")}]}, "is nan; write a text or a wh"),
        ({"training": [{"label": 0, "case_id": True}]}, "The case_id of training[0] is True"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(
    tmp_path: Path, content: dict[str, Any], sentence: str
) -> None:
    if isinstance(content["training"], list):
        for name, entry in zip("abcd", content["training"], strict=False):
            entry["image"] = f"{name}.nii.gz"
    path = write(tmp_path, content)
    assert sentence in refuse(path)


def test_words_stand_beside_a_mapping(tmp_path: Path) -> None:
    entries = [{"image": "a.nii.gz", "label": "cyst"}, {"image": "b.nii.gz", "label": "1"}]
    path = write(tmp_path, {"labels": NAMES, "training": entries})
    assert [record.label for record in read(path)] == ["cyst", "malignant"]


@pytest.mark.parametrize("content", [{}, [], {"training": []}])
def test_a_list_of_nothing_is_refused(tmp_path: Path, content: Any) -> None:
    assert "none of the lists" in refuse(write(tmp_path, content))


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("{'training': []}", encoding="utf-8")
    assert "This is no JSON" in refuse(path)


def test_an_absent_file_is_a_sentence(tmp_path: Path) -> None:
    assert "There is no such file" in refuse(tmp_path / "none.json")
