"""`medvid demo`: the main job on made-up scans, whose answer is known.

A nodule is told from a vessel only by its neighbouring slices: in the middle slice the two are the
same picture. So the network that sees one slice must guess, and the one that sees seventeen must
not; anything else would be a fault of the program.
"""

from pathlib import Path

from rich.console import Console

from medvid.config import read_config
from medvid.contract import ConfigError
from medvid.data.phantoms import write_phantom
from medvid.jobs.check import check
from medvid.jobs.compare import Comparison, compare
from medvid.jobs.find import scan_folder
from medvid.jobs.messages import say, show_progress
from medvid.jobs.train import train
from medvid.train.runfolder import RunFolder, read_json

CONFIGS = ("run/phantom_c3d", "run/phantom_slicewise")
"""The one that sees neighbours comes first: differences are its AUC minus the other's."""


def run_demo(out: Path, *, cases: int = 320, console: Console | None = None) -> Comparison:
    """Writes made-up DICOM scans, trains two networks on them, and compares them.

    Args:
        out: a new or empty folder for scans, runs and the comparison.
        cases: made-up scans.
        console: where progress is shown.

    Raises:
        ConfigError: when the folder holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(
            f"{out} is not empty. Give another folder, or delete it: medvid demo NEW_FOLDER.",
            code="folder_taken",
        )
    say(console, f"1/5  Made-up scans: is it a nodule or a vessel?  medvid phantom nodule {out}")
    with show_progress(console, "writing DICOM") as progress:
        manifest = write_phantom("nodule", out / "data", cases=cases, progress=progress)
    say(console, f"2/5  What lies there?  medvid scan {out / 'data'}")
    rows = scan_folder(out / "data", console=console)
    series = [row for row in rows if row.kind == "dicom"]
    usable = sum(row.verdict == "ok" for row in series)
    say(console, f"     {usable} of {len(series)} series can be used as they are.")
    runs = [_train_one(name, number, out, manifest, console) for number, name in enumerate(CONFIGS)]
    say(console, f"5/5  Is the difference real?  medvid compare {runs[0].path} {runs[1].path}")
    made = compare(runs[0].path, runs[1].path, out=out / "comparison")
    for run in runs:
        say(console, f"     {_say_auc(run)}")
    say(console, f"     {made.result['verdict']}")
    say(console, f"Report: {made.folder / 'comparison.html'}")
    say(console, f"Figure: {made.folder / 'roc.png'}")
    say(console, "Next: medvid scan YOUR_DICOM_FOLDER -o manifest.csv")
    return made


def _train_one(
    name: str, number: int, out: Path, manifest: Path, console: Console | None
) -> RunFolder:
    config = read_config(name, [f"data.manifest={manifest}", f"data.store={out / 'store'}"])
    say(console, f"{number + 3}/5  medvid check {name}; medvid train {name}")
    for subject, text in check(config, console=console).facts:
        if subject in ("folds", "model", "time"):
            say(console, f"     {subject}: {text}")
    return train(config, runs=out / "runs", command=["medvid", "demo"], console=console)


def _say_auc(run: RunFolder) -> str:
    auc = read_json(run.metrics)["metrics"]["auc"]
    name = read_config(run.config)["name"]
    return f"{name}: AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f}), n = {auc['n']}"
