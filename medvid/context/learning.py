"""What the learning curve says: whether the widest window would gain from more patients."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medvid.context.arms import Arm
from medvid.evaluate import compare_arms

LEARNING: Mapping[str, str] = {
    "helps": "The curve is still rising: with more patients wide windows may gain more than is "
    "shown here.",
    "hurts": "More patients made it worse: look at the training before the curve.",
    "equivalent": "The curve has levelled off: the change lies within the margin of {margin:g}.",
    "inconclusive": "n = {n} patients does not allow to say whether the curve still rises; if it "
    "does, wide windows may gain more from further patients than is shown here.",
}
"""What the verdict on all patients against a share of them says of the learning curve."""


def note_learning(
    tables: Mapping[str, pd.DataFrame],
    arms: Sequence[Arm],
    widest: str,
    *,
    margin: float,
    settings: Mapping[str, Any],
) -> str | None:
    """Says whether the widest window still gains from more patients; None without such arms.

    Two estimates that differ are no rise; it takes the interval of their paired difference.

    Args:
        tables: predictions by arm.
        arms: of the study.
        widest: the arm of all patients.
        margin: the AUC difference that does not matter.
        settings: `positive`, `resamples` and `level`.
    """
    shares = [arm for arm in arms if arm.kind == "learning"]
    if not shares:
        return None
    last = max(shares, key=lambda arm: arm.share or 0.0)
    (row,) = compare_arms(tables, [(widest, last.name)], margin=margin, **settings)
    if row["low"] is None:
        return None
    said = (
        f"From {last.share:.0%} of the training patients to all, the AUC changed by "
        f"{row['difference']:+.3f} ({settings['level']:.0%} interval {row['low']:+.3f} to "
        f"{row['high']:+.3f})."
    )
    return f"{said} {LEARNING[row['verdict']].format(n=row['n_patients'], margin=margin)}"
