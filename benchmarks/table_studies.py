"""Finished studies of slice context, put into docs/studies without what is of one machine.

Run: python benchmarks/table_studies.py STUDY [STUDY ...]    (study folders of `medvid context`)

Copies the report without pictures, the figure of the curve and the tables over all cases, and
replaces the table in docs/studies/README.md by one of all studies that lie there. Folders are cut
off the paths on the page and in the command; nothing else is changed.
"""

import argparse
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from results import format_table, replace_between

from medvid.report.html import write_report

PAGES = Path(__file__).resolve().parents[1] / "docs" / "studies"
BEGIN, END = "<!-- studies -->", "<!-- end of studies -->"
FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/'\",]+/)+")
KEPT = ("figures/context.svg", "tables/arms.csv", "tables/comparisons.csv", "tables/controls.csv")


def publish(study: Path) -> None:
    """Writes docs/studies/<name>/ from a finished study."""
    name = json.loads((study / "result.json").read_text(encoding="utf-8"))["name"]
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / name
        shutil.copytree(study, copy, ignore=shutil.ignore_patterns("cells", "cases"))
        folders: set[str] = {f"{study.resolve().parent}/"}
        for own in ("command.txt", "study.yaml", "refused.csv"):
            folders.update(FOLDERS.findall((copy / own).read_text(encoding="utf-8")))
        write_report(copy)  # before anything is cut: it holds study.yaml against its hash
        for own in ("report.html", "command.txt"):
            text = (copy / own).read_text(encoding="utf-8")
            for folder in sorted(folders, key=len, reverse=True):
                text = text.replace(folder, "")
            (copy / own).write_text(text, encoding="utf-8")
        target = PAGES / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in ("report.html", "result.json", "command.txt", *KEPT):
            shutil.copy(copy / file, target / Path(file).name)


def describe(folder: Path) -> list[str]:
    """Returns the row of a study."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))

    def say(arm: str) -> str:
        auc = result["arms"][arm]["metrics"]["auc"]
        low, high = (f"{auc[end]:.3f}" if auc[end] is not None else "?" for end in ("low", "high"))
        return f"{auc['value']:.3f} ({low} to {high})"

    curve = "; ".join(f"{result['arms'][arm]['window']}: {say(arm)}" for arm in result["curve"])
    return [
        f"[{result['name']}]({folder.name}/report.html)",
        f"{result['n_cases']} of {result['n_patients']}",
        f"{result['folds']} x {len(result['seeds'])}",
        curve,
        result["answer"]["sentence"],
    ]


def write_table() -> None:
    """Replaces the table in docs/studies/README.md."""
    headers = ("study", "cases of patients", "folds x seeds", "AUC by window, slices", "answer")
    rows = [describe(path.parent) for path in sorted(PAGES.glob("*/result.json"))]
    replace_between(PAGES / "README.md", BEGIN, END, format_table(headers, rows))


def main() -> None:
    """Publishes the studies that are named, and writes the table of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="*")
    for study in parser.parse_args().studies:
        publish(study)
    write_table()


if __name__ == "__main__":
    main()
