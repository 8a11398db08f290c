"""Folds held against the data before anything is trained: no leak, and every class to be learnt."""

from collections import Counter
from collections.abc import Mapping, Sequence

from medvid.contract import DataError, Record
from medvid.data.labels import LabelSpace, list_labels
from medvid.data.splits import Fold, Method

_BY_COLUMN = "Check the `split` or `fold` column, use `data.splits.method=grouped`"
_BY_CHANCE = "Use another `seed`"
"""What to do where the sides of a fold do not show the same classes."""


def audit_folds(
    folds: Sequence[Fold],
    records: Sequence[Record],
    space: LabelSpace,
    pixels: Mapping[str, str] | None = None,
    *,
    method: Method = "auto",
) -> None:
    """Stops when a fold leaks or cannot be learnt from.

    Args:
        folds: to be checked.
        records: all that the folds name.
        space: the classes; with none nothing is to be learnt from labels.
        pixels: case_id -> hash of the case's pixels; whole scans only, regions share theirs.
        method: by which the folds were made; what to do depends on it.

    Raises:
        DataError: for a patient, or identical pixels, on two sides of a fold, or a class that a
            fold's training side lacks.
    """
    by_id = {record.case_id: record for record in records}
    columns = any(r.split is not None or r.fold is not None for r in records)
    advice = _BY_COLUMN if columns and method != "grouped" else _BY_CHANCE
    for fold in folds:
        patients = {case: by_id[case].patient_id for side in fold.sides().values() for case in side}
        _stop_on_shared(fold, patients, "the same patient", "Put all rows of a patient on one side")
        if pixels is not None:
            hashes = {case: pixels[case] for case in patients if case in pixels}
            _stop_on_shared(
                fold, hashes, "identical pixels", "One is a copy of the other; leave one out"
            )
        if space.classes:
            _stop_on_missing_class(fold, by_id, space, advice)


def _stop_on_shared(fold: Fold, of_case: Mapping[str, str], what: str, advice: str) -> None:
    first: dict[str, tuple[str, str]] = {}
    for side, cases in fold.sides().items():
        for case in cases:
            if case not in of_case:
                continue
            seen_side, seen_case = first.setdefault(of_case[case], (side, case))
            if seen_side != side:
                raise DataError(
                    f"Fold {fold.fold}: case {seen_case} ({seen_side}) and case {case} ({side}) "
                    f"have {what}, so the test would not be one. {advice}.",
                    code="leakage",
                )


def _stop_on_missing_class(
    fold: Fold, by_id: Mapping[str, Record], space: LabelSpace, advice: str
) -> None:
    if space.multilabel:
        _stop_on_missing_finding(fold, by_id, space, advice)
        return
    trained = Counter(label for case in fold.train for label in list_labels(by_id[case]))
    tested = {label for case in (*fold.test, *fold.val) for label in list_labels(by_id[case])}
    for name in sorted(str(label) for label in tested):
        if name not in trained:
            raise DataError(
                f"Fold {fold.fold}: the class `{name}` is tested but never trained on. {advice}, "
                "merge classes, or add patients.",
                code="class_in_one_fold",
            )
    if len(trained) < 2:
        raise DataError(
            f"Fold {fold.fold}: all training cases have the label "
            f"`{next(iter(trained), 'unknown')}`. Training needs two classes.",
            code="single_class",
        )


def _stop_on_missing_finding(
    fold: Fold, by_id: Mapping[str, Record], space: LabelSpace, advice: str
) -> None:
    trained = Counter(
        (name, value)
        for case in fold.train
        for label in list_labels(by_id[case])
        if not isinstance(label, str)
        for name, value in label.items()
    )
    for name in space.classes:
        for value, word in ((1, "present"), (0, "absent")):
            if not trained[name, value]:
                raise DataError(
                    f"Fold {fold.fold}: the finding `{name}` is {word} in no training case, so it "
                    f"cannot be learnt. {advice}, or leave its column out.",
                    code="class_in_one_fold",
                )
