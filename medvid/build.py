"""A name and its options -> an object, or a sentence that says why not.

Every table of medvid (models, transforms, samplers, losses, ...) is a literal dict from names to
callables. The callable's signature is the schema of its options: pydantic validates them, so that
`1e-3` is a number and `wdith: 32` is an error with a suggestion.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from medvid.contract import ConfigError

T = TypeVar("T")

Spec = str | Mapping[str, Any]
"""`c3d`, or `{name: c3d, width: 32}`."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean `...`?` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


def find(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns the entry `name` of a table.

    Raises:
        ConfigError: when there is none; names the nearest one and lists all.
    """
    if name not in table:
        raise ConfigError(
            f"There is no {what} named `{name}`.{suggest(name, table)} "
            f"Known: {', '.join(sorted(table))}.",
            code="unknown_name",
        )
    return table[name]


def build(table: Mapping[str, Callable[..., T]], spec: Spec, what: str, **given: Any) -> T:
    """Builds the object that `spec` names.

    Args:
        table: names -> callables.
        spec: a name, or a mapping with `name` and the callable's own options.
        what: the kind of thing, for error messages: "model", "transform".
        **given: arguments that the program knows (such as `num_classes`); passed on where the
            callable takes them, and not open to the config.

    Raises:
        ConfigError: for an unknown name, an unknown or missing option, or a value of another type.
    """
    name, options = _split_spec(table, spec, what)
    builder = find(table, name, what)
    parameters = inspect.signature(builder).parameters
    known = {key: value for key, value in given.items() if key in parameters}
    clash = sorted(set(options) & set(known))
    if clash:
        raise ConfigError(
            f"The {what} `{name}` takes `{clash[0]}` from the data, not from the config. "
            "Leave it out.",
            code="given_option",
        )
    return builder(**known, **validate_options(builder, options, f"{what} `{name}`", known))


def fill_options(
    table: Mapping[str, Callable[..., object]],
    spec: Spec,
    what: str,
    given: Iterable[str] = (),
) -> dict[str, Any]:
    """Returns `spec` as a mapping with every option of the callable, checked; builds nothing.

    Args:
        table: names -> callables.
        spec: a name, or a mapping with `name` and some options.
        what: the kind of thing, for error messages.
        given: arguments that the program knows, which a config does not say.

    Raises:
        ConfigError: as `build`.
    """
    name, options = _split_spec(table, spec, what)
    builder = find(table, name, what)
    checked = validate_options(builder, options, f"{what} `{name}`", given)
    defaults = {k: v for k, v in read_defaults(builder).items() if k not in set(given)}
    return {"name": name, **defaults, **checked}


def _split_spec(table: Mapping[str, object], spec: Spec, what: str) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name", ""), str):
        raise ConfigError(
            f"`{spec}` is no {what}; write a name, or a name with options: {{name: NAME, ...}}. "
            f"Known: {', '.join(sorted(table))}.",
            code="wrong_type",
        )
    if "name" not in spec:
        raise ConfigError(
            f"A {what} needs a `name`; got only {sorted(map(str, spec))}. "
            f"Known: {', '.join(sorted(table))}.",
            code="missing_name",
        )
    return spec["name"], {str(key): value for key, value in spec.items() if key != "name"}


def validate_options(
    function: Callable[..., object],
    options: Mapping[str, Any],
    where: str,
    given: Iterable[str] = (),
) -> dict[str, Any]:
    """Returns `options` converted to the types of the function's signature.

    Args:
        function: its parameters are the schema.
        options: what the config says.
        where: for messages, such as "section `train`".
        given: parameters that are filled elsewhere and so are not missing.

    Raises:
        ConfigError: for an unknown or missing option, or a value of another type.
    """
    parameters = inspect.signature(function).parameters
    types = _annotations(function)
    open_to_config = [name for name in parameters if name not in set(given) | {"self"}]
    for key in options:
        if key not in open_to_config:
            raise ConfigError(
                f"The {where} has no option `{key}`.{suggest(key, open_to_config)} "
                f"Options: {', '.join(open_to_config) or 'none'}.",
                code="unknown_option",
            )
    missing = [
        name
        for name in open_to_config
        if parameters[name].default is inspect.Parameter.empty and name not in options
    ]
    if missing:
        raise ConfigError(
            f"The {where} needs the option `{missing[0]}`, and the config does not give it.",
            code="missing_option",
        )
    return {key: _convert(value, types.get(key, Any), key, where) for key, value in options.items()}


def read_defaults(function: Callable[..., object]) -> dict[str, Any]:
    """Returns every parameter of a function that has a default, with that default."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def _annotations(function: Callable[..., object]) -> dict[str, Any]:
    target = function.__init__ if inspect.isclass(function) else function
    return typing.get_type_hints(target, include_extras=True)


def _convert(value: Any, annotation: Any, key: str, where: str) -> Any:
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        try:
            adapter = TypeAdapter(annotation)
        except PydanticSchemaGenerationError:
            return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        wanted = error.errors()[0]["msg"]
        wanted = wanted[0].lower() + wanted[1:]
        raise ConfigError(
            f"The {where} was given `{key}: {value}`, and cannot use it: {wanted}.",
            code="wrong_type",
        ) from None
