"""Cells run side by side, here or on a Dask cluster, and an error keeps what is finished."""

import gc
import importlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from medvid.context.cells import Cell, read_cell
from medvid.context.schedule import StudyInterrupted, run_cells
from medvid.contract import ConfigError, DataError, MedvidError

# conftest.py is found by pytest, not by name.
DaskCluster = Any

HERE = Path(__file__).parent
CELLS = [Cell("w1", seed, fold) for seed in range(2) for fold in range(4)]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The functions of cells_to_run.py, found by name in other processes too."""
    monkeypatch.syspath_prepend(str(HERE))
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    return importlib.import_module("cells_to_run")


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_cell_is_finished_and_counted(work: Any, tmp_path: Path, jobs: int) -> None:
    counted: list[int] = []
    run_cells(work.write_cell, tmp_path, CELLS, jobs=jobs, advance=counted.append)
    assert counted == list(range(1, len(CELLS) + 1))
    assert [read_cell(cell, tmp_path)["answer"] for cell in CELLS] == [0, 1, 2, 3, 10, 11, 12, 13]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_in_a_cell_is_the_studys_and_finished_cells_stay(
    work: Any, tmp_path: Path, jobs: int
) -> None:
    with pytest.raises(DataError, match="Fold 2 cannot be read") as refused:
        run_cells(work.refuse_fold_2, tmp_path, CELLS, jobs=jobs)
    assert (refused.value.code, refused.value.files) == ("unreadable", ("scan.dcm",))
    assert not Cell("w1", 0, 2).is_finished(tmp_path)
    if jobs == 1:
        assert Cell("w1", 0, 1).is_finished(tmp_path)


def test_ctrl_c_says_how_to_go_on(work: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyInterrupted, match="medvid context --resume") as stopped:
        run_cells(work.interrupt, tmp_path, CELLS, jobs=1)
    assert stopped.value.exit_code == 130


def test_a_cell_file_of_another_cell_is_refused(work: Any, tmp_path: Path) -> None:
    run_cells(work.write_cell, tmp_path, CELLS[:1], jobs=1)
    CELLS[0].folder(tmp_path).rename(tmp_path / "cells" / "w1" / "seed_9_fold_9")
    with pytest.raises(DataError, match="belongs to another cell"):
        read_cell(Cell("w1", 9, 9), tmp_path)


def test_a_process_that_is_killed_is_told_with_the_way_on(work: Any, tmp_path: Path) -> None:
    study = tmp_path / "a study"
    with pytest.raises(MedvidError, match="killed from outside") as told:
        run_cells(work.die, study, CELLS, jobs=2)
    assert told.value.code == "worker_killed"
    assert f"medvid context --resume '{study}' --jobs 1" in told.value.message


@pytest.mark.parametrize("address", ["foo", "tcp://127.0.0.1:9", "http://here:1"])
def test_a_cluster_that_is_not_there_is_told(
    work: Any,
    tmp_path: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("medvid.context.schedule.CONNECT_SECONDS", 1)
    with pytest.raises(ConfigError, match="No Dask scheduler answers"):
        run_cells(work.write_cell, tmp_path, CELLS, jobs=1, cluster=address)
    gc.collect()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_cell_that_kills_its_workers_is_told(work: Any, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"processes": True, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    # A worker of this cluster that dies is started again, so that the cell kills one after another.
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster,
        pytest.raises(MedvidError, match="workers of the cluster died") as told,
    ):
        run_cells(work.die, tmp_path, CELLS[:1], jobs=1, cluster=cluster.scheduler_address)
    assert told.value.code == "worker_killed"
    assert f"medvid context --resume {tmp_path}" in told.value.message


@pytest.mark.slow
def test_cells_of_a_worker_that_is_killed_go_to_the_other(
    work: Any, tmp_path: Path, dask_cluster: DaskCluster
) -> None:
    cells = [Cell("w1", seed, fold) for seed in range(3) for fold in range(8)]

    def kill_one(done: int) -> None:
        if done == 5:
            dask_cluster.workers[0].kill()

    address = dask_cluster.address
    run_cells(work.write_slowly, tmp_path, cells, jobs=1, cluster=address, advance=kill_one)
    assert dask_cluster.workers[0].poll() is not None
    found = [read_cell(cell, tmp_path) for cell in cells]
    assert [facts["answer"] for facts in found] == [c.seed * 10 + c.fold for c in cells]
    assert len({facts["process"] for facts in found}) == 2  # both had worked
