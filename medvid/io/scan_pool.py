"""Runs many small tasks, here or in several processes, of which one may die."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

QUEUED = 4
"""Tasks a process that wait for it: none runs dry, and results do not pile up in memory."""


class Pool(Protocol):
    """Yields every task with its result, in any order.

    `crashed` says what the result is of a task on which a process died.
    """

    def __call__(
        self,
        run: Callable[[Task], Result],
        tasks: Iterable[Task],
        crashed: Callable[[Task], Result],
    ) -> Iterator[tuple[Task, Result]]:
        """Runs tasks."""
        ...


def run_here(
    run: Callable[[Task], Result], tasks: Iterable[Task], crashed: Callable[[Task], Result]
) -> Iterator[tuple[Task, Result]]:
    """Runs tasks in this process, one after the other."""
    del crashed  # it would take this process along
    for task in tasks:
        yield task, run(task)


CHUNK = 200
"""DICOM files that a process reads at a time: some 50 ms, so that the bar moves."""

PARALLEL_FROM = 2000
"""Fewer headers are read before other processes have started. From the page cache two processes
catch up at some 12,000 only, and lose a third of a second before; on a hospital's network share,
where a file takes milliseconds, they win from the first thousand on."""


@contextmanager
def start_pool(workers: int) -> Iterator[Pool]:
    """Yields a pool of so many processes; of this one where that is one."""
    if workers <= 1:
        yield run_here
        return
    pool = _Processes(workers)
    try:
        yield pool.run
    finally:
        pool.stop()


class _Processes:
    """Processes that are started anew when one of them dies.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor = self._start(workers)

    @staticmethod
    def _start(workers: int) -> ProcessPoolExecutor:
        # Started afresh, not forked: torch's threads may run here already.
        return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))

    def stop(self) -> None:
        """Ends the processes; what waits for them is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def run(
        self,
        run: Callable[[Task], Result],
        tasks: Iterable[Task],
        crashed: Callable[[Task], Result],
    ) -> Iterator[tuple[Task, Result]]:
        """See `Pool`."""
        waiting = iter(tasks)
        running: dict[Future[Result], Task] = {}
        while True:
            lost: list[Task] = []
            for task in islice(waiting, QUEUED * self._workers - len(running)):
                try:
                    running[self._executor.submit(run, task)] = task
                except BrokenProcessPool:
                    lost.append(task)
            if not running and not lost:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), None)
            for future in done:
                task = running.pop(future)
                try:
                    yield task, future.result()
                except BrokenProcessPool:
                    lost.append(task)
            if lost:
                # One of them did it; the others were only in its company.
                lost += running.values()
                running.clear()
                yield from self._run_alone(run, lost, crashed)

    def _run_alone(
        self,
        run: Callable[[Task], Result],
        tasks: Sequence[Task],
        crashed: Callable[[Task], Result],
    ) -> Iterator[tuple[Task, Result]]:
        self.stop()
        for task in tasks:
            with self._start(1) as executor:
                try:
                    result = executor.submit(run, task).result()
                except BrokenProcessPool:
                    result = crashed(task)
            yield task, result
        self._executor = self._start(self._workers)
