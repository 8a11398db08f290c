"""The question is written down before the first training, and a changed one is another study."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from medvid.context.registration import (
    list_deviations,
    pick_versions,
    read_registration,
    register,
)
from medvid.contract import DataError
from medvid.train.runfolder import describe_environment

CODES = ["no_label", "damaged", "no_label", "missing_slices"]

TEXT = "context:\n  windows: [1, 3]\n"


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    register(tmp_path, TEXT, {"far": "too few slices."})
    note = read_registration(tmp_path)
    assert note["hash"] == hashlib.sha256((tmp_path / "study.yaml").read_bytes()).hexdigest()
    assert note["left_out"] == {"far": "too few slices."}


def test_a_study_whose_question_was_changed_does_not_go_on(tmp_path: Path) -> None:
    register(tmp_path, TEXT, {})
    (tmp_path / "study.yaml").write_text(TEXT.replace("3", "5"), encoding="utf-8")
    with pytest.raises(DataError, match="changed since the study was registered") as refused:
        read_registration(tmp_path)
    assert refused.value.code == "changed_study"


def test_a_folder_that_is_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no study"):
        read_registration(tmp_path)


def test_what_differs_from_the_registered_study_is_said() -> None:
    environment = describe_environment()
    same: dict[str, Any] = {"environment": pick_versions(environment)}
    other = {"environment": {**pick_versions(environment), "torch": "9.9"}}
    assert list_deviations(environment, [same], {}, ["no_label"]) == []
    said = list_deviations(environment, [same, other], {"far": "no slices left."}, CODES)
    assert said[0] == "The arm `far` was not run: no slices left."
    assert said[1].startswith("2 cases were left out")
    assert said[2] == (
        f"Some cells were trained with torch 9.9 instead of {environment['packages']['torch']}."
    )
