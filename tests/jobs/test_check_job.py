"""What a check looks at is what a training would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medvid.config import read_config
from medvid.jobs.check import check
from medvid.jobs.task import TaskData


def test_overfitting_is_checked_on_the_cases_that_it_takes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (project / "manifest.csv").read_text(encoding="utf-8").splitlines()
    by_class = [rows[0], *sorted(rows[1:], key=lambda row: row.rpartition(",")[2])]
    (project / "manifest.csv").write_text("\n".join(by_class) + "\n", encoding="utf-8")
    asked: list[Sequence[str]] = []
    loader = TaskData.loader

    def look(data: TaskData, cases: Sequence[str], **options: Any) -> Any:
        asked.append(cases)
        return loader(data, cases, **options)

    monkeypatch.setattr(TaskData, "loader", look)
    check(read_config("tiny.yaml", ["overfit=4"]))
    labels = {row.split(",")[0]: row.rpartition(",")[2] for row in rows[1:]}
    (cases,) = asked
    assert sorted(labels[case] for case in cases) == ["bright", "bright", "dark", "dark"]
