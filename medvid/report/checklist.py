"""What CLAIM 2024 and TRIPOD+AI ask for: filled where the files know it, open where they do not.

Topics are in our own words and without numbers: the published checklists are the authority.

References:
    Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update,
    Radiology: Artificial Intelligence 2024.
    Collins et al., TRIPOD+AI statement, BMJ 2024.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from medvid.report.gallery import Gallery
from medvid.report.wording import say_count

TOPICS: dict[str, tuple[str, str]] = {
    "title": ("Title names the method, the population and the outcome", "C, T"),
    "abstract": ("Structured abstract", "C, T"),
    "background": ("Clinical background, intended role and users", "C, T"),
    "inequality": ("Known health inequalities between groups", "T"),
    "aim": ("Aims and hypotheses", "C, T"),
    "design": ("Prospective or retrospective; goal of the study", "C"),
    "source": ("Data sources, dates, setting and centres", "C, T"),
    "eligibility": ("Inclusion and exclusion criteria", "C, T"),
    "preparation": ("Preparation of the images", "C, T"),
    "subset": ("Selection of parts of the data (slices, regions)", "C"),
    "deidentification": ("De-identification", "C"),
    "missing": ("Missing data and unreadable cases", "C, T"),
    "acquisition": ("Acquisition protocol", "C"),
    "reference": ("Reference standard: definition, reason, who set it, variability", "C, T"),
    "partition": ("Assignment to partitions, and the level at which they are disjoint", "C, T"),
    "sample": ("Sample size, and how it was arrived at", "C, T"),
    "model": ("The network, its inputs and outputs", "C, T"),
    "software": ("Software and hardware, with versions", "C"),
    "initialization": ("Initialisation of the weights", "C"),
    "training": ("Training: augmentation, settings, stopping", "C, T"),
    "selection": ("How the final model was chosen", "C, T"),
    "ensemble": ("Combination of models", "C"),
    "imbalance": ("Class imbalance, and what was done about it", "T"),
    "fairness": ("Fairness, and performance in subgroups", "T"),
    "metrics": ("Measures of performance, discrimination and calibration", "C, T"),
    "uncertainty": ("Statistical uncertainty and tests", "C, T"),
    "robustness": ("Robustness or sensitivity analysis", "C"),
    "explain": ("Methods of explanation", "C"),
    "threshold": ("Output of the model, and the threshold of a decision", "T"),
    "internal": ("Testing on internal data", "C, T"),
    "external": ("Testing on external data", "C, T"),
    "ethics": ("Ethics approval and consent", "T"),
    "registration": ("Registration and protocol", "C, T"),
    "involvement": ("Involvement of patients and the public", "T"),
    "flow": ("Flow of cases, with reasons of exclusion", "C, T"),
    "characteristics": ("Characteristics of the patients in every partition", "C, T"),
    "performance": ("Performance with its uncertainty", "C, T"),
    "failures": ("Failure analysis", "C"),
    "utility": ("Clinical usefulness (net benefit)", "T"),
    "limits": ("Interpretation and limits", "C, T"),
    "implications": ("Implications for practice, usability, next steps", "C, T"),
    "code": ("Access to code, model and data", "C, T"),
    "funding": ("Funding and interests", "C, T"),
}
"""Key -> (topic, who asks for it: C is CLAIM 2024, T is TRIPOD+AI)."""

IN_PART = frozenset({"aim", "sample", "imbalance", "fairness", "selection", "missing", "explain"})
"""Topics that files answer in part at most: why it was done so, only the authors know."""


SHOWN_MEASURES = {"auc": "AUC", "log_loss": "log loss", "brier": "Brier score"}
"""What a study's page says of every window."""


def fill_run_checklist(
    record: Mapping[str, Any],
    metrics: Mapping[str, Any],
    gallery: Gallery,
    *,
    drawn: Collection[str],
    failures: bool,
) -> list[dict[str, Any]]:
    """Fills the checklist of a training run.

    Args:
        record: see `medvid.report.record`.
        metrics: of metrics.json.
        gallery: the cases that can be looked at.
        drawn: keys of the figures on the page; what is not drawn is not ticked.
        failures: whether any error is listed.
    """
    bootstrap = metrics["bootstrap"]
    point = metrics.get("operating_point")
    measured = [one for one in metrics["metrics"].values() if one["value"] is not None]
    known = _fill_shared(record, gallery, drawn)
    known |= {
        "metrics": _join(
            say_count(len(measured), "measure") if measured else "", _say_calibration(drawn)
        ),
        "uncertainty": f"{bootstrap['method']}, {bootstrap['resamples']} resamples"
        if _have_interval(measured)
        else "",
        "threshold": f"Probabilities; {point['method']}" if point else "",
        "internal": "Out-of-fold predictions, or a held-out part; see Cases",
        "performance": "See Performance" if metrics["metrics"]["auc"]["value"] is not None else "",
        "failures": _say_failures(failures, gallery),
        "utility": _say_utility(drawn),
    }
    return _list_items(known)


def fill_study_checklist(
    record: Mapping[str, Any],
    result: Mapping[str, Any],
    gallery: Gallery,
    *,
    drawn: Collection[str],
    failures: bool,
) -> list[dict[str, Any]]:
    """Fills the checklist of a slice-context study; the arguments are those of a run's."""
    known = _fill_shared(record, gallery, drawn)
    planned = result.get("planned") or {}
    curve = [result["arms"][name]["metrics"] for name in result["curve"]]
    folds, seeds, controls = result["folds"], len(result["seeds"]), len(result["controls"])
    known |= {
        "aim": "Smallest window not inferior to the best nor to a wider one; margin declared first",
        "sample": planned["sentence"] if planned.get("interval_width") else known["sample"],
        "model": f"{result['network']} in every window; see Every arm that was run",
        "metrics": _join(*_list_measured(curve), _say_calibration(drawn)),
        "uncertainty": f"Paired bootstrap over patients and seeds, {result['resamples']} "
        "resamples; Holm within each family"
        if _have_interval(one for metrics in curve for one in metrics.values())
        else "",
        "robustness": _join(
            say_count(controls, "control") if controls else "",
            say_count(seeds, "seed") if seeds > 1 else "",
        ),
        "fairness": "Subgroups" if result["subgroups"] else "",
        "internal": f"Out-of-fold predictions of {folds} folds"
        if folds > 1
        else "Predictions of the part that was held out",
        "registration": f"Settings hashed before the first training: {result['hash'][:16]}...",
        "performance": "See Performance by context"
        if any(_is_defined(metrics, result["metric"]) for metrics in curve)
        else "",
        "failures": _say_failures(failures, gallery),
        "utility": _say_utility(drawn),
    }
    return _list_items(known)


def _join(*texts: str) -> str:
    """Returns an enumeration of the texts that are not empty."""
    said = ", ".join(filter(None, texts))
    return said[:1].upper() + said[1:]


def _is_defined(metrics: Mapping[str, Any], name: str) -> bool:
    return (metrics.get(name) or {}).get("value") is not None


def _list_measured(curve: Collection[Mapping[str, Any]]) -> list[str]:
    """Returns the names of the measures that have a value in some window."""
    return [
        said for key, said in SHOWN_MEASURES.items() if any(_is_defined(one, key) for one in curve)
    ]


def _have_interval(entries: Iterable[Mapping[str, Any]]) -> bool:
    return any(one.get("low") is not None and one.get("high") is not None for one in entries)


def _say_calibration(drawn: Collection[str]) -> str:
    return "calibration curve" if "reliability" in drawn else ""


def _say_utility(drawn: Collection[str]) -> str:
    return "Decision curve" if "decision" in drawn else ""


def _fill_shared(
    record: Mapping[str, Any], gallery: Gallery, drawn: Collection[str]
) -> dict[str, str]:
    versions = dict(record["environment"])
    titles = sorted({case["score_title"] for case in gallery.cases if case["scores"]})
    titles += ["Grad-CAM"] if gallery.heat else []
    software = [f"{name} {versions[name]}" for name in ("medvid", "torch") if name in versions]
    settings = bool(record["settings"])
    seen = "not on record" not in record["partition"]
    return {
        "preparation": "Section `transforms` and `data` of the settings" if settings else "",
        "subset": "Section `data` of the settings (task, sampler)" if settings else "",
        "missing": f"{record['refused_total']} refused, by reason"
        if record["refused"]
        else "No case was refused",
        "partition": record["partition"] if seen else "",
        "sample": record["counted"],
        "imbalance": record["classes"],
        "model": "Section `model` of the settings" if settings else "",
        "software": ", ".join(software) + "; see Versions" if software else "",
        "initialization": "From scratch with the seed of the settings"
        if settings and "\ninit:" not in f"\n{record['settings']}"
        else "",
        "training": "Sections `train` and `transforms` of the settings" if settings else "",
        "selection": "Section `train` of the settings (checkpoint)" if settings else "",
        "explain": ", ".join(titles),
        "flow": "Flow diagram" if "flow" in drawn else "",
        "characteristics": "Table by partition" if record["table_one"].columns else "",
    }


def _say_failures(failures: bool, gallery: Gallery) -> str:
    if not failures:
        return ""
    shown = f", {say_count(len(gallery.cases), 'case')} with slices" if gallery.cases else ""
    return f"Most confident errors{shown}"


def _list_items(known: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns the rows; the box stays open where the files know a part only."""
    return [
        {
            "topic": topic,
            "asked": asked,
            "known": f"In part: {text}" if text and key in IN_PART else text,
            "done": bool(text) and key not in IN_PART,
        }
        for key, (topic, asked) in TOPICS.items()
        for text in [known.get(key, "")]
    ]
