"""What an interval allows to say, in one word and one sentence.

| word | when |
|---|---|
| equivalent | the whole interval lies within the margin that was declared beforehand |
| helps, hurts | the interval excludes 0, and so does the p value adjusted for the family |
| inconclusive | otherwise |

`equivalent` goes first: a difference that is surely there and surely smaller than what matters is
no help. The 95 % interval within the margin is two one-sided tests at 2.5 % each, stricter than the
usual 90 % interval, so that one interval serves all words.

References:
    Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15(6), 1987 (two one-sided tests);
    Piaggio et al., Reporting of Noninferiority and Equivalence Randomized Trials, JAMA 308(24),
    2012, figure 1 (the words for where an interval may lie).
"""

from typing import Literal

Word = Literal["helps", "hurts", "equivalent", "inconclusive"]

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})

TITLES = {"auc": "AUC", "log_loss": "log loss", "brier": "Brier score"}


def decide(
    low: float | None,
    high: float | None,
    p_adjusted: float | None,
    *,
    margin: float,
    level: float,
    lower_is_better: bool = False,
) -> Word:
    """Returns the word for a difference a - b.

    Args:
        low: of the interval; None where there is none.
        high: of the interval.
        p_adjusted: for all comparisons of the family.
        margin: a difference that does not matter, 0 or more.
        level: of the interval.
        lower_is_better: for losses, of which less helps.
    """
    if low is None or high is None:
        return "inconclusive"
    if -margin <= low and high <= margin:
        return "equivalent"
    # a p within rounding of 1 - level is none below it
    if (low <= 0 <= high) or p_adjusted is None or p_adjusted >= 1 - level:
        return "inconclusive"
    return "helps" if (low > 0) != lower_is_better else "hurts"
