"""Runs the cells of a study: side by side on this machine, or on an existing Dask cluster."""

import asyncio
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from medvid.context.cells import Cell
from medvid.contract import ConfigError, MedvidError

RunCell = Callable[[Path, Cell], None]
"""Trains a cell of a study, unless it is finished. Found by name in other processes."""

CONNECT_SECONDS = 20
"""A scheduler that has not answered by then is not there."""


class StudyInterrupted(MedvidError):  # noqa: N818 -- nothing went wrong
    """Somebody pressed Ctrl+C; finished cells stay, and the study can be continued."""

    exit_code = 130


def run_cells(
    run_cell: RunCell,
    study: Path,
    cells: Sequence[Cell],
    *,
    jobs: int,
    cluster: str | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Runs cells until all are finished.

    Args:
        run_cell: a function of a module, not a closure: other processes import it.
        study: the folder. With a cluster its workers must see it under the same path.
        cells: those that are not finished yet.
        jobs: processes of this machine.
        cluster: address of a Dask scheduler, such as `tcp://10.0.0.5:8786`.
        advance: told how many are done, after each.

    Raises:
        ConfigError: when the cluster cannot be reached, or Dask is not installed.
        StudyInterrupted: on Ctrl+C.
        MedvidError: the first error of any cell, or a process that was killed.
    """
    finished = (
        _run_here(run_cell, study, cells, jobs)
        if cluster is None
        else _run_on_cluster(run_cell, study, cells, cluster)
    )
    with _explain_end(study):
        for done, _ in enumerate(finished, start=1):
            advance(done)


@contextmanager
def _explain_end(study: Path) -> Iterator[None]:
    next_ = f"Finished cells are kept. Next: {shlex.join(['medvid', 'context', '--resume'])}"
    next_ += f" {shlex.quote(str(study))}"
    try:
        yield
    except KeyboardInterrupt:
        raise StudyInterrupted(f"Interrupted. {next_}", code="interrupted") from None
    except BrokenProcessPool:
        raise MedvidError(
            "A process that trained a cell was killed from outside, most often because the "
            "machine's memory ran out. Train fewer cells side by side (`--jobs`), or take smaller "
            f"batches. {next_} --jobs 1",
            code="worker_killed",
        ) from None
    except Exception as error:
        # Dask's name for a cell whose workers died; it is imported only where it is used.
        if type(error).__name__ != "KilledWorker":
            raise
        raise MedvidError(
            "Several workers of the cluster died while they trained the same cell, most often "
            "because their memory ran out. Give each one more memory and a single thread (`dask "
            f"worker ADDRESS --nthreads 1`). {next_} --cluster ADDRESS",
            code="worker_killed",
        ) from None


def _run_here(run_cell: RunCell, study: Path, cells: Sequence[Cell], jobs: int) -> Iterator[Any]:
    if jobs == 1:
        return map(partial(run_cell, study), cells)
    pool = Parallel(n_jobs=min(jobs, max(1, len(cells))), return_as="generator_unordered")
    results: Iterator[Any] = pool(delayed(run_cell)(study, cell) for cell in cells)
    return results


def check_cluster(address: str) -> None:
    """Makes sure that a Dask scheduler answers, before anything is made for it.

    Args:
        address: such as `tcp://10.0.0.5:8786`.

    Raises:
        ConfigError: when nothing answers there, or Dask is not installed.
    """
    try:
        from distributed import Security
        from distributed.comm import connect
    except ImportError:
        raise ConfigError(
            '`--cluster` needs Dask, which is not installed: pip install "medvid[cluster]"',
            code="no_dask",
        ) from None

    async def knock() -> None:
        keys = Security().get_connection_args("client")
        (await connect(address, timeout=CONNECT_SECONDS, **keys)).abort()

    # Not by a Client: one that finds nobody goes on trying while it is thrown away. In a thread,
    # since a notebook has an event loop in its own.
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(asyncio.run, knock()).result()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"No Dask scheduler answers at {address}: {error or type(error).__name__}. Start "
                "one (`dask scheduler`) with workers (`dask worker ADDRESS --nthreads 1`), and "
                "give its address.",
                code="no_cluster",
            ) from None


def _run_on_cluster(
    run_cell: RunCell, study: Path, cells: Sequence[Cell], address: str
) -> Iterator[Any]:
    check_cluster(address)
    from distributed import Client, as_completed

    with Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client:
        futures = [
            # The key names the cell, so that the scheduler's dashboard does too.
            client.submit(
                run_cell,
                study,
                cell,
                key=f"{cell.arm}-seed{cell.seed}-fold{cell.fold}-{os.urandom(4).hex()}",
                pure=False,
            )
            for cell in cells
        ]
        try:
            for future in as_completed(futures, loop=client.loop):
                yield future.result()
        finally:
            # What is still waiting must not go on after an error or Ctrl+C.
            client.cancel([future for future in futures if not future.done()])


def choose_jobs() -> int:
    """Returns how many cells this machine trains side by side: one a core, one if it has a GPU."""
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return 1
    return os.cpu_count() or 1
