"""Names that are not UTF-8, and names that a shell takes apart, from the command line."""

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvid import cli
from tests.io.latin import LATIN, make_latin

Cli = Callable[..., Any]


@pytest.fixture
def strange(project: Path) -> Path:
    """Returns a file of the project whose name is Latin-1."""
    folder = make_latin(project / "strange")
    np.save(folder / "a.npy", np.ones((5, 16, 16), np.int16))
    return folder / "a.npy"


def test_a_scan_writes_and_prints_such_names(strange: Path, run_cli: Cli) -> None:
    answer = run_cli("scan", "strange", "-o", "found.csv")
    assert answer.code == 0, answer.err
    assert r"Sch\xe4del" in answer.out
    with Path("found_refused.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["path"], row["code"]) == (r"strange/Sch\xe4del/a.npy", "name_not_utf8")
    assert not list(Path().glob("*.part"))


def test_a_scan_of_such_a_folder_is_json_too(strange: Path, run_cli: Cli) -> None:
    answer = run_cli("scan", strange.parent, "--json")
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)
    assert row["path"].endswith(r"Sch\xe4del/a.npy")
    told = run_cli("scan", strange.parent)
    assert r"Sch\xe4del" in told.out.splitlines()[-1]
    told.out.encode("utf-8")


def test_a_manifest_with_such_a_name_is_refused_and_nothing_is_left(
    strange: Path, run_cli: Cli
) -> None:
    for label in "ab":
        Path("set", label).mkdir(parents=True)
        np.save(Path("set", label, f"{label}.npy"), np.zeros((5, 16, 16), np.int16))
    strange.rename(Path("set", "a", f"{LATIN}.npy"))
    answer = run_cli("manifest", "folders", "set", "-o", "out/m.csv")
    assert answer.code == 3
    assert r"set/a/Sch\xe4del.npy has a name that is not UTF-8" in answer.err
    assert "Rename" in answer.err
    assert not list(Path("out").iterdir())


def test_a_training_leaves_such_a_case_out_where_it_may(strange: Path, run_cli: Cli) -> None:
    for number, line in enumerate(Path("manifest.csv").read_text("utf-8").splitlines()[1:]):
        label = line.rsplit(",", 1)[1]
        Path("set", label).mkdir(parents=True, exist_ok=True)
        Path("scans", f"case {number}.npy").rename(Path("set", label, f"{number}.npy"))
    strange.rename(Path("set", "dark", f"{LATIN}.npy"))
    words = ("tiny.yaml", "data.source=folders", "data.manifest=set", "train.epochs=1")
    stopped = run_cli("train", *words)
    assert stopped.code == 3
    assert r"Sch\xe4del.npy has a name that is not UTF-8" in stopped.err
    answer = run_cli("train", *words, "data.on_bad=quarantine")
    assert answer.code == 0, answer.err
    (run,) = Path("runs").glob("*/refused.csv")
    with run.open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["code"] == "name_not_utf8"
    assert row["path"].endswith(r"Sch\xe4del.npy")


def test_whatever_else_cannot_be_written_is_a_sentence(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        f"secret,runs/{LATIN}/a.npy,secret".encode()

    monkeypatch.setattr("medvid.config.read_config", fail)
    answer = run_cli("check", "tiny.yaml")
    assert answer.code == 3
    assert answer.err.startswith(r"medvid: runs/Sch\xe4del/a.npy has a name")
    assert "secret" not in answer.err


def paste_next(out: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if line.startswith("Next: ")]
    return shlex.split(line)


def test_the_next_line_can_be_pasted(project: Path, run_cli: Cli) -> None:
    scanned = run_cli("scan", project / "scans", "-o", "d/lü m.csv").out
    assert paste_next(scanned)[-4:] == ["medvid", "check", "CONFIG", "data.manifest=d/lü m.csv"]
    bare = run_cli("scan", project / "scans").out
    words = ["Next:", "medvid", "scan", str(project / "scans"), "-o", "manifest.csv"]
    assert paste_next(bare) == words
    made = run_cli("manifest", "table", "manifest.csv", "-o", "d/lü m.csv").out
    assert paste_next(made) == ["Next:", "medvid", "check", "CONFIG", "data.manifest=d/lü m.csv"]
    drawn = run_cli("phantom", "nodule", "two scans", "--cases", "2", "--size", "28,28,28").out
    assert paste_next(drawn) == ["Next:", "medvid", "scan", "two scans"]


def test_the_next_line_of_a_training_can_be_pasted(project: Path, run_cli: Cli) -> None:
    said = run_cli("train", "tiny.yaml", "train.epochs=1", "--runs", "my runs", "--fold", "0").out
    (run,) = Path("my runs").iterdir()
    assert paste_next(said) == ["Next:", "medvid", "train", "--resume", str(run)]
    said = run_cli("train", "--resume", run).out
    assert paste_next(said)[1:-1] == ["medvid", "predict", str(run), "PATH", "-o"]
    said = run_cli("report", run).out
    assert paste_next(said)[-5:] == ["medvid", "report", str(run), "--gallery", "12"]


def test_every_next_line_is_made_of_words() -> None:
    source = Path(cli.__file__).read_text(encoding="utf-8")
    assert source.count("Next:") == 1
    assert '_next(f"' not in source
