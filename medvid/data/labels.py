"""Between the words of a manifest and the numbers that a network is trained on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medvid.contract import DataError, Label, Record
from medvid.data.spelling import find_respelled
from medvid.io.ordering import natural_key

Task = Literal["scan", "slice", "region"]

UNKNOWN = -1
"""The class index of an unknown label; unknown findings of a multi-label task are NaN."""

UNKNOWN_STRATUM = "unknown"
"""Stratum of the records without a label."""


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set.

    Args:
        classes: names, in the order of the network's outputs.
        multilabel: several findings at once, instead of one class of several.
    """

    classes: tuple[str, ...]
    multilabel: bool

    def encode(self, label: Label | None) -> int | NDArray[np.float32]:
        """Returns a class index, or (classes,) of 0, 1 and NaN for multi-label.

        Raises:
            DataError: for a label that is not of this space.
        """
        if self.multilabel:
            if isinstance(label, str):
                raise DataError(
                    f"The label `{label}` is one word, but this is a multi-label task with a "
                    f"`label_<name>` column for each of {', '.join(self.classes)}.",
                    code="label_kind",
                )
            given: Mapping[str, int] = label or {}
            return np.array([given.get(name, np.nan) for name in self.classes], dtype=np.float32)
        if label is None:
            return UNKNOWN
        if label not in self.classes:
            raise DataError(
                f"The label `{label}` is none of the classes {', '.join(self.classes)}.",
                code="unknown_label",
            )
        return self.classes.index(str(label))


def list_labels(record: Record) -> list[Label]:
    """Returns all labels of a record: its own, or those of its slices."""
    if record.slice_labels is not None or record.placed_labels is not None:
        return [*(record.slice_labels or {}).values(), *(record.placed_labels or {}).values()]
    return [] if record.label is None else [record.label]


def find_label_space(records: Iterable[Record], classes: Sequence[str] | None = None) -> LabelSpace:
    """Finds out the classes of a data set.

    Args:
        records: labelled items.
        classes: their names in order, where the source or the config says so.

    Raises:
        DataError: when there is no label at all, only one class, one class in two spellings,
            single and multi-label mixed, or `classes` that do not fit the labels.
    """
    _check_names(classes or ())
    labels = [label for record in records for label in list_labels(record)]
    if not labels:
        raise DataError("No record has a label, so there is nothing to train on.", code="no_label")
    kinds = {isinstance(label, str) for label in labels}
    if len(kinds) == 2:
        raise DataError(
            "Some records have one `label`, others several `label_<name>`; use one kind.",
            code="label_kind",
        )
    multilabel = not kinds.pop()
    if multilabel:
        names = {name for label in labels if not isinstance(label, str) for name in label}
        _check_spellings(classes or (), names)
        unseen = [name for name in classes or () if name not in names]
        if unseen:
            raise DataError(
                f"`classes` names the finding `{unseen[0]}`, and there is no column "
                f"`label_{unseen[0]}`. There are {', '.join(sorted(names, key=natural_key))}.",
                code="unknown_label",
            )
        return LabelSpace(tuple(classes or sorted(names, key=natural_key)), multilabel=True)
    found = sorted({label for label in labels if isinstance(label, str)}, key=natural_key)
    _check_spellings(classes or (), found)
    strange = sorted(set(found) - set(classes or found))
    if strange:
        raise DataError(
            f"The label `{strange[0]}` is none of the classes {', '.join(classes or ())}.",
            code="unknown_label",
        )
    if len(found) < 2:
        raise DataError(
            f"Every record has the label `{found[0]}`. Training needs at least two classes.",
            code="single_class",
        )
    return LabelSpace(tuple(classes or found), multilabel=False)


def _check_names(classes: Sequence[str]) -> None:
    doubled = next((name for name in classes if list(classes).count(name) > 1), None)
    if doubled is not None:
        raise DataError(
            f"`classes` names `{doubled}` twice; every class has one output.", code="double_class"
        )


def _check_spellings(classes: Sequence[str], found: Iterable[str]) -> None:
    twice = find_respelled([*classes, *sorted(found)])
    if twice is not None:
        raise DataError(
            f"The classes `{twice[0]}` and `{twice[1]}` differ only in how they are written, and "
            "the network would learn to tell one from the other. Write the class in one way in all "
            "labels, and in `data.classes`; if they are two, rename one.",
            code="two_spellings",
        )


def permute_labels(records: Sequence[Record], seed: int) -> list[Record]:
    """Returns the records with their labels dealt anew among them: what is left to learn is chance.

    Every class stays as frequent as it was. Labels of slices are dealt among all slices that have
    one.

    Args:
        records: whose labels are dealt.
        seed: of the deal.
    """
    labels = [label for record in records for label in list_labels(record)]
    order = np.random.default_rng(seed).permutation(len(labels))
    dealt = iter([labels[place] for place in order])
    made = []
    for record in records:
        if record.slice_labels is not None:
            own = {frame: next(dealt) for frame in record.slice_labels}
            made.append(replace(record, slice_labels=own))
        else:
            made.append(record if record.label is None else replace(record, label=next(dealt)))
    return made


def list_findings(record: Record) -> set[str]:
    """Returns the findings of a multi-label record that are present, in any of its slices."""
    return {
        name
        for label in list_labels(record)
        if not isinstance(label, str)
        for name, value in label.items()
        if value == 1
    }


def stratum(record: Record, space: LabelSpace) -> str:
    """Returns the word by which a record is stratified: its class, or its set of findings.

    A record with slice labels counts by the last class (or all findings) that any slice shows:
    a scan with one bleeding slice is a bleeding scan.
    """
    labels = list_labels(record)
    if not labels:
        return UNKNOWN_STRATUM
    if space.multilabel:
        return "+".join(sorted(list_findings(record))) or "none"
    return max((str(label) for label in labels), key=space.classes.index)
