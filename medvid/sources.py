"""Finds the sources of labelled data: the only code that knows the room adapters/.

An adapter is a module with `records(root)`, `imitate(root)` and `CLASSES` or `classes(root)`; its
docstring tells a user where the source is had and how it must lie on disk. Files that are dropped
into adapters/ are found by their name; nobody registers them.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from medvid.build import suggest, validate_options
from medvid.contract import ConfigError, Record, SourceError

_ROOM = "medvid.adapters"


@dataclass(frozen=True)
class SourceRow:
    """One line of `medvid adapters`.

    Args:
        name: what `medvid manifest` is given.
        summary: first line of the adapter's docstring.
        classes: where they are the same for every copy of the source, else empty.
    """

    name: str
    summary: str
    classes: tuple[str, ...]


def list_adapters() -> list[str]:
    """Returns the names of all adapters, sorted, importing none of them."""
    room = importlib.import_module(_ROOM)
    return sorted(found.name for found in pkgutil.iter_modules(room.__path__))


def load_adapter(name: str) -> ModuleType:
    """Imports an adapter by name.

    Raises:
        ConfigError: when there is none of that name; names the nearest one.
        SourceError: when the module lacks a part of `medvid.contract.Adapter`.
    """
    known = list_adapters()
    if name not in known:
        raise ConfigError(
            f"There is no adapter named `{name}`.{suggest(name, known)} Known: {', '.join(known)}.",
            code="unknown_name",
        )
    module = importlib.import_module(f"{_ROOM}.{name}")
    lacking = [part for part in ("records", "imitate") if not callable(getattr(module, part, None))]
    if not hasattr(module, "CLASSES") and not callable(getattr(module, "classes", None)):
        lacking.append("CLASSES or classes")
    if lacking:
        raise SourceError(
            f"The adapter `{name}` lacks {' and '.join(lacking)}. An adapter has records(root), "
            "imitate(root), and CLASSES or classes(root).",
            code="incomplete_adapter",
            files=[str(module.__file__)],
        )
    return module


def list_sources() -> list[SourceRow]:
    """Returns what `medvid adapters` shows, importing every adapter."""
    rows = []
    for name in list_adapters():
        module = load_adapter(name)
        summary = (module.__doc__ or "").strip().partition("\n")[0]
        rows.append(SourceRow(name, summary, tuple(getattr(module, "CLASSES", ()))))
    return rows


def read_classes(name: str, root: Path) -> tuple[str, ...]:
    """Returns the classes of the copy of a source that lies at `root`, in order."""
    module = load_adapter(name)
    return tuple(module.CLASSES) if hasattr(module, "CLASSES") else tuple(module.classes(root))


def read_records(name: str, root: Path, options: Mapping[str, Any] | None = None) -> list[Record]:
    """Reads all labelled items of the copy of a source that lies at `root`.

    Args:
        name: of the adapter.
        root: folder or file, as the adapter's docstring says.
        options: the adapter's own, such as `split: 2` of ucf101.

    Raises:
        ConfigError: for an unknown adapter or option.
        SourceError: when the source does not lie as it should, has no items, or repeats one.
    """
    module = load_adapter(name)
    chosen = validate_options(module.records, options or {}, f"adapter `{name}`", given=["root"])
    found: list[Record] = list(module.records(root, **chosen))
    if not found:
        raise SourceError(
            f"The adapter `{name}` found no labelled items at {root}.",
            code="no_cases",
            files=[root],
        )
    _check_unique(name, found)
    return found


def list_missing(
    name: str, root: Path, options: Mapping[str, Any] | None = None
) -> tuple[list[str], list[str]]:
    """Compares a source's official lists with what lies on disk.

    Returns:
        Items that are listed but absent, and items that are present but unlisted. Both are empty
        for sources without official lists.
    """
    module = load_adapter(name)
    if not hasattr(module, "missing"):
        return [], []
    chosen = validate_options(module.missing, options or {}, f"adapter `{name}`", given=["root"])
    return list(module.missing(root, **chosen)), list(module.unlisted(root, **chosen))


def _check_unique(name: str, records: Sequence[Record]) -> None:
    first: dict[str, Record] = {}
    for record in records:
        twin = first.setdefault(record.case_id, record)
        if twin is not record:
            raise SourceError(
                f"The adapter `{name}` gives the case_id `{record.case_id}` to {twin.path} and to "
                f"{record.path}. Every case needs its own.",
                code="double_case",
                files=[twin.path, record.path],
            )
