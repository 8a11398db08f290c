"""Self-contained pages of a run or a study (`report.html`) and of two runs (`comparison.html`).

They are written from the files of the folder alone, so that a report can be made again on any
machine, without the images and without torch. Patients are counted, never named.
"""

from pathlib import Path

from medvid.contract import DataError
from medvid.report.comparison import write_comparison
from medvid.report.results import read_metrics, read_result
from medvid.report.run_page import write_run_page
from medvid.report.study_page import has_findings, write_study_page

__all__ = ["check_finished", "takes_gallery", "write_comparison", "write_report"]


def write_report(folder: str | Path) -> Path:
    """Writes `report.html`, figures/ and tables/ beside it, from the files of a folder.

    Args:
        folder: of a run, with metrics.json; predictions_oof.csv, manifest.csv, refused.csv,
            splits.json, config.yaml, environment.json, fold_*/history.csv and cases/ are used
            where they are. Or of a study, with result.json, and predictions/ in place of
            predictions_oof.csv.

    Raises:
        DataError: when there is neither metrics.json nor result.json, one of the files is damaged,
            or a page cannot be written.
    """
    run = Path(folder)
    check_finished(run)
    if (run / "result.json").is_file():
        return write_study_page(run, read_result(run))
    return write_run_page(run, read_metrics(run))


def takes_gallery(folder: str | Path) -> bool:
    """Tells whether pictures of cases can be made of a finished run or study: of one class a case.

    Raises:
        DataError: when a file of the folder is damaged.
    """
    run = Path(folder)
    if (run / "result.json").is_file():
        return not has_findings(run, read_result(run))
    return bool(read_metrics(run)["task"] != "multilabel")


def check_finished(run: Path) -> None:
    """Makes sure that a folder is that of a finished run or study.

    Raises:
        DataError: when it is not; says what is missing and how to go on.
    """
    if not run.is_dir():
        raise DataError(
            f"There is no folder {run}. `medvid train` and `medvid context` print the folder that "
            "they make.",
            code="no_run",
            files=[run],
        )
    if (run / "result.json").is_file() or (run / "metrics.json").is_file():
        return
    if (run / "study.yaml").is_file():
        raise DataError(
            f"{run} has no result.json: not all cells of the study are finished. Go on with "
            f"`medvid context --resume {run}`.",
            code="unfinished_run",
            files=[run],
        )
    if not (run / "config.yaml").is_file():
        raise DataError(
            f"{run} is neither a run nor a study: it holds no config.yaml and no study.yaml. Give "
            "a folder that `medvid train` or `medvid context` made.",
            code="no_run",
            files=[run],
        )
    raise DataError(
        f"{run} has no metrics.json: its folds are not all trained yet. Go on with "
        f"`medvid train --resume {run}`.",
        code="unfinished_run",
        files=[run],
    )
