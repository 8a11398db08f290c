"""Who is trained on and who is tested on: patients, never slices.

Splitting slices or regions of one patient over both sides is worth more than most architectures
(+.06 to +.08 AUC on nodules), so every split here is by patient, and `medvid.data.fold_audit`
stops a fixed split that is not.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from medvid.contract import ConfigError, DataError, Record
from medvid.data.labels import UNKNOWN_STRATUM, LabelSpace, list_findings, stratum
from medvid.data.spelling import plain_patient

Method = Literal["auto", "grouped", "columns"]

MIN_VALIDATION_FOLDS = 2
"""A share above one half would validate on more patients than it trains on."""


@dataclass(frozen=True)
class Fold:
    """One training: the case_ids of its three sides.

    Args:
        fold: 0-based.
        repeat: 0-based repetition of the whole cross-validation, with another shuffle.
        train: trained on.
        val: best epoch and operating point are chosen on these; may be empty.
        test: predicted once, at the end; their predictions are the result.
    """

    fold: int
    repeat: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def sides(self) -> dict[str, tuple[str, ...]]:
        """Returns the three sides by name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def make_folds(
    records: Sequence[Record],
    space: LabelSpace,
    *,
    seed: int,
    method: Method = "auto",
    folds: int = 5,
    repeats: int = 1,
    validation: float = 0.15,
    train_share: float = 1.0,
) -> list[Fold]:
    """Splits records into cross-validation folds, or as the manifest says.

    Args:
        records: labelled items.
        space: their classes; folds are stratified by them.
        seed: of the shuffle; a repetition's own is `mix_seed`.
        method: `grouped` is stratified, patient-grouped k-fold; `columns` takes the manifest's
            `split` (train/val/test) or `fold` column; `auto` takes the columns where they are
            filled and else `grouped`. Without test rows the val rows are the test.
        folds: k.
        repeats: whole cross-validations, each with another shuffle.
        validation: share of the training patients that is put aside for choosing the best epoch
            and the operating point; 0 for none.
        train_share: of the training patients that are then trained on, for learning curves: the
            first ones of a shuffled list of each stratum, so that smaller shares lie inside larger
            ones. The other sides stay as they are.

    Raises:
        ConfigError: for impossible numbers, or `columns` without the columns.
        DataError: when there are too few patients, in all or of a class, or one patient in two
            spellings.
    """
    if not 0 <= validation < 1 / MIN_VALIDATION_FOLDS:
        raise ConfigError(
            f"`validation: {validation}` must be at least 0 and below {1 / MIN_VALIDATION_FOLDS}."
        )
    if repeats < 1 or folds < 2:
        raise ConfigError(
            f"`folds: {folds}` must be 2 or more, and `repeats: {repeats}` 1 or more."
        )
    if not 0 < train_share <= 1:
        raise ConfigError(f"`train_share: {train_share}` must be above 0 and at most 1.")
    strata = np.array([stratum(record, space) for record in records])
    by_split = _is_filled(records, "split", method)
    by_fold = _is_filled(records, "fold", method)
    if method == "columns" and not (by_split or by_fold):
        raise ConfigError(
            "`splits.method: columns` needs a `split` or a `fold` column that is filled in every "
            "row of the manifest.",
            code="no_split_column",
        )
    is_fixed = method != "grouped" and (by_split or by_fold)
    patients = _name_patients(records, is_fixed)
    if method != "grouped" and by_split:
        fixed = _fixed_split(records, strata, patients, validation, seed)
        kept = _keep_share(records, strata, patients, fixed.train, train_share, seed)
        return [replace(fixed, train=kept)]
    if method != "grouped" and by_fold:
        tests = _folds_of_column(records)
    else:
        _check_counts(records, space, strata, patients, folds)
        tests = _grouped_folds(strata, patients, folds, repeats, seed)
    made = []
    for repeat, fold, test in tests:
        rest = np.setdiff1d(np.arange(len(records)), test)
        val = _put_aside(strata, patients, rest, validation, mix_seed(seed, repeat))
        whole = _fold(records, fold, repeat, np.setdiff1d(rest, val), val, test)
        repeat_seed = mix_seed(seed, repeat)
        kept = _keep_share(records, strata, patients, whole.train, train_share, repeat_seed)
        made.append(replace(whole, train=kept))
    return made


def mix_seed(seed: int, repeat: int) -> int:
    """Returns the seed of a repetition; no seed's repetitions are those of another seed."""
    if repeat == 0:
        return seed
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])


def _name_patients(records: Sequence[Record], is_fixed: bool) -> np.ndarray:
    """Returns the patient of every record, one who is spelled in several ways by the first.

    The lists of a published split spell as they do, and while all of a patient lies on one side
    nothing leaks; the report then counts the spellings as patients. Anywhere else it is refused.

    Raises:
        DataError: for a patient in two spellings, unless the split is fixed and parts them not.
    """
    first: dict[str, Record] = {}
    names = []
    for record in records:
        other = first.setdefault(plain_patient(record.patient_id), record)
        names.append(other.patient_id)
        apart = (other.split, other.fold) != (record.split, record.fold)
        if other.patient_id != record.patient_id and (apart or not is_fixed):
            raise DataError(
                f"The patient_ids of the cases {other.case_id} and {record.case_id} differ only in "
                "how they are written; as two patients they may lie on two sides of a split. Write "
                "the id of a patient in one way; if they are two, rename one.",
                code="two_spellings",
            )
    return np.array(names)


def _is_filled(records: Sequence[Record], column: str, method: Method) -> bool:
    """Returns whether every record has the column; one that only some have is a mistake."""
    values = [getattr(record, column) for record in records]
    empty = [record for record, value in zip(records, values, strict=True) if value in (None, "")]
    if method != "grouped" and empty and len(empty) < len(records):
        raise DataError(
            f"The column `{column}` is empty for {len(empty)} of {len(records)} records, the first "
            f"one {empty[0].case_id}. Fill it for all, or split anew with "
            "`data.splits.method=grouped`.",
            code="partly_split",
        )
    return not empty


def _split_parts(
    number: int, strata: np.ndarray, patients: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    if np.unique(strata, return_counts=True)[1].max() < number:
        # Many findings, few cases: every stratum is rarer than the parts, and none can be spread.
        strata = np.zeros_like(strata, dtype=np.int64)
    with warnings.catch_warnings():
        # A stratum rarer than the parts is spread as far as it goes; counts were checked before.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        yield from splitter.split(np.zeros(len(strata)), strata, patients)


def _grouped_folds(
    strata: np.ndarray, patients: np.ndarray, folds: int, repeats: int, seed: int
) -> list[tuple[int, int, np.ndarray]]:
    made = []
    for repeat in range(repeats):
        parts = _split_parts(folds, strata, patients, mix_seed(seed, repeat))
        made += [(repeat, fold, test) for fold, (_, test) in enumerate(parts)]
    return made


def _folds_of_column(records: Sequence[Record]) -> list[tuple[int, int, np.ndarray]]:
    column = np.array([record.fold for record in records])
    numbers = np.unique(column)
    if len(numbers) < 2:
        raise DataError(
            f"The `fold` column of the manifest holds only fold {numbers[0]}; it needs two or "
            "more folds.",
            code="one_fold",
        )
    return [(0, int(number), np.flatnonzero(column == number)) for number in numbers]


def _fixed_split(
    records: Sequence[Record],
    strata: np.ndarray,
    patients: np.ndarray,
    validation: float,
    seed: int,
) -> Fold:
    column = np.array([record.split for record in records])
    sides = {name: np.flatnonzero(column == name) for name in ("train", "val", "test")}
    if not len(sides["train"]) or not (len(sides["test"]) or len(sides["val"])):
        counts = ", ".join(f"{name} {len(rows)}" for name, rows in sides.items())
        raise DataError(
            f"The `split` column needs `train` rows, and `test` or `val` rows; it has {counts}.",
            code="empty_split",
        )
    if not len(sides["test"]):
        # What was named `val` is then the only unseen data; the best epoch is chosen elsewhere.
        sides["test"], sides["val"] = sides["val"], sides["test"]
    if not len(sides["val"]):
        sides["val"] = _put_aside(strata, patients, sides["train"], validation, seed)
        sides["train"] = np.setdiff1d(sides["train"], sides["val"])
    return _fold(records, 0, 0, sides["train"], sides["val"], sides["test"])


def _put_aside(
    strata: np.ndarray, patients: np.ndarray, rows: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Returns about `share` of the rows, whole patients, stratified.

    The only patient of a stratum stays in training, where the class can be learnt.
    """
    if share == 0:
        return np.array([], dtype=np.int64)
    members = _patients_per_stratum(strata[rows], patients[rows])
    alone = {patient for found in members.values() if len(found) == 1 for patient in found}
    rest = rows[~np.isin(patients[rows], sorted(alone))]
    number = len(np.unique(patients[rest]))
    if number < MIN_VALIDATION_FOLDS:
        raise DataError(
            f"No validation part can be put aside from {len(np.unique(patients[rows]))} training "
            "patients: every class needs two of them or more. Set `data.splits.validation=0` and "
            "`train.select=last`, or add patients.",
            code="no_validation",
        )
    # The share is of all training patients, also of those that may not be put aside.
    wanted = share * len(np.unique(patients[rows])) / number
    parts = max(MIN_VALIDATION_FOLDS, round(1 / min(wanted, 1 / 2)))
    parts = min(parts, number, max(Counter(strata[rest]).values()))
    _, aside = next(_split_parts(parts, strata[rest], patients[rest], seed))
    return rest[_add_missing(aside, strata[rest], patients[rest], seed)]


def _add_missing(
    aside: np.ndarray, strata: np.ndarray, patients: np.ndarray, seed: int
) -> np.ndarray:
    """Returns the rows put aside, with a patient of every stratum that none of them shows.

    No best epoch and no operating point can be chosen on one class alone.
    """
    rng = np.random.default_rng(seed)
    for name in np.unique(strata):
        members = np.unique(patients[strata == name])
        if name not in strata[aside] and name != UNKNOWN_STRATUM and len(members) > 1:
            aside = np.union1d(aside, np.flatnonzero(patients == rng.choice(members)))
    return aside


def _keep_share(
    records: Sequence[Record],
    strata: np.ndarray,
    patients: np.ndarray,
    train: tuple[str, ...],
    share: float,
    seed: int,
) -> tuple[str, ...]:
    """Returns the training cases of a share of the patients; at least one of every stratum."""
    if share == 1:
        return train
    rows = np.flatnonzero(np.isin([record.case_id for record in records], train))
    rng = np.random.default_rng(seed)
    # A patient with several strata counts in the first; every patient is drawn once.
    own: dict[str, str] = {}
    for row in rows:
        own.setdefault(str(patients[row]), str(strata[row]))
    kept: set[str] = set()
    for name in sorted(set(own.values())):
        members = sorted(patient for patient, stratum in own.items() if stratum == name)
        kept |= set(rng.permutation(members)[: max(1, round(share * len(members)))].tolist())
    return tuple(records[int(row)].case_id for row in rows if str(patients[row]) in kept)


def _patients_per_stratum(strata: np.ndarray, patients: np.ndarray) -> dict[str, set[str]]:
    found = defaultdict(set)
    for name, patient in zip(strata, patients, strict=True):
        found[str(name)].add(str(patient))
    return found


def _check_counts(
    records: Sequence[Record],
    space: LabelSpace,
    strata: np.ndarray,
    patients: np.ndarray,
    folds: int,
) -> None:
    number = len(np.unique(patients))
    if number < folds:
        raise DataError(
            f"There are {number} patients for {folds} folds, and a patient is never split. Use at "
            f"most `data.splits.folds={number}`, or more patients."
            if number > 1
            else "All records belong to one patient, so nothing can be tested on another one. "
            "Check the column patient_id.",
            code="too_few_patients",
        )
    if space.multilabel:
        _check_findings(records, space)
        return
    sizes = {name: len(who) for name, who in _patients_per_stratum(strata, patients).items()}
    sizes.pop(UNKNOWN_STRATUM, None)
    rarest = min(sizes, key=lambda name: sizes[name], default=None)
    if rarest is not None and sizes[rarest] < folds:
        have = "patients have" if sizes[rarest] > 1 else "patient has"
        fewer = f"use `data.splits.folds={sizes[rarest]}`, " if sizes[rarest] > 1 else ""
        remedy = f"{fewer}merge classes, leave this one out, or add patients."
        raise DataError(
            f"Only {sizes[rarest]} {have} the label `{rarest}`, too few for {folds} folds: it "
            f"would be missing in some. {remedy[0].upper()}{remedy[1:]}",
            code="rare_class",
        )


def _check_findings(records: Sequence[Record], space: LabelSpace) -> None:
    """A finding may be missing in a fold's test side, but never in a training side."""
    for name in space.classes:
        members = {r.patient_id for r in records if name in list_findings(r)}
        if len(members) < 2:
            have = f"Only the patient of one case has {name}" if members else f"No case has {name}"
            raise DataError(
                f"{have}, so it cannot be both trained and tested. Leave its column out, or "
                "add patients.",
                code="rare_class",
            )


def _fold(
    records: Sequence[Record],
    fold: int,
    repeat: int,
    train: np.ndarray,
    val: np.ndarray,
    test: np.ndarray,
) -> Fold:
    def ids(rows: np.ndarray) -> tuple[str, ...]:
        return tuple(records[row].case_id for row in sorted(rows))

    return Fold(fold, repeat, ids(train), ids(val), ids(test))


def describe_folds(folds: Sequence[Fold]) -> list[dict[str, Any]]:
    """Returns the folds as plain lists, for splits.json."""
    return [asdict(fold) for fold in folds]


def read_folds(described: Sequence[Mapping[str, Any]]) -> list[Fold]:
    """Returns the folds that `describe_folds` wrote."""
    return [
        Fold(
            fold=item["fold"],
            repeat=item["repeat"],
            train=tuple(item["train"]),
            val=tuple(item["val"]),
            test=tuple(item["test"]),
        )
        for item in described
    ]
