"""Finds the sources of labelled data: the only code that knows the room adapters/.

An adapter is a module with `records(root)`, `imitate(root)` and `CLASSES` or `classes(root)`; its
docstring tells a user where the source is had and how it must lie on disk. Files that are dropped
into adapters/ are found by their name; nobody registers them.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

from medvid.build import suggest
from medvid.contract import ConfigError, SourceError

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
