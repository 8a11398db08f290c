"""What a source's page tells to type works on the source's made-up copy."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from medvid import cli
from medvid.config import list_configs
from medvid.io import open_stack
from medvid.sources import list_adapters, load_adapter

PAGES = Path(__file__).parents[1] / "docs" / "data"
INDEX = PAGES / "README.md"
NAMES = sorted(page.stem for page in PAGES.glob("*.md") if page != INDEX)


def read_page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def list_commands(page: str) -> list[str]:
    """Returns the lines of fenced blocks that make a manifest."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in fenced for line in block.splitlines()]
    return [line for line in lines if line.startswith("medvid manifest ")]


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


def write_copy(name: str, command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a page's command on a made-up copy; manifest.csv lies in the working folder then."""
    root = place / "größe mit Leerzeichen"
    load_adapter(name).imitate(root)
    work = place / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    run_command(
        [str(root) if word == "DATA" else word for word in shlex.split(command)], monkeypatch
    )


def test_commands_are_found_inside_of_fences_alone() -> None:
    page = "medvid manifest no\n```\nls\nmedvid manifest a DATA\n```\n`medvid manifest b`\n"
    assert list_commands(page) == ["medvid manifest a DATA"]


@pytest.mark.parametrize("name", NAMES)
def test_the_one_command_of_a_page_makes_a_manifest_whose_rows_open(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = list_commands(read_page(name))
    words = shlex.split(command)
    assert words[:4] == ["medvid", "manifest", name, "DATA"]
    assert words[4:6] == ["-o", "manifest.csv"]

    write_copy(name, command, tmp_path, monkeypatch)

    records = list(load_adapter("table").records(Path("manifest.csv")))
    assert len({record.case_id for record in records}) > 1
    for record in records:
        sources = record.channels or (record,)
        stacks = [open_stack(source.path, series=source.series) for source in sources]
        assert all(stack.read([0]).size for stack in stacks)
        if record.center is not None:
            stacks[0].locate(record.center)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cq500", "luna16", "medmnist3d", "rsna_ich"])
def test_the_training_that_a_page_names_passes_the_check(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = list_commands(read_page(name))
    write_copy(name, command, tmp_path, monkeypatch)
    named = re.search(r"`medvid train (run/\w+ data\.manifest=manifest\.csv)`", read_page(name))
    assert named is not None
    run_command(["medvid", "check", *named[1].split()], monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_where_from_how_on_disk_and_under_which_terms(name: str) -> None:
    page = read_page(name)
    assert page.startswith("# ")
    assert re.search(r"^```\nDATA/\n", page, re.MULTILINE), "no tree that begins with DATA/"
    assert re.search(r"licen[cs]e|CC BY|CC0|terms", page, re.IGNORECASE)


@pytest.mark.parametrize("name", NAMES)
def test_configs_that_a_page_names_are_shipped(name: str) -> None:
    named = re.findall(r"\b(?:run|data|model)/[a-z0-9_]+\b(?!\.|/)", read_page(name))
    assert set(named) <= set(list_configs())


def test_the_index_names_every_source_and_its_page() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| \[(\w+)\.md\]\((\w+)\.md\) \|$",
        INDEX.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [name for name, _, _ in rows] == list_adapters()
    assert all(name == shown == linked for name, shown, linked in rows)


def test_every_source_has_a_page_and_every_page_a_source() -> None:
    assert list_adapters() == NAMES
