"""What stands on a run's and on a study's page alike: cases, settings, versions."""

from pathlib import Path
from typing import Any

from medvid.report.characteristics import describe_patients
from medvid.report.counts import Counts
from medvid.report.evidence import (
    count_refused,
    describe_partition,
    list_environment,
    read_rows,
    read_text,
)
from medvid.report.figures_run import plot_flow
from medvid.report.flow import list_partitions, read_flow
from medvid.report.render import Figures, write_table
from medvid.report.results import read_splits


def make_record(run: Path, counts: Counts, figures: Figures, settings: str) -> dict[str, Any]:
    """Collects the shared part, draws the flow diagram and writes tables/.

    Args:
        run: the folder.
        counts: what was predicted.
        figures: of the page; the flow diagram is added.
        settings: name of the file with the resolved settings.
    """
    flow = read_flow(run, counts)
    if flow is not None:
        path = plot_flow(run / "figures" / "flow", flow)
        figures.add("flow", path, "Flow of cases from the source to the partitions", wide=True)
        rows: list[tuple[str, str, Any]] = [("found", "", flow.found)]
        rows += [("left out", code, number) for code, number in flow.refused]
        rows += [("used", "", flow.used)]
        rows += [("partition", name, "; ".join(lines)) for name, lines in flow.parts]
        write_table(run / "tables" / "flow.csv", ("step", "what", "n"), rows)
    manifest = run / "manifest.csv"
    cases = read_rows(manifest) if manifest.is_file() else []
    table = describe_patients(cases, list_partitions(read_splits(run) or []))
    if table.columns:
        write_table(
            run / "tables" / "characteristics.csv",
            ("characteristic", *table.columns),
            [(f"  {r['name']}" if r["inner"] else r["name"], *r["cells"]) for r in table.rows],
        )
    return {
        "counted": counts.say_all(),
        "classes": counts.say_classes(),
        "partition": describe_partition(run),
        "table_one": table,
        "settings": read_text(run / settings),
        "command": read_text(run / "command.txt").strip(),
        "environment": _list_versions(run),
        **count_refused(run / "refused.csv"),
    }


def _list_versions(run: Path) -> list[tuple[str, str]]:
    listed = list_environment(run)
    digest = read_text(run / "manifest.sha256").split()
    return [*listed, ("SHA-256 of the manifest", digest[0])] if digest else listed
