"""From predictions to numbers with intervals: numpy, scikit-learn and pandas, and no torch."""

from medvid.evaluate.compare import compare_predictions
from medvid.evaluate.curves import RocBand, bin_reliability, roc_band
from medvid.evaluate.operating_point import (
    choose_threshold,
    cross_fit_thresholds,
    explain_cross_fit,
    explain_fallback,
)
from medvid.evaluate.predictions import Outcomes, read_outcomes, read_predictions, write_predictions
from medvid.evaluate.summary import evaluate_predictions

__all__ = [
    "Outcomes",
    "RocBand",
    "bin_reliability",
    "choose_threshold",
    "compare_predictions",
    "cross_fit_thresholds",
    "evaluate_predictions",
    "explain_cross_fit",
    "explain_fallback",
    "read_outcomes",
    "read_predictions",
    "roc_band",
    "write_predictions",
]
