"""What a check looks at is what a training would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from medvid.config import read_config
from medvid.contract import ConfigError, DataError
from medvid.jobs.check import check
from medvid.jobs.task import TaskData
from medvid.train.forward import compute_losses


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


def test_a_frozen_part_is_told_and_one_that_is_not_there_is_refused(project: Path) -> None:
    facts = dict(check(read_config("tiny.yaml", ["train.freeze=[classifier.*]"])).facts)
    assert facts["frozen"].startswith("2 of ")
    with pytest.raises(ConfigError, match=r"`clasifier\.\*`, which no parameter fits"):
        check(read_config("tiny.yaml", ["train.freeze=[clasifier.*]"]))


def test_a_first_loss_that_is_no_number_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = compute_losses

    def overflow(*words: Any, **options: Any) -> dict[str, torch.Tensor]:
        return {name: loss * torch.inf for name, loss in losses(*words, **options).items()}

    monkeypatch.setattr("medvid.jobs.trial.compute_losses", overflow)
    with pytest.raises(DataError, match=r"The loss is inf .* on the cases c\d+, c\d+") as refused:
        check(read_config("tiny.yaml"))
    assert refused.value.exit_code == 3
    assert "transform" in refused.value.message
