"""Reads, extends, overrides and saves configs: plain YAML, no code, no interpolation.

A config has the sections `data, transforms, model, init, pretrain, train, evaluate, context` and
the scalars `name`, `seed` and `overfit`. `extends: run/lidc_c3d5` names a parent: a config that
ships with medvid, or a file beside this one. Mappings are merged key by key, except that a section
whose `name` changes starts anew.
"""

import copy
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from medvid.build import suggest
from medvid.contract import ConfigError

Config = dict[str, Any]

SECTIONS = (
    "name",
    "seed",
    "overfit",
    "data",
    "transforms",
    "model",
    "init",
    "pretrain",
    "train",
    "evaluate",
    "context",
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats (1e-3 is a number) and an error for a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(
                    f"The key `{key}` stands twice in {node.start_mark.name}, the second time in "
                    f"line {key_node.start_mark.line + 1}. Keep one.",
                    code="duplicate_key",
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# PyYAML follows YAML 1.1, where 1e-3 is text; the pattern is the core schema's of YAML 1.2.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def list_configs() -> list[str]:
    """Returns the names of the configs that ship with medvid, such as `run/nodules`."""
    root = _find_shipped()
    return sorted(
        path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")
    )


def read_config(source: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a config, its parents and the command line's `key=value` overrides.

    Args:
        source: a YAML file, or the name of one that ships with medvid.
        overrides: `model.width=32`, `train.epochs=3`; the value is read as YAML.

    Raises:
        ConfigError: for a file that is missing or no YAML, an unknown section, a parent that leads
            back to its child, or an override without `=`.
    """
    config = _read_with_parents(source, base=Path.cwd(), seen=())
    for override in overrides:
        _apply_override(config, override)
    check_shapes(config, str(source))
    return config


def check_shapes(config: Mapping[str, Any], where: str) -> None:
    """Checks that every section is of the kind that it can only be; its options come later.

    Args:
        config: sections by name.
        where: for messages, such as the file's name.

    Raises:
        ConfigError: for an unknown section, or a mapping, a list or a number out of place.
    """
    for section, value in config.items():
        if section not in SECTIONS:
            raise ConfigError(
                f"{where}: there is no section `{section}`.{suggest(str(section), SECTIONS)} "
                f"Sections: {', '.join(SECTIONS)}.",
                code="unknown_section",
            )
        fits, wanted = _SHAPES.get(section, (lambda _: True, ""))
        if value is not None and not fits(value):
            raise ConfigError(
                f"{where}: `{section}` was given `{value}`; it is {wanted}.", code="wrong_type"
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_spec(value: Any) -> bool:
    # A name that is missing is told by whoever looks it up, with all names that there are.
    return isinstance(value, str) or (_is_section(value) and isinstance(value.get("name", ""), str))


def _is_pipeline(value: Any) -> bool:
    return _is_section(value) and all(
        specs is None or (isinstance(specs, list) and all(map(_is_spec, specs)))
        for specs in value.values()
    )


_SECTION = "a section of options, each on a line of its own: `option: value`"
_SHAPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str), "a text, the beginning of the run's folder"),
    "seed": (_is_count, "a whole number from 0"),
    "overfit": (_is_count, "a number of cases, 0 for a real run"),
    "data": (_is_section, _SECTION),
    "transforms": (
        _is_pipeline,
        "lists of transforms, each a name or `{name: NAME, ...}`, under `both`, `train` and `test`",
    ),
    "model": (_is_spec, "a name, or a section with `name` and the model's options"),
    "init": (_is_section, _SECTION),
    "pretrain": (_is_section, _SECTION),
    "train": (_is_section, _SECTION),
    "evaluate": (_is_section, _SECTION),
    "context": (_is_section, _SECTION),
}
"""Of every section: what it must be, as a test and in words."""


def save_config(config: Mapping[str, Any], path: Path) -> None:
    """Writes a config as YAML; a reader never sees half of it."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(format_config(config), encoding="utf-8")
    os.replace(beside, path)


def format_config(config: Mapping[str, Any]) -> str:
    """Returns a config as YAML text, sections in their usual order."""
    ordered = {key: config[key] for key in SECTIONS if key in config}
    stream = io.StringIO()
    yaml.safe_dump(_plain(ordered), stream, sort_keys=False, allow_unicode=True)
    return stream.getvalue()


def _read_with_parents(source: str | Path, base: Path, seen: tuple[Path, ...]) -> Config:
    path = _find_file(source, base)
    if path in seen:
        chain = " -> ".join(step.name for step in (*seen, path))
        raise ConfigError(f"The config extends itself: {chain}.", code="circular_extends")
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}", code="no_yaml", files=[path]) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8.", code="no_yaml", files=[path]) from None
    if not isinstance(config, dict):
        raise ConfigError(
            f"{path} holds no sections; a config is a mapping such as `data: ...`.",
            code="no_yaml",
            files=[path],
        )
    _anchor_paths(config, path.parent)
    parent = config.pop("extends", None)
    parents = [parent] if isinstance(parent, str) else parent or []
    merged: Config = {}
    for name in parents:
        merged = merge(merged, _read_with_parents(name, path.parent, (*seen, path)))
    return merge(merged, config)


def _find_shipped() -> Path:
    """Returns the folder of the shipped configs: it has no __init__.py, so only a search path."""
    return Path(next(iter(import_module("medvid.configs").__path__)))


def _find_file(source: str | Path, base: Path) -> Path:
    shipped = _find_shipped() / f"{source}.yaml"
    candidates = [base / source, base / f"{source}.yaml", shipped]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise ConfigError(
        f"There is no config `{source}`: neither a file below {base} nor one that ships with "
        f"medvid.{suggest(str(source), list_configs())} Shipped: {', '.join(list_configs())}.",
        code="no_config",
    )


def _anchor_paths(config: Config, folder: Path) -> None:
    """Makes `data.manifest` and `init.from` relative to the config that names them.

    What does not lie there is left as it is, relative to the caller's folder.
    """
    for section, key in (("data", "manifest"), ("init", "from")):
        options = config.get(section)
        if isinstance(options, dict) and isinstance(options.get(key), str):
            beside = folder / options[key]
            if beside.exists():
                options[key] = str(beside.resolve())


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> Config:
    """Returns `parent` with `child` laid over it, mapping by mapping."""
    merged = copy.deepcopy(dict(parent))
    for key, value in child.items():
        below = merged.get(key)
        renamed = (
            isinstance(value, Mapping)
            and isinstance(below, Mapping)
            and "name" in value
            and value["name"] != below.get("name")
        )
        if isinstance(value, Mapping) and isinstance(below, Mapping) and not renamed:
            merged[key] = merge(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _apply_override(config: Config, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"`{override}` is no override; write key=value, such as model.width=32.",
            code="no_override",
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(
            f"The value in `{override}` is no YAML; quote it.", code="no_override"
        ) from None
    *outer, last = key.split(".")
    nested: Config = {last: value}
    for step in reversed(outer):
        nested = {step: nested}
    config.update(merge(config, nested))


def _plain(value: Any) -> Any:
    """Turns tuples, paths and numpy numbers into what YAML can say."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return value.item() if hasattr(value, "item") else str(value)
