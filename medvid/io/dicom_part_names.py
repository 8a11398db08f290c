"""Names of the parts of a series: short, without blanks, each of its own."""

import re
from collections import Counter
from collections.abc import Sequence

LABEL_CHARACTERS = 24
"""Of a value in a part's name."""


def clean(value: str) -> str:
    """Returns a value as it stands in a part's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value)[:LABEL_CHARACTERS].strip("_") or "none"


def number_names(names: Sequence[str]) -> list[str]:
    """Adds a number to names that stand for several things."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return numbered


def name_values(values: Sequence[str]) -> list[str]:
    """Names values of one tag; of several words in a value only those that differ are named."""
    split = [value.split("\\") for value in values]
    if len({len(words) for words in split}) == 1:
        odd = [i for i in range(len(split[0])) if len({words[i] for words in split}) > 1]
        split = [[words[i] for i in odd] for words in split]
    return [clean("-".join(words)) for words in split]
