"""What CLAIM 2024 and TRIPOD+AI ask for: filled where the files know it, open where they do not.

Topics are in our own words and without numbers: the published checklists are the authority.

References:
    Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update,
    Radiology: Artificial Intelligence 2024.
    Collins et al., TRIPOD+AI statement, BMJ 2024.
"""

from collections.abc import Mapping
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


def fill_run_checklist(
    record: Mapping[str, Any], metrics: Mapping[str, Any], gallery: Gallery, failures: bool
) -> list[dict[str, Any]]:
    """Fills the checklist of a training run.

    Args:
        record: see `medvid.report.record`.
        metrics: of metrics.json.
        gallery: the cases that can be looked at.
        failures: whether any error is listed.
    """
    drawn = metrics["bootstrap"]
    auc = metrics["metrics"]["auc"]
    point = metrics.get("operating_point")
    binary = metrics["task"] == "binary" and auc["value"] is not None
    known = _fill_shared(record, gallery)
    known |= {
        "imbalance": ", ".join(f"{n}: {k}" for n, k in metrics["n_per_class"].items()),
        "metrics": f"{len(metrics['metrics'])} measures, and a calibration curve"
        if binary
        else f"{len(metrics['metrics'])} measures",
        "uncertainty": f"{drawn['method']}, {drawn['resamples']} resamples",
        "threshold": f"Probabilities; {point['method']}" if point else "",
        "internal": "Out-of-fold predictions, or a held-out part; see Cases",
        "performance": "" if auc["value"] is None else "See Performance",
        "failures": _say_failures(failures, gallery),
        "utility": "Decision curve" if binary else "",
    }
    return _list_items(known)


def fill_study_checklist(
    record: Mapping[str, Any], result: Mapping[str, Any], gallery: Gallery, failures: bool
) -> list[dict[str, Any]]:
    """Fills the checklist of a slice-context study; the arguments are those of a run's."""
    known = _fill_shared(record, gallery)
    planned = result.get("planned") or {}
    known |= {
        "aim": "Smallest window that is not inferior to the best; margin declared beforehand",
        "sample": planned["sentence"] if planned.get("interval_width") else known["sample"],
        "model": f"{result['network']} in every window; see Every arm that was run",
        "imbalance": ", ".join(f"{n}: {k}" for n, k in result["n_per_class"].items()),
        "metrics": "AUC, log loss, Brier score, calibration curve",
        "uncertainty": f"Paired bootstrap over patients and seeds, {result['resamples']} "
        "resamples; Holm within each family",
        "robustness": f"{len(result['controls'])} controls, {len(result['seeds'])} seeds",
        "fairness": "Subgroups" if result["subgroups"] else "",
        "internal": f"Out-of-fold predictions of {result['folds']} folds",
        "registration": f"Settings hashed before the first training: {result['hash'][:16]}...",
        "performance": "See Performance by context",
        "failures": _say_failures(failures, gallery),
        "utility": "Decision curve" if failures else "",
    }
    return _list_items(known)


def _fill_shared(record: Mapping[str, Any], gallery: Gallery) -> dict[str, str]:
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
        "model": "Section `model` of the settings" if settings else "",
        "software": ", ".join(software) + "; see Versions" if software else "",
        "initialization": "From scratch with the seed of the settings"
        if settings and "\ninit:" not in f"\n{record['settings']}"
        else "",
        "training": "Sections `train` and `transforms` of the settings" if settings else "",
        "selection": "Section `train` of the settings (checkpoint)" if settings else "",
        "explain": ", ".join(titles),
        "flow": "Flow diagram" if seen else "",
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
