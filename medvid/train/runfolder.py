"""The run folder: the contract on disk between training, evaluation and the report.

    runs/<name>-<timestamp>/
      command.txt  config.yaml  environment.json  manifest.csv  manifest.sha256
      fingerprints.json  splits.json  refused.csv  notes.csv
      fold_0/{last.ckpt, best.ckpt, history.csv, predictions_val.csv, predictions_test.csv} ...
      predictions_oof.csv  metrics.json  report.html  figures/

Every file is written beside its place and then moved there: a reader never sees half of one.
"""

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import medvid
from medvid.contract import DataError

PACKAGES = (
    "torch",
    "monai",
    "lightning",
    "numpy",
    "pandas",
    "scikit-learn",
    "nibabel",
    "pydicom",
    "SimpleITK",
    "av",
)
"""Packages whose versions can change a result."""

TEST_PREDICTIONS = "predictions_test.csv"
"""In a fold's folder: its held-out side; the folds together are predictions_oof.csv. It is written
last, so a fold that has it is finished; best.ckpt is there after the first epoch already."""

VAL_PREDICTIONS = "predictions_val.csv"
"""In a fold's folder: its validation side, on which epoch and operating point were chosen."""

GIT_SECONDS = 5  # a network drive may hang; the commit is worth no longer wait


@dataclass(frozen=True)
class RunFolder:
    """Names the files of a run. Opening one checks that it is a run at all.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """The cases: where they lie, whose they are, and their labels."""
        return self.path / "manifest.csv"

    @property
    def manifest_digest(self) -> Path:
        """The SHA-256 of the manifest, as `sha256sum -c` reads it."""
        return self.path / "manifest.sha256"

    @property
    def fingerprints(self) -> Path:
        """By which the files of every case are known again."""
        return self.path / "fingerprints.json"

    @property
    def splits(self) -> Path:
        """Who was trained and tested in which fold."""
        return self.path / "splits.json"

    @property
    def refused(self) -> Path:
        """The cases that could not be used, with reasons."""
        return self.path / "refused.csv"

    @property
    def notes(self) -> Path:
        """What was mended in the cases that are used: filled gaps, images left out."""
        return self.path / "notes.csv"

    @property
    def predictions_oof(self) -> Path:
        """The out-of-fold predictions, the primary artefact."""
        return self.path / "predictions_oof.csv"

    @property
    def metrics(self) -> Path:
        """What they come to."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The figures of the report."""
        return self.path / "figures"

    def fold(self, number: int) -> Path:
        """Returns the folder of a fold, counted from 0."""
        return self.path / f"fold_{number}"

    def list_folds(self) -> list[int]:
        """Returns the numbers of all folds that were begun."""
        names = (re.fullmatch(r"fold_(\d+)", entry.name) for entry in self.path.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def list_finished_folds(self) -> list[int]:
        """Returns the folds whose training has ended and whose held-out side is predicted."""
        wanted = ("best.ckpt", TEST_PREDICTIONS)
        return [k for k in self.list_folds() if all((self.fold(k) / f).is_file() for f in wanted)]


def create_run_folder(
    root: Path, name: str, *, command: Sequence[str], now: datetime | None = None
) -> RunFolder:
    """Makes `root/<name>-<timestamp>` with command.txt and environment.json in it.

    A folder that is there already is never touched; the new one then ends in -2, -3, ...

    Args:
        root: usually `runs`.
        name: of the run; characters that a file name cannot hold become `_`.
        command: the command line's words.
        now: of the timestamp; None reads the clock.

    Raises:
        DataError: when the folder cannot be made.
    """
    stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
    safe = re.sub(r"[^\w.-]+", "_", name).strip("._") or "run"
    try:
        path = make_new_folder(root, f"{safe}-{stamp}")
        write_text_atomic(path / "command.txt", shlex.join(command) + "\n")
        write_json(path / "environment.json", describe_environment())
    except OSError as error:
        raise DataError(
            f"No run folder can be made in {root}: {error.strerror}. Give another place with "
            "`--runs`.",
            code="no_run_folder",
            files=[root],
        ) from None
    return RunFolder(path)


def open_run_folder(path: str | Path) -> RunFolder:
    """Opens a run that was made before.

    Raises:
        DataError: when there is no such folder, or it is no run.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(
            f"There is no run folder {folder}. `medvid train` prints the folder it makes.",
            code="no_run",
            files=[folder],
        )
    run = RunFolder(folder)
    if not run.config.is_file():
        below = sorted(entry.parent.name for entry in folder.glob("*/config.yaml"))
        hint = (
            f" Did you mean one of the runs in it, such as {folder / below[-1]}?" if below else ""
        )
        if (folder / "study.yaml").is_file():
            hint = (
                f" It is a slice-context study: `medvid context --resume {folder}` goes on with "
                f"it, and `medvid report {folder}` writes the page on which its arms are compared. "
                "Give a folder that `medvid train` made."
            )
        raise DataError(
            f"{folder} is no run folder: it holds no config.yaml.{hint}",
            code="no_run",
            files=[folder],
        )
    return run


def describe_environment() -> dict[str, Any]:
    """Returns what a result may depend on: versions, platform, processors, the code's commit.

    No names of users, machines or folders.
    """
    return {
        "medvid": medvid.__version__,
        "commit": _read_commit(),
        "python": platform.python_version(),
        "packages": {name: _find_version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "gpus": _list_gpus(),
    }


def write_text_atomic(path: Path, text: str) -> None:
    """Writes a file in UTF-8 with Unix line ends, whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8", newline="\n")
    os.replace(beside, path)


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes JSON, whole or not at all.

    Raises:
        ValueError: for NaN and infinity, which JSON cannot say.
    """
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        DataError: when the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing.", code="no_file", files=[path]) from None
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}", code="no_json", files=[path]) from None


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_new_folder(root: Path, stem: str) -> Path:
    """Makes `root/stem`, or where that is taken `root/stem-2`, `root/stem-3`, ..."""
    root.mkdir(parents=True, exist_ok=True)
    path, number = root / stem, 1
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = root / f"{stem}-{number}"
        else:
            return path


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read_commit() -> str | None:
    """Returns the commit of a checkout of medvid; None for an installed wheel."""
    checkout = Path(medvid.__file__).resolve().parents[1]
    if not (checkout / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _list_gpus() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
