"""How many slices a clip must have, and which windows the stacks are long enough for."""

from collections.abc import Collection, Mapping
from typing import Any

from medvid.contract import ConfigError
from medvid.data.sight import count_neighbours

Lattice = tuple[int, float]
"""Number of slices of a stack, and the mm between neighbours."""


def fit_length(
    options: Mapping[str, Any], lattices: Collection[Lattice], *, middle_only: bool = False
) -> int:
    """Returns the frames that every clip has: those given, or those of the widest window.

    A window in mm holds most slices in the stack whose slices are closest. A clip that is shorter
    would cut the window there, and the arm would not be what its name says.

    Args:
        options: of the section `context`, see `context_options`.
        lattices: of all stacks.
        middle_only: every target is the middle of its stack, and reaches half of it at most.

    Raises:
        ConfigError: for a `length` too short for the widest window, a window in frames that no
            stack is long enough for, or a window in mm that shows the same slices as a narrower
            one in every stack.
    """
    if options["windows"]:
        _refuse_too_wide(options["windows"], lattices, middle_only)
        return int(options["length"] or max(options["windows"]))
    _refuse_same_windows(options["windows_mm"], lattices, middle_only)
    widest = max(options["windows_mm"])
    # A stack has no more neighbours than slices, however close they lie.
    reaches = {step: min(count_neighbours(widest, step), n - 1) for n, step in lattices}
    closest = max(reaches, key=lambda step: reaches[step])
    needed = 2 * reaches[closest] + 1
    if options["length"] and options["length"] < needed:
        raise ConfigError(
            f"`context.length: {options['length']}` is too short: the window of {widest:g} mm "
            f"holds {needed} slices where they lie {closest:g} mm apart. Give `length: {needed}` "
            "or more, leave it out, or take narrower windows.",
            code="short_length",
        )
    return int(options["length"] or needed)


def _count_reachable(slices: int, middle_only: bool) -> int:
    """Returns how many neighbours a target can have on one side."""
    return slices // 2 if middle_only else slices - 1


def _refuse_too_wide(
    windows: Collection[int], lattices: Collection[Lattice], middle_only: bool
) -> None:
    """Stops at a window that shows copies where its name says slices, in every stack.

    All windows up to there differ in the longest stack.
    """
    longest = max((n for n, _ in lattices), default=0)
    most = 2 * _count_reachable(longest, middle_only) + 1
    wide = [window for window in windows if window > most]
    if not longest or not wide:
        return
    around = "the middle one" if middle_only else "a slice at one end"
    raise ConfigError(
        f"`context.windows`: a window of {wide[0]} shows no more than one of {most} does, since "
        f"the longest stack has {longest} slices and a window of {most} around {around} shows all "
        f"of them. Give {most} or fewer instead of {', '.join(map(str, wide))}.",
        code="wide_window",
    )


def _refuse_same_windows(
    windows: Collection[float], lattices: Collection[Lattice], middle_only: bool
) -> None:
    """Stops at a window that no stack tells from a narrower one, or from the target alone."""
    sees: dict[tuple[int, ...], float] = {}
    for window in sorted({0.0, *windows}):
        reach = tuple(
            min(count_neighbours(window, step), _count_reachable(n, middle_only))
            for n, step in sorted(lattices)
        )
        narrower = sees.setdefault(reach, window)
        if narrower == window:
            continue
        closest = min(step for _, step in lattices)
        remedy = "Leave it out" if narrower in windows else "Write 0 for the target alone"
        raise ConfigError(
            f"`context.windows_mm`: the window of {window:g} mm shows the same slices as one of "
            f"{narrower:g} mm in every stack, so that the two would be one arm. A window shows "
            f"what lies within half of it on either side, and slices lie {closest:g} mm apart or "
            f"more. {remedy}, or give a wider one.",
            code="same_windows",
        )
