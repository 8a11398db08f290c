"""Who may import whom. A room not in the table fails, so the table stays true."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

EVERYTHING = {
    "build",
    "config",
    "context",
    "contract",
    "data",
    "evaluate",
    "io",
    "jobs",
    "layers",
    "models",
    "report",
    "sources",
    "train",
    "transforms",
}
MAY_IMPORT = {
    "contract": set[str](),
    "build": {"contract"},
    "config": {"build", "contract"},
    "io": {"contract"},
    "transforms": {"build", "contract"},
    "layers": {"build", "contract"},
    "models": {"build", "contract", "layers"},
    "data": {"build", "contract", "io", "transforms"},
    "evaluate": {"contract"},
    "train": {"build", "contract", "evaluate"},
    "sources": {"build", "config", "contract"},
    "context": {"build", "contract", "data", "evaluate", "train"},
    "report": {"contract", "evaluate"},
    "jobs": EVERYTHING,
    "cli": EVERYTHING,
    "adapters": {"contract", "io"},
    "__init__": set[str](),
    "__main__": {"cli"},
}
NO_TORCH = ("contract", "build", "config", "io", "evaluate", "report", "sources", "cli", "adapters")


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "adapters" else parts[1]


def imported_modules(path: Path) -> set[str]:
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            if node.module == "medvid":
                names |= {f"medvid.{alias.name}" for alias in node.names}
    return names


def imports_at_the_top(path: Path) -> set[str]:
    names = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def relative_imports(path: Path) -> list[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n.lineno for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]


FILES = sorted([*(ROOT / "medvid").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stay_in_bounds(path: Path) -> None:
    here = room(path)
    rooms = {name.split(".")[1] for name in imported_modules(path) if name.startswith("medvid.")}
    assert rooms - {here, "__version__"} <= MAY_IMPORT[here]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_absolute(path: Path) -> None:
    # A relative import would pass by the table above unseen.
    assert relative_imports(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_without_networks_do_not_import_torch(path: Path) -> None:
    if room(path) in NO_TORCH:
        heavy = {name.split(".")[0] for name in imports_at_the_top(path)}
        assert not heavy & {"torch", "lightning", "monai", "torchmetrics"}


def test_the_table_names_every_room_and_no_other() -> None:
    assert {room(path) for path in FILES} == set(MAY_IMPORT)
