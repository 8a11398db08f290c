"""Writes the sections of RESULTS.md: every benchmark replaces its own and keeps the others."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def write_section(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], command: str, note: str = ""
) -> None:
    """Replaces the section `title` of RESULTS.md by a table of this run, and prints it.

    Args:
        title: of the section.
        headers: of the table.
        rows: cells as text.
        command: what makes this section again.
        note: how it was measured, a sentence or two.
    """
    lines = [
        f"## {title}",
        "",
        *([note, ""] if note else []),
        *format_table(headers, rows),
        "",
        f"`{command}`, {describe_conditions()}",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Benchmarks\n\n"
    others = [part for part in re.split(r"(?m)^(?=## )", before) if part.strip()]
    kept = [part for part in others if not part.startswith(f"## {title}\n")]
    sections = sorted([*kept[1:], text + "\n"])
    RESULTS.write_text(kept[0] + "".join(sections), encoding="utf-8")


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (headers, ["---"] * len(headers), *rows)]


def replace_between(page: Path, begin: str, end: str, lines: Sequence[str]) -> str:
    """Replaces what stands between two marks of a page, and returns it with its marks."""
    section = "\n".join([begin, *lines, end])
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(before + section + rest.split(end)[1], encoding="utf-8")
    return section


def describe_conditions() -> str:
    """Returns date, commit and machine, for beside a result."""
    return f"{date.today()}, commit {read_commit()}, {_name_machine()}"


def read_commit() -> str:
    """Returns the commit that is checked out, and whether the package differs from it."""

    def ask(*words: str) -> str:
        answer = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return answer.stdout.strip()

    changed = ask("status", "--porcelain", "--", "medvid")
    return f"{ask('rev-parse', '--short', 'HEAD')}{' with changes' if changed else ''}"


def _name_machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = re.findall(r"model name\s*: (.+)", info.read_text(encoding="utf-8"))
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"
