"""The finished cells of a study: pooled, judged, and written as result.json and report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from medvid.config import Config
from medvid.context.arms import Arm
from medvid.context.cells import Cell, list_cells, list_seeds, read_cell
from medvid.context.registration import list_deviations, read_registration
from medvid.context.verdict import judge_arms
from medvid.data.labels import find_label_space
from medvid.evaluate import write_predictions
from medvid.jobs.cell import (
    find_arm,
    list_study_arms,
    read_arm_folds,
    read_cell_predictions,
    read_study,
)
from medvid.jobs.decisions import describe_decisions
from medvid.jobs.plan import expect_width
from medvid.models import build_model, describe_model
from medvid.report.html import write_report
from medvid.sources import load_adapter
from medvid.train.runfolder import RunFolder, read_json, write_json

Size = tuple[int, int, int]


def gather_study(folder: Path) -> dict[str, Any]:
    """Pools the cells of a study, writes predictions/, result.json and report.html.

    Args:
        folder: of a study whose cells are all finished.

    Returns:
        What result.json says.

    Raises:
        DataError: when a cell is missing or damaged.
    """
    config, note = read_study(folder), read_registration(folder)
    arms = list_study_arms(config)
    folds = read_arm_folds(folder, arms[0])
    seeds = list_seeds(config["seed"], config["context"]["seeds"])
    cells = list_cells(arms, seeds, len(folds))
    ended = {cell: read_cell(cell, folder) for cell in cells}
    tables = pool_predictions(folder, arms, cells)
    records = list(load_adapter("table").records(RunFolder(folder).manifest, check_files=False))
    extra = {record.case_id: record.extra for record in records}
    judged = judge_arms(tables, arms, config["context"], config["evaluate"], extra)
    shown = find_arm(config, judged["answer"]["arm"] or judged["curve"][-1])
    result = {
        "kind": "study",
        "version": 1,
        "name": config["name"],
        "task": config["data"]["task"],
        "positions": config["context"]["positions"],
        "hash": note["hash"],
        "registered": note["registered"],
        "deviations": list_deviations(
            read_json(folder / "environment.json"),
            ended.values(),
            note["left_out"],
            pd.read_csv(folder / "refused.csv")["code"],
        ),
        "network": _name_model(config["model"]),
        "length": config["context"]["length"],
        "step_mm": _find_step(ended, cells),
        "steps_mm": ended[cells[0]].get("steps_mm"),  # cells of earlier versions have none
        "planned": expect_width(
            records, folds, find_label_space(records, config["data"]["classes"]), config
        ),
        "decisions": describe_decisions(folder, shown, tables[shown.name], config["evaluate"]),
        **judged,
    }
    costs = {arm.name: _measure_cost(arm, arms, ended) for arm in arms}
    for name, cost in costs.items():
        result["arms"][name] |= cost
    write_json(folder / "result.json", result)
    write_report(folder)
    return result


def pool_predictions(
    folder: Path, arms: Sequence[Arm], cells: Sequence[Cell]
) -> dict[str, pd.DataFrame]:
    """Joins the held-out predictions of every arm's cells, and writes predictions/<arm>.csv."""
    (folder / "predictions").mkdir(exist_ok=True)
    tables: dict[str, pd.DataFrame] = {}
    for arm in arms:
        source = arm.same_as or arm.name
        folds = read_arm_folds(folder, arm)
        parts = [
            read_cell_predictions(cell, folder, folds[cell.fold])
            for cell in cells
            if cell.arm == source
        ]
        tables[arm.name] = pd.concat(parts, ignore_index=True)
        write_predictions(tables[arm.name], folder / "predictions" / f"{arm.name}.csv")
    return tables


def _measure_cost(
    arm: Arm, arms: Sequence[Arm], ended: Mapping[Cell, Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns what an arm cost: parameters, operations of a clip, seconds of an epoch, steps."""
    own = [facts for cell, facts in ended.items() if cell.arm == (arm.same_as or arm.name)]
    clip, section = own[0]["clip"], own[0]["model"]
    t, h, w = clip["size"]
    spacing = None if clip["spacing"] is None else tuple(clip["spacing"])
    with torch.device("meta"):
        model = build_model(
            section,
            in_channels=clip["channels"],
            num_classes=2,
            clip_size=(t, h, w),
            spacing=spacing,
        )
    described = describe_model(model, (t, h, w), clip["channels"])
    return {
        "model": section["name"],
        "parameters": described["parameters"],
        "flops": described["flops"],
        "seconds_per_epoch": float(np.median([facts["seconds_per_epoch"] for facts in own])),
        "steps": round(float(np.mean([facts["steps"] for facts in own]))),
        "cells": len(own),
        "through_plane": described["through_plane"],
    }


def _find_step(ended: Mapping[Cell, Mapping[str, Any]], cells: Sequence[Cell]) -> float | None:
    """Returns the step of the median stack (mm); None for videos."""
    spacing = ended[cells[0]]["clip"]["spacing"]
    return None if spacing is None else float(spacing[0])


def _name_model(section: Config | str) -> str:
    return section if isinstance(section, str) else str(section["name"])
