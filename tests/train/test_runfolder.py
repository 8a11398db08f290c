"""A run folder is never overwritten, says what it ran on, and names nobody."""

import getpass
import json
import platform
from datetime import datetime
from pathlib import Path

import pytest

import medvid
from medvid.contract import DataError
from medvid.train.runfolder import (
    RunFolder,
    create_run_folder,
    describe_environment,
    open_run_folder,
    read_json,
    write_json,
    write_text_atomic,
)

NOON = datetime(2026, 1, 2, 12, 0, 0)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    names = [
        create_run_folder(tmp_path / "runs", "nodules", command=["medvid"], now=NOON).path.name
        for _ in range(3)
    ]
    stem = "nodules-20260102-120000"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_a_run_says_its_command_and_environment(tmp_path: Path) -> None:
    command = ["medvid", "train", "my config.yaml"]
    run = create_run_folder(tmp_path, "Läsion: CT/MR", command=command, now=NOON)
    assert run.path.name == "Läsion_CT_MR-20260102-120000"
    assert (run.path / "command.txt").read_text("utf-8") == "medvid train 'my config.yaml'\n"
    environment = read_json(run.path / "environment.json")
    assert environment["medvid"] == medvid.__version__
    assert environment["python"] == platform.python_version()
    assert environment["packages"]["torch"]


def test_the_environment_names_neither_user_nor_computer() -> None:
    text = json.dumps(list(describe_environment().values()))
    for name in (str(Path.home()), platform.node()):
        assert name not in text
    assert f'"{getpass.getuser()}"' not in text


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file stands in the way", encoding="utf-8")
    with pytest.raises(DataError, match=r"No run folder can be made"):
        create_run_folder(tmp_path / "runs", "a", command=[])


def test_a_run_is_opened_again(tmp_path: Path) -> None:
    run = create_run_folder(tmp_path, "a", command=[], now=NOON)
    run.config.write_text("name: a\n", encoding="utf-8")
    assert open_run_folder(str(run.path)) == run


def test_no_run_is_told_apart_from_a_folder_of_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no run folder"):
        open_run_folder(tmp_path / "absent")
    run = create_run_folder(tmp_path, "a", command=[], now=NOON)
    with pytest.raises(DataError, match=r"is no run folder: it holds no config\.yaml\.$"):
        open_run_folder(tmp_path)
    run.config.write_text("name: a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"Did you mean one of the runs in it.*a-20260102-120000"):
        open_run_folder(tmp_path)


def test_a_fold_is_finished_with_its_held_out_predictions(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for fold in (10, 2):
        run.fold(fold).mkdir()
        (run.fold(fold) / "best.ckpt").touch()
    (run.fold(2) / "predictions_val.csv").touch()  # a kill came between validation and test
    (run.fold(10) / "predictions_test.csv").touch()
    assert run.list_folds() == [2, 10]
    assert run.list_finished_folds() == [10]


def test_text_is_whole_and_the_same_on_every_system(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "ä\nb\n")
    assert path.read_bytes() == "ä\nb\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_and_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 0.1, None]})
    assert read_json(path) == {"a": [1, 0.1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1, 0.1, None]}


def test_json_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match="is missing"):
        read_json(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="is no JSON"):
        read_json(path)
