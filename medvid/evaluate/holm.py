"""Holm's adjustment of several p values of one family."""

from collections.abc import Sequence


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
