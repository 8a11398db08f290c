"""Fixtures of several rooms: a Dask cluster on this machine; and one thread a process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

# Before torch is imported. The tests' networks are so small that handing their work to a second
# thread takes longer than the work, and `-n auto` has a process for every core already.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class DaskCluster(NamedTuple):
    """A real scheduler and its workers, each a process of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the scheduler did not come up"
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def dask_cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler with two workers of one thread on loopback."""
    pytest.importorskip("distributed")
    port = _find_free_port()
    address = f"tcp://127.0.0.1:{port}"
    place = tmp_path / "dask"
    place.mkdir()

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
        return subprocess.Popen(command, cwd=place)

    cluster = DaskCluster(address, start("scheduler", "--host", address), [])
    try:
        _wait_for_port(port)
        for _ in range(2):
            cluster.workers.append(start("worker", address, "--nthreads", "1", "--no-nanny"))
        yield cluster
    finally:
        for process in (*cluster.workers, cluster.scheduler):
            process.kill()
            process.wait()
