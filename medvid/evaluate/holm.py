"""Holm's adjustment of several p values of one family."""

import math
from collections.abc import Sequence

from medvid.contract import ConfigError


def adjust_holm(values: Sequence[float | None]) -> list[float | None]:
    """Returns p values that may be compared with the level as if there were only one.

    The smallest of m is multiplied by m, the next by m - 1, and none is below one before it. The
    chance of any false rejection stays below the level, whatever the dependence.

    Args:
        values: raw p values; None for a comparison that cannot be made, which does not count.

    References:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
        Statistics 6(2), 1979.
    """
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    so_far = 0.0
    for rank, (p, place) in enumerate(known):
        so_far = max(so_far, min(1.0, p * (len(known) - rank)))
        adjusted[place] = so_far
    return adjusted


def check_resamples(resamples: int, level: float, comparisons: int) -> None:
    """Stops at so few resamples that no comparison of a family could ever be significant.

    The p of R resamples is never below 2 / (R + 1), see `medvid.evaluate.spread`, and the smallest
    of m is multiplied by m.

    Args:
        resamples: R.
        level: of the intervals, such as 0.95.
        comparisons: m, of the largest family.

    Raises:
        ConfigError: where 2 m / (R + 1) is not below 1 - level.
    """
    # the rounding of 1 - level must not let one too few pass
    fewest = math.floor(2 * comparisons / (1 - level) + 1e-9)
    if resamples >= fewest:
        return
    raise ConfigError(
        f"`evaluate.resamples: {resamples}` is too few for this study: p is never below 2 / "
        f"{resamples + 1}, and times {comparisons}, the comparisons of its largest family, it is "
        f"never below {1 - level:.3g}, so that no difference, however large, would be called one. "
        f"Give at least {fewest}.",
        code="too_few_resamples",
    )
