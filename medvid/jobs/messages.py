"""How a job talks while it works: lines for a terminal, a log file or a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_STEPS = 10
"""Lines that a long loop prints where there is no terminal to draw a bar on."""

Advance = Callable[[int, int], None]


@contextmanager
def show_progress(console: Console | None, title: str) -> Iterator[Advance]:
    """Yields a function to be called with (done, total): a bar on a terminal, else some lines.

    Args:
        console: None is silent.
        title: what is being done, such as `reading scans`.
    """
    if console is None:
        yield lambda done, total: None
    elif console.is_terminal:
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield lambda done, total: _print_some(console, title, done, total)


def _print_some(console: Console, title: str, done: int, total: int) -> None:
    if total and (done == total or done * PLAIN_STEPS // total > (done - 1) * PLAIN_STEPS // total):
        console.print(f"{title}: {done} of {total}", highlight=False)


def say(console: Console | None, text: str) -> None:
    """Prints one line, unless the job is silent."""
    if console is not None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)
