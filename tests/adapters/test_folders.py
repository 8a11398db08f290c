"""Folders are classes, files are cases, and patients are never guessed apart."""

from pathlib import Path

import pytest

from medvid.contract import Record, SourceError
from medvid.sources import load_adapter

folders = load_adapter("folders")


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def read(root: Path) -> list[Record]:
    return list(folders.records(root))


def test_cases_come_class_by_class_in_natural_order(tmp_path: Path) -> None:
    fill(tmp_path, "grade 10/a.avi", "grade 2/P10.nii.gz", "grade 2/P2.nii.gz")
    (tmp_path / "grade 2/P3.1.dicom").mkdir()
    assert [record.case_id for record in read(tmp_path)] == [
        "grade 2/P2",
        "grade 2/P3.1.dicom",
        "grade 2/P10",
        "grade 10/a",
    ]
    assert folders.classes(tmp_path) == ("grade 2", "grade 10")


def test_one_name_in_two_classes_is_one_patient(tmp_path: Path) -> None:
    fill(tmp_path, "benign/P7.npy", "malignant/P7.npy")
    assert {record.patient_id for record in read(tmp_path)} == {"P7"}


def test_what_file_managers_leave_behind_is_no_case(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.npy", "a/Thumbs.db", "b/2.npy", "b/.DS_Store", ".git/x", "notes.txt")
    fill(tmp_path, "__MACOSX/a/._1.npy", "a/._1.npy")
    assert [record.case_id for record in read(tmp_path)] == ["a/1", "b/2"]


def test_patients_are_read_from_their_table(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.nii.gz", "b/2.npy")
    (tmp_path / "b/3.0").mkdir()
    text = "case;patient_id\na/1;Anna\nb\\2.npy;Bert\nb/3.0;Bert\n"
    (tmp_path / "patients.csv").write_text(text, encoding="utf-8")
    assert [record.patient_id for record in read(tmp_path)] == ["Anna", "Bert", "Bert"]


@pytest.mark.parametrize("again", ["a/1", "a/1.nii.gz", "a\\1.nii.gz"])
def test_a_case_of_two_patients_is_refused(tmp_path: Path, again: str) -> None:
    fill(tmp_path, "a/1.nii.gz", "b/2.npy")
    text = f"case,patient_id\na/1,Anna\nb/2,Bert\n{again},Zoe\n"
    (tmp_path / "patients.csv").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match="line 4 says that a/1 is of the patient `Zoe`, and lin"):
        read(tmp_path)
    (tmp_path / "patients.csv").write_text(text.replace("Zoe", "Anna"), encoding="utf-8")
    assert [record.patient_id for record in read(tmp_path)] == ["Anna", "Bert"]


def test_a_folder_with_a_dot_is_not_taken_for_a_file(tmp_path: Path) -> None:
    fill(tmp_path, "a/3.npy", "b/2.npy")
    (tmp_path / "a/3.0").mkdir()
    text = "case,patient_id\na/3,Anna\na/3.0,Zoe\nb/2,Bert\n"
    (tmp_path / "patients.csv").write_text(text, encoding="utf-8")
    found = {record.case_id: record.patient_id for record in read(tmp_path)}
    assert found == {"a/3": "Anna", "a/3.0": "Zoe", "b/2": "Bert"}


def test_a_case_without_a_patient_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.npy", "b/2.npy")
    (tmp_path / "patients.csv").write_text("case,patient_id\na/1,Anna\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"leaves out 1 of 2 cases: b/2"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a/1.npy", "a/1.nii.gz"], "differ only in their ending"),
        (["train/x/1.npy", "test/x/2.npy"], "named like splits"),
        (["1.npy"], "holds no folders"),
        (["a/.hidden"], "hold no cases"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, names: list[str], sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        read(fill(tmp_path, *names))


def test_an_absent_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="There is no folder"):
        read(tmp_path / "none")
