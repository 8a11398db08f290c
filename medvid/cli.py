"""The command line: words in, function calls out. torch is imported by the verbs that need it."""

import io
import json
import math
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

import typer

from medvid.contract import ConfigError, MedvidError

app = typer.Typer(
    help="Reads CT and MRI slices as the frames of a video. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
"""The shell's exit code for Ctrl+C."""

Number = TypeVar("Number", int, float)

RUNS = Path("runs")

Config = Annotated[str, typer.Argument(help="A YAML file, or the name of one that ships.")]
Overrides = Annotated[
    Optional[list[str]], typer.Argument(help="key=value, such as model.width=32.")  # noqa: UP045
]
Run = Annotated[Path, typer.Argument(help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Runs a command; turns medvid's errors into a sentence and an exit code."""
    _print_any_name()
    try:
        with _one_voice():
            app()
    except MedvidError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer ends quietly at Ctrl+C
            print("medvid: interrupted.", file=sys.stderr)
        raise
    except UnicodeEncodeError as error:
        from medvid.io.names import explain_unwritten

        _complain(explain_unwritten(error))
        sys.exit(MedvidError.exit_code)
    except OSError as error:
        from medvid.jobs.outputs import explain_system

        _complain(explain_system(error))
        sys.exit(MedvidError.exit_code)


def _complain(error: MedvidError) -> None:
    from medvid.io.names import make_legible

    print(f"medvid: {make_legible(error.message)}", file=sys.stderr)


def _print_any_name() -> None:
    """A name that the terminal's encoding lacks is spelled there, and stops nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes that torchrun started only the first one speaks; errors all do."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(help="Searched with all its subfolders.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write a CSV.")] = None,
    pixels: Annotated[bool, typer.Option(help="Also decode every image.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read; all cores by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find every series and video below a folder, and say of each whether it can be used."""
    from medvid.jobs.find import (
        list_scan,
        scan_folder,
        summarize_scan,
        tabulate_scan,
        write_scan,
    )
    from medvid.jobs.outputs import claim_file

    if out is not None:
        claim_file(out)
    console = _console(quiet=as_json)
    rows = scan_folder(folder, pixels=pixels, workers=workers, console=console)
    told = [] if out is None else write_scan(out, rows)
    _show(list_scan(rows) if as_json else tabulate_scan(rows), as_json)
    if as_json:
        return
    for line in (*summarize_scan(rows), *told):
        print(line)
    if out is None:
        _next("medvid", "scan", str(folder), "-o", "manifest.csv")
    else:
        _next(*_check_of(out), first=f"add labels to {out}, then ")


@app.command()
def manifest(
    source: Annotated[str, typer.Argument(help="See `medvid adapters`.")],
    root: Annotated[Path, typer.Argument(help="Where the source lies.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The CSV to write.")],
    options: Annotated[
        Optional[list[str]], typer.Argument(help="The source's options, such as split=1.")  # noqa: UP045
    ] = None,
) -> None:
    """Turn a known source of labelled data into a manifest."""
    from medvid.jobs.find import make_manifest
    from medvid.jobs.outputs import claim_file

    claim_file(out)
    for line in make_manifest(source, root, out, options or [], console=_console()):
        print(line)
    _next(*_check_of(out))


@app.command()
def check(config: Config, overrides: Overrides = None) -> None:
    """Check files, labels, splits, memory and time, and one step forward and backward."""
    from medvid.config import read_config
    from medvid.jobs.check import check as run_check

    findings = run_check(read_config(config, overrides or []), console=_console())
    _show([{"": subject, "found": text} for subject, text in findings.facts], as_json=False)
    for record, error in findings.refused:
        print(f"left out: {record.case_id} ({error.code}): {error.message}")
    _next("medvid", "train", config, *(overrides or []))


@app.command()
def train(
    config: Annotated[Optional[str], typer.Argument(help="A YAML file or a shipped name.")] = None,  # noqa: UP045
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run folder.")] = None,
    fold: Annotated[int | None, typer.Option(help="Train this fold only, from 0.")] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = RUNS,
) -> None:
    """Train with cross-validation or a fixed split, from scratch."""
    from medvid.config import read_config
    from medvid.contract import ConfigError
    from medvid.jobs.train import train as run_train

    if (config is None) == (resume is None):
        raise ConfigError("Give a config, or --resume RUN, and not both.")
    made = run_train(
        None if config is None else read_config(config, overrides or []),
        resume=resume,
        fold=fold,
        runs=runs,
        command=_name_command(),
        console=_console(),
    )
    if made.metrics.exists():
        _show_metrics(made.metrics)
        print(f"Report: {made.report}")
        if "pretrain" in read_config(made.config):
            _next("medvid", "train", "CONFIG", f"init.from={made.path}")
        else:
            _next("medvid", "predict", str(made.path), "PATH", "-o", "predictions.csv")
    else:
        _next("medvid", "train", "--resume", str(made.path))


@app.command("test")
def run_locked(
    run: Run,
    manifest: Annotated[Path, typer.Option(help="A table of labelled cases.")],
    store: Annotated[str | None, typer.Option(help="Folder for decoded scans.")] = None,
) -> None:
    """Apply a run's locked models to other labelled data."""
    from medvid.jobs.apply import apply_locked

    folder = apply_locked(run, manifest=manifest, store=store, console=_console())
    _show_metrics(folder / "metrics.json")
    print(f"Written: {folder}")


@app.command()
def predict(
    run: Run,
    paths: Annotated[
        list[Path], typer.Argument(help="Scans, folders that are searched, or tables.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out")] = Path("predictions.csv"),
    store: Annotated[
        str | None, typer.Option(help="Keep decoded scans in this folder for the next time.")
    ] = None,
) -> None:
    """Predict any DICOM folder, volume file or video. Exit code 3 if some could not be read."""
    from medvid.evaluate.predictions import write_predictions
    from medvid.jobs.apply import predict as run_predict
    from medvid.jobs.outputs import claim_file

    claim_file(out)
    predicted = run_predict(run, paths, store=store, console=_console())
    write_predictions(predicted.table, out)
    print(f"{len(predicted.table)} predictions written to {out}.")
    point = predicted.table.attrs.get("operating_point")
    if point is not None:
        print(f"`{point.positive}` is called from {point.threshold:.3f} on ({point.method}).")
    for record, error in predicted.refused:
        print(f"refused: {record.path} ({error.code}): {error.message}", file=sys.stderr)
    if predicted.refused:
        raise typer.Exit(MedvidError.exit_code)


@app.command()
def context(
    config: Annotated[Optional[str], typer.Argument(help="A YAML file or a shipped name.")] = None,  # noqa: UP045
    overrides: Overrides = None,
    plan: Annotated[bool, typer.Option(help="Say what it would take, and run nothing.")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with this study folder.")] = None,
    runs: Annotated[Path, typer.Option(help="Where study folders are made.")] = RUNS,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trainings side by side.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler, such as tcp://10.0.0.5:8786.")
    ] = None,
) -> None:
    """How much slice context does the task need? Trains all arms and writes the answer."""
    from medvid.config import read_config
    from medvid.jobs.context import plan_context, study_context

    if (config is None) == (resume is None):
        raise ConfigError("Give a config, or --resume STUDY, and not both.")
    read = None if config is None else read_config(config, overrides or [])
    if plan:
        if read is None:
            raise ConfigError("`--plan` is of a config that has not begun.")
        planned = plan_context(read, jobs=jobs, console=_console())
        _show([{**row, "minutes": f"{row['minutes']:.1f}"} for row in planned.rows], as_json=False)
        for line in planned.tell():
            print(line)
        words = ["medvid", "context", str(config), *(overrides or [])]
        words += [] if runs == RUNS else ["--runs", str(runs)]
        words += [] if jobs is None else ["--jobs", str(jobs)]
        words += [] if cluster is None else ["--cluster", cluster]
        _next(*words)
        return
    folder = study_context(
        read,
        resume=resume,
        runs=runs,
        jobs=jobs,
        cluster=cluster,
        command=_name_command(),
        console=_console(),
    )
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    _show(_list_arms(result), as_json=False)
    print(result["answer"]["sentence"])
    print(f"Report: {folder / 'report.html'}")


@app.command()
def compare(
    run_a: Run,
    run_b: Run,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A new folder.")] = None,
    common_only: Annotated[bool, typer.Option(help="Leave out cases that one run lacks.")] = False,
    margin: Annotated[float, typer.Option(help="AUC difference that does not matter.")] = 0.02,
) -> None:
    """Compare two runs on the same cases, paired."""
    from medvid.jobs.compare import compare as run_compare

    made = run_compare(run_a, run_b, out=out, common_only=common_only, margin=margin)
    rows = [
        {
            "metric": name,
            **{key: _number(entry[key]) for key in ("a", "b", "difference", "low", "high", "p")},
        }
        for name, entry in made.result["metrics"].items()
    ]
    _show(rows, as_json=False)
    print(made.result["sentence"])
    print(f"Written: {made.folder}")


@app.command()
def report(
    run: Run,
    gallery: Annotated[
        int, typer.Option(min=0, help="Take in pictures of so many cases; they hold pixels.")
    ] = 0,
) -> None:
    """Write report.html of a run or a study again, with figures and tables beside it."""
    from medvid.jobs.gallery import make_gallery
    from medvid.report.html import takes_gallery, write_report

    if gallery:
        print(f"{make_gallery(run, gallery, _console())} cases taken in.")
    made = write_report(run)
    print(f"Report: {made}; figures/ and tables/ lie beside it.")
    if gallery:
        print("The page holds pictures of patients now; without them: delete cases/, report again.")
    elif takes_gallery(run):
        words = ("medvid", "report", str(run), "--gallery", "12")
        _next(*words, first="for pictures of single cases, ")


@app.command()
def models(
    clip: Annotated[
        str | None,
        typer.Option(help="T,H,W of your clips: lists every shipped model config at this size."),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Of the clips.")] = 1,
    spacing: Annotated[
        str | None, typer.Option(help="T,H,W in mm, for configs whose strides follow it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks: parameters, operations, memory, smallest clip, paper."""
    from medvid.jobs.listings import list_config_rows, list_model_rows, tell_model_rows

    if clip is None:
        if channels != 1 or spacing is not None:
            raise ConfigError("`--channels` and `--spacing` go with `--clip T,H,W`.")
        rows = list_model_rows()
    else:
        size = _read_three(clip, "--clip", int)
        millimetres = None if spacing is None else _read_three(spacing, "--spacing", float)
        rows = list_config_rows(size, channels=channels, spacing=millimetres)
    _show(rows if as_json else tell_model_rows(rows), as_json)


@app.command()
def adapters(as_json: Json = False) -> None:
    """List the known sources of labelled data."""
    from medvid.jobs.listings import list_adapter_rows

    _show(list_adapter_rows(), as_json)


@app.command()
def transforms(as_json: Json = False) -> None:
    """List what can be done to a clip on its way to the network."""
    from medvid.jobs.listings import list_transform_rows

    _show(list_transform_rows(), as_json)


@app.command()
def config(config: Config, overrides: Overrides = None) -> None:
    """Print a config with its parents, overrides and all defaults."""
    from medvid.config import read_config
    from medvid.jobs.resolve import resolve_config

    print(resolve_config(read_config(config, overrides or [])), end="")


@app.command()
def phantom(
    task: Annotated[str, typer.Argument(help="haemorrhage, nodule, direction or count.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    cases: Annotated[int, typer.Option(min=2, help="Scans to make.")] = 200,
    fmt: Annotated[str, typer.Option("--format", help="dicom, nifti, video or npy.")] = "dicom",
    size: Annotated[str | None, typer.Option(help="T,H,W in voxels, such as 28,28,28.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes other scans.")] = 0,
    leak: Annotated[
        bool,
        typer.Option("--leak", help="Plant the answer in the middle slice, to test studies."),
    ] = False,
) -> None:
    """Write made-up scans with a known answer."""
    from medvid.jobs.find import make_phantom_data

    made = make_phantom_data(
        task,
        out,
        cases=cases,
        file_format=fmt,
        size=size,
        seed=seed,
        leak=leak,
        console=_console(),
    )
    print(f"Written: {made}")
    _next("medvid", "scan", str(out))


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")] = Path("demo"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Trainings side by side.")] = None,
) -> None:
    """Made-up DICOM scans -> scan -> how much slice context do they need -> reports."""
    from medvid.jobs.demo import run_demo

    run_demo(out, jobs=jobs, console=_console())


def _console(quiet: bool = False) -> Any:
    if quiet:
        return None
    from rich.console import Console

    return Console()


def _next(*words: str, first: str = "") -> None:
    """Prints a command that a shell takes as it stands, whatever its paths are."""
    from medvid.io.names import make_legible

    print(make_legible(f"Next: {first}{shlex.join(words)}"))


def _check_of(manifest: Path) -> tuple[str, ...]:
    return ("medvid", "check", "CONFIG", f"data.manifest={manifest}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _show_metrics(path: Path) -> None:
    metrics = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        {
            "metric": name,
            "value": _number(entry["value"]),
            "low": _number(entry["low"]),
            "high": _number(entry["high"]),
        }
        for name, entry in metrics["metrics"].items()
    ]
    _show(rows, as_json=False)
    level = metrics["bootstrap"]["level"]
    print(
        f"{metrics['n_cases']} cases of {metrics['n_patients']} patients; {level:.0%} intervals by "
        f"{metrics['bootstrap']['method']}."
    )
    for note in metrics.get("notes", []):  # a run of an earlier version has none
        print(note)


def _name_command() -> list[str]:
    """Returns the words of this command, however medvid was started."""
    return ["medvid", *sys.argv[1:]]


def _list_arms(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "arm": name,
            "sees": arm["says"],
            **{key: _number(arm["metrics"]["auc"][key]) for key in ("value", "low", "high")},
        }
        for name, arm in result["arms"].items()
    ]


def _read_three(text: str, option: str, kind: type[Number]) -> tuple[Number, Number, Number]:
    try:
        t, h, w = (kind(part) for part in text.split(","))
    except ValueError:
        t = h = w = kind(0)
    if not all(0 < n < math.inf for n in (t, h, w)):
        whole = "whole numbers " if kind is int else ""
        raise ConfigError(f"{option} is T,H,W, {whole}such as 16,28,28; it was given `{text}`.")
    return t, h, w


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Prints rows as a table, or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print("Nothing to show.")
        return
    table = Table(box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160)
    console.print(table, highlight=False, markup=False)
