"""Laws of the splits: patients are whole, classes are everywhere, leaks stop."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvid.contract import ConfigError, DataError, Record
from medvid.data.fold_audit import audit_folds
from medvid.data.labels import LabelSpace, find_label_space
from medvid.data.splits import Fold, describe_folds, make_folds, mix_seed, read_folds

SPACE = LabelSpace(("a", "b"), multilabel=False)


def make(cases: int, patients: int, seed: int = 0) -> list[Record]:
    rng = np.random.default_rng(seed)
    owners = np.concatenate([np.arange(patients), rng.integers(0, patients, cases - patients)])
    return [
        Record(f"c{k}", f"p{owner}", f"c{k}.nii.gz", label="ab"[owner % 2])
        for k, owner in enumerate(owners)
    ]


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 80), st.integers(2, 5), st.sampled_from([0.0, 0.15, 0.3]), st.integers(0, 9))
def test_every_case_is_tested_once_and_no_patient_is_on_two_sides(
    cases: int, folds: int, validation: float, seed: int
) -> None:
    records = make(cases, 16, seed)
    made = make_folds(records, SPACE, seed=seed, folds=folds, validation=validation)
    tested = [case for fold in made for case in fold.test]
    assert sorted(tested) == sorted(record.case_id for record in records)
    owner = {record.case_id: record.patient_id for record in records}
    for fold in made:
        sides = [{owner[case] for case in side} for side in fold.sides().values()]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert sum(map(len, fold.sides().values())) == cases
        assert bool(fold.val) == (validation > 0)
    audit_folds(made, records, SPACE)


def test_the_same_seed_gives_the_same_folds_and_another_repeat_others() -> None:
    records = make(60, 30)
    first = make_folds(records, SPACE, seed=1, repeats=2)
    assert first == make_folds(records, SPACE, seed=1, repeats=2)
    assert first[0].test != first[5].test
    assert [(fold.repeat, fold.fold) for fold in first[4:6]] == [(0, 4), (1, 0)]


def test_no_seed_s_repetitions_are_those_of_another_seed() -> None:
    drawn = {mix_seed(seed, repeat) for seed in range(30) for repeat in range(30)}
    assert len(drawn) == 900


def with_rare_class(rare: int) -> list[Record]:
    common = make(100, 100)
    return common + [Record(f"r{k}", f"r{k}", "x", label="c") for k in range(rare)]


@pytest.mark.parametrize("rare", [3, 5])
def test_a_rare_class_leaves_the_validation_share_as_it_is(rare: int) -> None:
    space = LabelSpace(("a", "b", "c"), multilabel=False)
    for fold in make_folds(with_rare_class(rare), space, seed=0, folds=3, validation=0.15):
        assert 0.1 < len(fold.val) / (len(fold.val) + len(fold.train)) < 0.22
        assert any(case.startswith("r") for case in fold.train)


def test_every_class_of_two_patients_is_in_the_validation_part() -> None:
    records = [Record(f"c{k}", f"p{k}", "x", label="ab"[k < 4]) for k in range(40)]
    by_id = {record.case_id: record for record in records}
    for fold in make_folds(records, SPACE, seed=0, folds=2):
        assert {by_id[case].label for case in fold.val} == {"a", "b"}
        assert {by_id[case].label for case in fold.train} == {"a", "b"}


def make_findings(sets: list[str]) -> list[Record]:
    return [
        Record(f"c{k}", f"p{k}", "x", label={name: int(name in found) for name in "xy"})
        for k, found in enumerate(sets)
    ]


FINDINGS = LabelSpace(("x", "y"), multilabel=True)


def test_a_rare_combination_of_findings_is_no_rare_finding() -> None:
    records = make_findings(["xy"] * 28 + ["x"] * 2 + [""] * 20)
    made = make_folds(records, FINDINGS, seed=0, folds=5, validation=0.15)
    audit_folds(made, records, FINDINGS)
    assert all(fold.val for fold in made)


def test_findings_of_few_cases_are_split_where_no_combination_fills_the_folds() -> None:
    space = LabelSpace(("x", "y", "z"), multilabel=True)
    sets = ["xy", "xz", "yz", "xyz", "", "x", "y"]
    records = [
        Record(f"c{k}", f"p{k}", "x", label={name: int(name in found) for name in "xyz"})
        for k, found in enumerate(sets)
    ]
    made = make_folds(records, space, seed=0, folds=3, validation=0.0)
    assert sorted(case for fold in made for case in fold.test) == sorted(r.case_id for r in records)


def test_a_finding_that_no_training_case_has_stops_the_audit() -> None:
    records = make_findings(["x", "", "x", "", "xy", "y"])
    fold = Fold(0, 0, ("c0", "c1", "c2", "c3"), (), ("c4", "c5"))
    with pytest.raises(DataError, match="`y` is present in no training case"):
        audit_folds([fold], records, FINDINGS)


def test_a_finding_of_one_patient_is_named() -> None:
    records = make_findings(["x"] * 10 + [""] * 10 + ["y"])
    with pytest.raises(DataError, match="Only the patient of one case has y"):
        make_folds(records, FINDINGS, seed=0)


def test_unlabelled_records_are_no_rare_class() -> None:
    records = [*make(40, 20), Record("u", "u", "x"), Record("v", "v", "x")]
    assert len(make_folds(records, SPACE, seed=0)) == 5


def test_a_class_of_slices_that_is_never_trained_on_stops_the_audit() -> None:
    records = [
        Record("c0", "p0", "x", slice_labels={0: "a", 1: "b"}),
        Record("c1", "p1", "x", slice_labels={0: "a", 1: "c"}),
    ]
    space = LabelSpace(("a", "b", "c"), multilabel=False)
    with pytest.raises(DataError, match="`c` is tested but never trained on"):
        audit_folds([Fold(0, 0, ("c0",), (), ("c1",))], records, space)


@pytest.mark.parametrize("column", ["split", "fold"])
def test_a_column_that_only_some_records_have_is_a_mistake(column: str) -> None:
    value = {"split": "train", "fold": 1}[column]
    records = [replace(r, **{column: value}) for r in make(20, 20)]  # type: ignore[arg-type]
    records[3] = replace(records[3], **{column: None})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"`{column}` is empty for 1 of 20 records.*c3"):
        make_folds(records, SPACE, seed=0)
    assert len(make_folds(records, SPACE, seed=0, method="grouped")) == 5


@given(st.integers(0, 20))
@settings(deadline=None, max_examples=15)
def test_a_smaller_share_of_the_patients_lies_inside_a_larger_one(seed: int) -> None:
    records = make(80, 40, seed)
    owner = {record.case_id: record.patient_id for record in records}
    shares = [
        make_folds(records, SPACE, seed=seed, folds=4, train_share=share)
        for share in (0.25, 0.5, 1.0)
    ]
    for quarter, half, whole in zip(*shares, strict=True):
        patients = [{owner[case] for case in fold.train} for fold in (quarter, half, whole)]
        assert patients[0] < patients[1] < patients[2]
        assert len(patients[1]) == pytest.approx(len(patients[2]) / 2, abs=1)
        assert {quarter.test, half.test} == {whole.test}
        assert {quarter.val, half.val} == {whole.val}
        left = {case for case in whole.train if owner[case] in patients[0]}
        assert left == set(quarter.train)  # patients stay whole
    audit_folds([fold for folds in shares for fold in folds], records, SPACE)


def test_folds_survive_splits_json() -> None:
    made = make_folds(make(40, 20), SPACE, seed=0)
    assert read_folds(describe_folds(made)) == made


def test_columns_of_the_manifest_decide_when_they_are_filled() -> None:
    records = make(20, 20)
    split = [replace(r, split="test" if k < 5 else "train") for k, r in enumerate(records)]
    (fixed,) = make_folds(split, SPACE, seed=0, validation=0.0)
    assert set(fixed.test) == {f"c{k}" for k in range(5)}
    column = [replace(r, fold=k % 4) for k, r in enumerate(records)]
    assert len(make_folds(column, SPACE, seed=0)) == 4
    assert len(make_folds(column, SPACE, seed=0, method="grouped", folds=2)) == 2


def test_val_rows_are_the_test_where_there_are_no_test_rows() -> None:
    records = [replace(r, split="val" if k < 6 else "train") for k, r in enumerate(make(30, 30))]
    (fold,) = make_folds(records, SPACE, seed=0, validation=0.2)
    assert set(fold.test) == {f"c{k}" for k in range(6)}
    assert fold.val
    assert not set(fold.val) & set(fold.test)


@pytest.mark.parametrize(
    ("records", "options", "said"),
    [
        (make(9, 1), {}, "belong to one patient"),
        (make(9, 3), {"folds": 5}, "3 patients for 5 folds"),
        (make(30, 30)[:1] + [r for r in make(30, 30) if r.label == "b"], {}, "Only 1 patient has"),
        (make(30, 30), {"validation": 0.5}, "below 0.5"),
        (make(30, 30), {"folds": 1}, "2 or more"),
        (make(30, 30), {"method": "columns"}, "needs a `split` or a `fold` column"),
    ],
)
def test_what_cannot_be_split_is_a_sentence(
    records: list[Record], options: dict[str, object], said: str
) -> None:
    with pytest.raises((DataError, ConfigError), match=said):
        make_folds(records, SPACE, seed=0, **options)  # type: ignore[arg-type]


def test_a_patient_on_two_sides_stops_the_audit() -> None:
    records = [
        replace(r, patient_id="same") if k in (0, 9) else r for k, r in enumerate(make(20, 20))
    ]
    ids = [record.case_id for record in records]
    fold = Fold(0, 0, tuple(ids[:8]), (), tuple(ids[8:]))
    with pytest.raises(DataError, match="the same patient") as caught:
        audit_folds([fold], records, SPACE)
    assert caught.value.code == "leakage"


def test_identical_pixels_on_two_sides_stop_the_audit() -> None:
    records = make(20, 20)
    ids = [record.case_id for record in records]
    fold = Fold(0, 0, tuple(ids[:8]), (), tuple(ids[8:]))
    pixels = {case: case for case in ids} | {ids[0]: "x", ids[12]: "x"}
    with pytest.raises(DataError, match="identical pixels"):
        audit_folds([fold], records, SPACE, pixels)


def test_a_class_that_is_tested_but_never_trained_on_stops_the_audit() -> None:
    records = make(20, 20)
    train = tuple(r.case_id for r in records if r.label == "a")
    test = tuple(r.case_id for r in records if r.label == "b")
    with pytest.raises(DataError, match="class `b` is tested but never trained on") as caught:
        audit_folds([Fold(0, 0, train, (), test)], records, SPACE)
    assert caught.value.exit_code == 3


def test_slices_of_one_scan_stay_together() -> None:
    records = [
        Record(f"s{k}", f"p{k}", "x", slice_labels={0: "a", 1: "ab"[k % 2]}) for k in range(20)
    ]
    made = make_folds(records, SPACE, seed=0, folds=4)
    audit_folds(made, records, SPACE)
    assert all(len(fold.test) == 5 for fold in made)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a", "a"], "Every record has the label `a`"),
        ([None, None], "No record has a label"),
        (["a", {"x": 1}], "use one kind"),
    ],
)
def test_labels_that_cannot_be_learnt_are_a_sentence(labels: list[object], said: str) -> None:
    records = [Record(f"c{k}", f"p{k}", "x", label=label) for k, label in enumerate(labels)]  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said):
        find_label_space(records)


def test_classes_that_do_not_fit_the_labels_are_a_sentence() -> None:
    records = make_findings(["x", "y"])
    with pytest.raises(DataError, match="no column `label_yy`"):
        find_label_space(records, ["x", "yy"])
    with pytest.raises(DataError, match="names `a` twice"):
        find_label_space(make(4, 4), ["a", "b", "b", "a"])


def test_classes_are_sorted_as_people_count() -> None:
    records = [Record(f"c{k}", f"p{k}", "x", label=f"grade {k}") for k in (10, 9, 2)]
    assert find_label_space(records).classes == ("grade 2", "grade 9", "grade 10")


def test_findings_are_numbers_and_unknown_ones_are_nan() -> None:
    space = LabelSpace(("x", "y"), multilabel=True)
    np.testing.assert_array_equal(space.encode({"y": 1}), [np.nan, 1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Control", "control"),
        ("0", "0.0"),
        ("1.5", "1,50"),
        ("STRASSE", "straße"),
        ("2", "02"),
        ("gr\u00fcn", "gru\u0308n"),
    ],
)
def test_a_class_in_two_spellings_is_refused_and_both_are_named(one: str, other: str) -> None:
    records = [Record(f"c{k}", f"p{k}", "x", label=(one, other, "third")[k % 3]) for k in range(12)]
    with pytest.raises(DataError, match="differ only in how they are written") as caught:
        find_label_space(records)
    assert caught.value.code == "two_spellings"
    assert f"`{one}`" in caught.value.message
    assert f"`{other}`" in caught.value.message
    assert "rename one" in caught.value.message
    with pytest.raises(DataError, match="differ only in how they are written"):
        find_label_space(records[::3] + records[2::3], [other, "third"])
    renamed = [replace(r, label="third" if r.label == other else r.label) for r in records]
    assert set(find_label_space(renamed).classes) == {one, "third"}


def test_a_finding_in_two_spellings_is_refused() -> None:
    records = [Record(f"c{k}", f"p{k}", "x", label={"Blood": k % 2, "blood": 0}) for k in range(9)]
    with pytest.raises(DataError, match="`Blood` and `blood` differ only"):
        find_label_space(records)


@pytest.mark.parametrize(
    "labels",
    [
        ("grade 1", "grade 10", "grade 100"),
        ("1", "10", "100"),
        ("1.5", "15", "-1.5"),
        ("1234567890123456789012345678901", "1234567890123456789012345678902", "1"),
        ("HandstandPushups", "HandstandWalking", "PushUps"),
    ],
)
def test_classes_that_differ_in_more_than_spelling_are_classes(labels: tuple[str, ...]) -> None:
    records = [Record(f"c{k}", f"p{k}", "x", label=labels[k % 3]) for k in range(9)]
    assert set(find_label_space(records).classes) == set(labels)


def respell(records: list[Record], other: str) -> list[Record]:
    """Gives the third case the patient of the first, in another spelling."""
    return [replace(r, patient_id=other) if k == 2 else r for k, r in enumerate(records)]


@pytest.mark.parametrize(("one", "other"), [("P0", "p0"), ("7", "7.0"), ("007", "7"), ("A", "a")])
def test_a_patient_in_two_spellings_is_refused_and_both_are_named(one: str, other: str) -> None:
    records = [replace(r, patient_id=one) if not k else r for k, r in enumerate(make(30, 30))]
    with pytest.raises(DataError, match="differ only in how they are written") as caught:
        make_folds(respell(records, other), SPACE, seed=0)
    assert caught.value.code == "two_spellings"
    assert "cases c0 and c2 differ" in caught.value.message
    assert len(make_folds(respell(records, one), SPACE, seed=0)) == 5


@pytest.mark.parametrize(
    ("one", "other"), [("1.1", "1.10"), ("1e3", "1000"), ("7", "70"), ("1,000", "1"), ("X1", "X01")]
)
def test_patients_whose_ids_look_alike_are_two(one: str, other: str) -> None:
    records = [replace(r, patient_id=one) if not k else r for k, r in enumerate(make(30, 30))]
    assert len(make_folds(respell(records, other), SPACE, seed=0)) == 5


@pytest.mark.parametrize("column", ["split", "fold"])
def test_a_fixed_split_may_not_part_a_patient_in_two_spellings(column: str) -> None:
    sides: list[object] = ["train", "test"] if column == "split" else [0, 1]
    records = [
        replace(r, **{column: sides[k // 2 % 2]})  # type: ignore[arg-type]
        for k, r in enumerate(make(40, 40))
    ]
    with pytest.raises(DataError, match="cases c0 and c2 differ only"):
        make_folds(respell(records, "P0"), SPACE, seed=0)


@given(st.integers(0, 9))
@settings(deadline=None, max_examples=10)
def test_a_published_split_that_keeps_both_spellings_together_is_taken(seed: int) -> None:
    records = [replace(r, split="train" if k < 20 else "test") for k, r in enumerate(make(30, 30))]
    (fold,) = make_folds(respell(records, "P0"), SPACE, seed=seed, validation=0.4)
    assert ("c0" in fold.val) == ("c2" in fold.val)


def test_no_remedy_is_already_in_force() -> None:
    records = [r for k, r in enumerate(make(30, 30)) if r.label == "b" or not k]
    with pytest.raises(DataError, match="Only 1 patient has the label `a`") as caught:
        make_folds(records, SPACE, seed=0, folds=2)
    assert "data.splits.folds" not in caught.value.message
    assert "Merge classes, leave this one out, or add patients." in caught.value.message
    records = [*make(30, 30), *(Record(f"r{k}", f"r{k}", "x", label="c") for k in range(3))]
    records += [Record(f"s{k}", f"s{k}", "x", label="d") for k in range(2)]
    space = LabelSpace(("a", "b", "c", "d"), multilabel=False)
    with pytest.raises(DataError, match=r"Use `data\.splits\.folds=2`, merge"):
        make_folds(records, space, seed=0, folds=5)
    assert len(make_folds(records, space, seed=0, folds=2)) == 2


def test_a_class_that_is_never_trained_on_is_answered_by_how_the_folds_were_made() -> None:
    records = make(20, 20)
    train = tuple(r.case_id for r in records if r.label == "a")
    test = tuple(r.case_id for r in records if r.label == "b")
    fold = Fold(0, 0, train, (), test)
    columns = [replace(r, split="train" if r.label == "a" else "test") for r in records]
    with pytest.raises(DataError, match=r"`split` or `fold` column, use `data\.splits\.method"):
        audit_folds([fold], columns, SPACE)
    for known, method in ((records, "auto"), (records, "grouped"), (columns, "grouped")):
        with pytest.raises(DataError, match="Use another `seed`, merge classes") as caught:
            audit_folds([fold], known, SPACE, method=method)  # type: ignore[arg-type]
        assert "grouped" not in caught.value.message
