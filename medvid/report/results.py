"""The JSON files of a folder, read for a page: what is cut off or of another kind is told by name.

A disk that was full, a copy that broke off or an editor leaves half a file. Nobody should meet that
as a traceback, and nothing may be computed from what is left.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvid.contract import DataError

METRICS: Mapping[str, type] = {
    "task": str,
    "classes": list,
    "metrics": dict,
    "per_class": dict,
    "bootstrap": dict,
    "seeds": list,
    "n_cases": int,
    "n_patients": int,
    "n_per_class": dict,
}
"""What every page and every comparison needs of metrics.json, and its kind."""

RESULT: Mapping[str, type] = {
    "name": str,
    "task": str,
    "positions": str,
    "hash": str,
    "registered": str,
    "deviations": list,
    "classes": list,
    "n_cases": int,
    "n_predictions": int,
    "n_patients": int,
    "n_per_class": dict,
    "folds": int,
    "seeds": list,
    "level": float,
    "resamples": int,
    "margin": float,
    "metric": str,
    "arms": dict,
    "curve": list,
    "controls": list,
    "networks": list,
    "learning": list,
    "answer": dict,
    "comparisons": list,
    "control_verdicts": list,
    "subgroups": list,
    "flipped": list,
}
"""The same of result.json."""

SPLIT: Mapping[str, type] = {"fold": int, "train": list, "val": list, "test": list}
"""Of every fold of splits.json."""

PICTURE: Mapping[str, type] = {"case_id": str, "label": str, "file": str, "group": str}
"""Of every case of cases/index.json."""


def read_result(run: Path) -> dict[str, Any]:
    """Returns what result.json of a study says.

    Raises:
        DataError: when it is missing or damaged.
    """
    remedy = f"`medvid context --resume {run}` writes it anew from the finished trainings."
    return _read_mapping(run / "result.json", RESULT, remedy)


def read_metrics(run: Path) -> dict[str, Any]:
    """Returns what metrics.json of a run says.

    Raises:
        DataError: when it is missing or damaged.
    """
    path = run / "metrics.json"
    remedy = f"`medvid train --resume {run}` writes it anew from the finished folds."
    metrics = _read_mapping(path, METRICS, remedy)
    # More than two classes are decided by the likeliest one; else a threshold belongs to a run.
    if metrics["task"] != "multiclass":
        point = metrics.get("operating_point")
        if not isinstance(point, dict) or "threshold" not in point:
            raise _refuse(path, "it names no `operating_point`", remedy)
    return metrics


def read_splits(run: Path) -> list[dict[str, Any]] | None:
    """Returns the folds of splits.json; None where there is none.

    Raises:
        DataError: when it is damaged.
    """
    remedy = "Put back what was there, or take the file away: the page then says so."
    return _read_list(run / "splits.json", SPLIT, remedy)


def read_environment(run: Path) -> dict[str, Any]:
    """Returns what environment.json says; nothing where there is none.

    Raises:
        DataError: when it is damaged.
    """
    path = run / "environment.json"
    remedy = "Put back what was there, or take the file away: the page then lists no versions."
    return _read_mapping(path, {}, remedy) if path.is_file() else {}


def read_pictures(run: Path) -> list[dict[str, Any]]:
    """Returns the cases of cases/index.json; none where there is none.

    Raises:
        DataError: when it is damaged.
    """
    remedy = (
        f"Make the pictures again with `medvid report {run} --gallery 12`, or delete the folder "
        "cases/."
    )
    return _read_list(run / "cases" / "index.json", PICTURE, remedy) or []


def _read_mapping(path: Path, kinds: Mapping[str, type], remedy: str) -> dict[str, Any]:
    held = _load(path, remedy)
    _check(held, kinds, path, remedy)
    found: dict[str, Any] = held
    return found


def _read_list(path: Path, kinds: Mapping[str, type], remedy: str) -> list[dict[str, Any]] | None:
    if not path.is_file():
        return None
    held = _load(path, remedy)
    if not isinstance(held, list):
        raise _refuse(path, f"it holds {_name(held)} where a list belongs", remedy)
    for one in held:
        _check(one, kinds, path, remedy)
    return held


def _load(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {remedy}", code="no_file", files=[path]) from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise _refuse(path, f"it is no JSON ({error})", remedy) from None


def _check(held: Any, kinds: Mapping[str, type], path: Path, remedy: str) -> None:
    if not isinstance(held, dict):
        raise _refuse(path, f"it holds {_name(held)} where names and values belong", remedy)
    for name, kind in kinds.items():
        if name not in held:
            raise _refuse(path, f"it has no `{name}`", remedy)
        # JSON does not tell 1 from 1.0
        if not isinstance(held[name], (int, float) if kind in (int, float) else kind):
            raise _refuse(path, f"its `{name}` is {_name(held[name])}", remedy)


def _name(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return "names and values" if isinstance(value, dict) else f"`{json.dumps(value)}`"


def _refuse(path: Path, why: str, remedy: str) -> DataError:
    return DataError(f"{path} is damaged: {why}. {remedy}", code="damaged_result", files=[path])
