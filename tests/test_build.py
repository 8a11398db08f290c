"""A name and options become an object, or a sentence that says why not."""

from collections.abc import Callable
from typing import Any, Literal

import pytest

from medvid.build import build, read_defaults, suggest, validate_options
from medvid.contract import ConfigError


class Widget:
    def __init__(
        self, classes: int, width: int = 4, rate: float = 0.1, mode: Literal["a", "b"] = "a"
    ) -> None:
        self.values = (classes, width, rate, mode)


TABLE: dict[str, Callable[..., Widget]] = {"widget": Widget}


def test_a_name_and_options_become_an_object() -> None:
    made = build(TABLE, {"name": "widget", "rate": "1e-3"}, "thing", classes=3)
    assert made.values == (3, 4, 1e-3, "a")
    assert build(TABLE, "widget", "thing", classes=3, unused=1).values[1] == 4


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("wigdet", r"no thing named `wigdet`\. Did you mean `widget`\?"),
        ({"name": "widget", "wdith": 3}, r"no option `wdith`\. Did you mean `width`\?"),
        ({"name": "widget", "width": "wide"}, r"`width: wide`, and cannot use it: input should be"),
        ({"name": "widget", "mode": "c"}, "cannot use it: input should be 'a' or 'b'"),
        ({"name": "widget", "classes": 2}, "from the data, not from the config"),
        ({"width": 3}, "needs a `name`"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(spec: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        build(TABLE, spec, "thing", classes=3)
    assert caught.value.exit_code == 2


def test_a_missing_option_is_named() -> None:
    with pytest.raises(ConfigError, match="needs the option `classes`"):
        validate_options(Widget, {}, "thing `widget`")


def test_defaults_are_read_from_the_signature() -> None:
    assert read_defaults(Widget) == {"width": 4, "rate": 0.1, "mode": "a"}


def test_nothing_is_suggested_for_what_is_like_nothing() -> None:
    assert suggest("zzz", ["width"]) == ""


def test_an_error_survives_its_way_out_of_a_worker() -> None:
    import pickle

    error = ConfigError("A sentence.", code="x", files=["a.dcm"])
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.code, again.files) == ("A sentence.", "x", ("a.dcm",))
