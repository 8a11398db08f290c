"""The section `context` of a config: what a study asks."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from medvid.build import Spec
from medvid.contract import ConfigError

Frames = Annotated[int, Field(ge=1)]
"""A number of slices; `check_context` refuses even ones, in a sentence of its own."""

Share = Annotated[float, Field(gt=0, lt=1)]
Control = Literal["repeat", "shuffle", "reverse", "far", "position", "permuted_labels"]

CONTROLS: tuple[Control, ...] = (
    "repeat",
    "shuffle",
    "reverse",
    "far",
    "position",
    "permuted_labels",
)
"""All controls, in the order of the report."""


def context_options(
    *,
    windows: Annotated[Sequence[Frames], Field(min_length=1)] | None = None,
    windows_mm: Annotated[Sequence[Annotated[float, Field(ge=0)]], Field(min_length=1)]
    | None = None,
    length: Frames | None = None,
    positions: Literal["centre", "every"] = "every",
    controls: Sequence[Control] = CONTROLS,
    networks: Sequence[Spec] = (),
    seeds: Annotated[int, Field(ge=1)] = 3,
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.02,
    learning_curve: Sequence[Share] = (),
    subgroups: Sequence[str] = (),
    keep_checkpoints: bool = False,
) -> dict[str, Any]:
    """The options of the section `context`.

    Args:
        windows: in frames, odd; the curve's arms. One of `windows` and `windows_mm` is needed. None
            may be wider than every stack.
        windows_mm: in mm, the frames within half of it on either side; 0 is the frame alone. No
            two may show the same frames in every stack.
        length: frames that the network is given in every arm; when None those of the widest
            window, of one in mm where slices lie closest.
        positions: how a whole scan is decided: from the window around its middle frame
            (`centre`), or from the windows around `every` frame, averaged. Slices and regions
            are decided from the window around them.
        controls: retrained with the widest window; `repeat` shows copies of the target instead of
            its neighbours, `shuffle` and `reverse` change their order, `far` shows frames from
            elsewhere in the case, `position` shows no pixels, `permuted_labels` must end at chance.
        networks: for the table of natural networks, each given the widest window: names of models,
            of configs such as `model/i3d_scan`, or sections with a `name`. The same model may be
            there several times with different options.
        seeds: trainings of every arm and fold.
        margin: of non-inferiority, in AUC; declared beforehand.
        learning_curve: shares of the training patients that the widest window is also trained
            with, such as [0.25, 0.5]; for as many steps, so for more epochs.
        subgroups: columns of the manifest; the answer is given for each of their values too.
        keep_checkpoints: keep all networks; otherwise those of the narrowest and the widest
            window's first seed, which the report looks into.
    """
    return dict(locals())


def check_context(options: dict[str, Any]) -> None:
    """Checks what no single option can say.

    Raises:
        ConfigError: for windows in both units or none, even ones, or one only.
    """
    given = [key for key in ("windows", "windows_mm") if options[key]]
    if len(given) != 1:
        raise ConfigError(
            "A study compares windows: give `context.windows` in frames, such as [1, 3, 9], or "
            "`context.windows_mm`, such as [0, 5, 20], and one of them only.",
            code="no_windows",
        )
    windows = options[given[0]]
    if len(set(windows)) != len(windows) or len(windows) < 2:
        raise ConfigError(
            f"`context.{given[0]}` was given {list(windows)}; a study compares two different "
            "windows or more.",
            code="no_windows",
        )
    even = [n for n in (*(options["windows"] or ()), options["length"] or 1) if n % 2 == 0]
    if even:
        raise ConfigError(
            f"Windows and `length` are odd, so that the target is in the middle; {even[0]} is not.",
            code="even_window",
        )
    if options["length"] and options["windows"] and max(options["windows"]) > options["length"]:
        raise ConfigError(
            f"The window of {max(options['windows'])} frames does not fit into `context.length: "
            f"{options['length']}`.",
            code="short_length",
        )
