"""`comparison.html`: two runs on the same cases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvid.report.render import Figures, render, write_page
from medvid.report.wording import NAMES, say_count, say_interval, say_number, say_p


def write_comparison(folder: Path, comparison: Mapping[str, Any], figure: Path | None) -> Path:
    """Writes `comparison.html`: the answer, the ROC curves, every paired difference.

    Args:
        folder: where the page goes.
        comparison: what `compare_predictions` returned, with `run_a` and `run_b`, the runs' names,
            and `unit`, what is counted: `case` or `slice`.
        figure: the ROC curves as SVG, None where there are none.

    Raises:
        DataError: when the page cannot be written.
    """
    metrics = comparison["metrics"]
    methods = {entry["method"] for entry in metrics.values()}
    unit = comparison.get("unit", "case")
    counted = f"{say_count(comparison['n_cases'], unit)} of "
    counted += f"{say_count(comparison['n_patients'], 'patient')}."
    if comparison["n_left_out"]:
        left = comparison["n_left_out"]
        verb = "is" if left == 1 else "are"
        counted += f" {say_count(left, unit)} that only one run has {verb} left out."
    figures = Figures()
    if figure is not None:
        figures.add("roc", figure, "ROC curves with pointwise intervals")
    page = render(
        "comparison",
        title=f"{comparison['run_a']} against {comparison['run_b']}",
        answer=comparison["sentence"],
        run_a=comparison["run_a"],
        run_b=comparison["run_b"],
        counted=counted,
        level=f"{comparison['level']:.0%}",
        figures=figures.items,
        rows=[_list_difference(name, entry) for name, entry in metrics.items()],
        method=f"Method: {'; '.join(sorted(methods))}. p values are not adjusted for their number.",
        delong=_describe_delong(comparison["delong"]),
    )
    return write_page(folder / "comparison.html", page)


def _list_difference(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": NAMES.get(name, name),
        "a": say_number(entry["a"]),
        "b": say_number(entry["b"]),
        "difference": say_number(entry["difference"], "+.3f"),
        "interval": say_interval(entry, "+.3f"),
        "p": say_p(entry["p"]),
    }


def _describe_delong(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return ""
    return (
        f"Cross-check, {test['method']}: difference of the AUCs {test['difference']:+.3f}, "
        f"standard error {test['standard_error']:.3f}, p {say_p(test['p'], equal='= ')}."
    )
