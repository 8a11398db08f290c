"""Adapters are found by the name of their file, and incomplete ones are refused in a sentence."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medvid.contract import ConfigError, SourceError
from medvid.sources import list_adapters, list_sources, load_adapter


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second folder of the namespace package medvid.adapters."""
    package = importlib.import_module("medvid.adapters")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"medvid.adapters.{path.stem}", None)


def test_every_file_of_the_room_is_an_adapter() -> None:
    files = (Path(__file__).parents[1] / "adapters").glob("*.py")
    assert set(list_adapters()) == {path.stem for path in files}


def test_the_four_sources_are_there() -> None:
    assert {"datalist", "folders", "table", "ucf101"} <= set(list_adapters())


def test_a_typo_is_answered_with_the_nearest_adapter() -> None:
    with pytest.raises(ConfigError, match=r"no adapter named `ufc101`.*mean `ucf101`") as caught:
        load_adapter("ufc101")
    assert caught.value.exit_code == 2


def test_the_list_has_a_line_on_every_adapter() -> None:
    rows = {row.name: row for row in list_sources()}
    assert sorted(rows) == list_adapters()
    assert rows["ucf101"].summary.startswith("UCF101: 13,320 videos")


def test_a_file_dropped_into_the_room_is_found(room: Path) -> None:
    code = '"""Mine."""\nCLASSES = ("a", "b")\ndef records(root): ...\ndef imitate(root): ...\n'
    (room / "dropped_in.py").write_text(code, encoding="utf-8")
    row = next(row for row in list_sources() if row.name == "dropped_in")
    assert row.classes == ("a", "b")
    assert row.summary == "Mine."


def test_an_adapter_without_a_part_is_refused_by_name_of_the_part(room: Path) -> None:
    (room / "half_done.py").write_text("def records(root): ...\n", encoding="utf-8")
    with pytest.raises(SourceError, match="lacks imitate and CLASSES or classes") as caught:
        load_adapter("half_done")
    assert caught.value.files == (str(room / "half_done.py"),)
