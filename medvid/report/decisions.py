"""What was called what at the operating point: of a run, and of one window of a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvid.report.render import write_table


def describe_decision(point: Mapping[str, Any] | None) -> str:
    """Says from which probability on a case is called positive, and how that was chosen."""
    if point is None:
        return "Called is the likeliest class."
    limits = point["threshold"]
    values = list(limits.values()) if isinstance(limits, Mapping) else [limits]
    low, high = min(values), max(values)
    said = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}, by fold"
    return f"Positive from a probability of {said}; {point['method']}."


def write_confusion(
    run: Path, classes: Sequence[str], confusion: Mapping[str, Any] | None
) -> Sequence[Sequence[int]] | None:
    """Writes tables/confusion.csv, and returns the counts for the page; None for several findings.

    Raises:
        DataError: when the table cannot be written.
    """
    if not confusion:
        return None
    counts: Sequence[Sequence[int]] = confusion["counts"]
    write_table(
        run / "tables" / "confusion.csv",
        ("true class", *(f"called {name}" for name in classes)),
        [(name, *row) for name, row in zip(classes, counts, strict=True)],
    )
    return counts
