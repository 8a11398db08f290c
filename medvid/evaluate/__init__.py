"""From predictions to numbers with intervals: numpy, scikit-learn and pandas, and no torch."""

from medvid.evaluate.chance import Chance, measure_chance
from medvid.evaluate.compare import compare_predictions
from medvid.evaluate.curves import RocBand, bin_reliability, roc_band
from medvid.evaluate.operating_point import (
    choose_threshold,
    cross_fit_thresholds,
    explain_cross_fit,
    explain_fallback,
)
from medvid.evaluate.predictions import (
    Outcomes,
    average_seeds,
    read_outcomes,
    read_predictions,
    write_predictions,
)
from medvid.evaluate.study import compare_arms, evaluate_arms
from medvid.evaluate.summary import evaluate_predictions
from medvid.evaluate.width import expected_width, plan_comparison
from medvid.evaluate.window import find_smallest_window

__all__ = [
    "Chance",
    "Outcomes",
    "RocBand",
    "average_seeds",
    "bin_reliability",
    "choose_threshold",
    "compare_arms",
    "compare_predictions",
    "cross_fit_thresholds",
    "evaluate_arms",
    "evaluate_predictions",
    "expected_width",
    "explain_cross_fit",
    "explain_fallback",
    "find_smallest_window",
    "measure_chance",
    "plan_comparison",
    "read_outcomes",
    "read_predictions",
    "roc_band",
    "write_predictions",
]
