"""From a 2D teacher to a pre-trained 3D student to a training that starts from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from medvid.config import read_config
from medvid.data.splits import read_folds
from medvid.evaluate import read_predictions
from medvid.jobs.pretrain import make_pair_folds, open_pretraining
from medvid.jobs.teacher import VALUE_TRANSFORMS
from medvid.transforms import TRANSFORMS, list_transforms

Cli = Callable[..., Any]

STUDENT = """\
extends: tiny.yaml
name: student
model: {name: t3d, width: 4, growth: 4, bottleneck: 2, blocks: [1, 1], stem: half}
pretrain: {teacher: null, hidden: [16], compare: difference}
train: {epochs: 1, optimizer: {name: adamw, lr: 5e-3}}
"""


def find_run(project: Path, name: str) -> Path:
    (run,) = (project / "runs").glob(f"{name}-*")
    return run


@pytest.fixture
def teacher(project: Path, run_cli: Cli) -> Path:
    (project / "student.yaml").write_text(STUDENT, encoding="utf-8")
    assert run_cli("train", "tiny.yaml", "name=teacher", "train.epochs=1").code == 0
    return find_run(project, "teacher")


def strip_labels(project: Path) -> None:
    table = pd.read_csv(project / "manifest.csv").assign(label="")
    table.to_csv(project / "bare.csv", index=False)


def test_a_student_learns_and_a_training_starts_from_it(
    project: Path, run_cli: Cli, teacher: Path
) -> None:
    answer = run_cli("train", "student.yaml", f"pretrain.teacher={teacher}", "train.epochs=20")
    assert answer.code == 0, answer.err
    assert "init.from=" in answer.out
    run = find_run(project, "student")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["metrics"]["accuracy"]["value"] > 0.6  # dark pairs are told from bright ones
    table = read_predictions(run / "predictions_oof.csv")
    assert len(table) == 48
    assert set(table["label"]) == {"same", "other"}
    folds = [read_folds(json.loads((r / "splits.json").read_text())) for r in (run, teacher)]
    assert folds[0] == folds[1]
    state = torch.load(run / "fold_0/best.ckpt", weights_only=True)["state_dict"]
    assert not any(name.startswith(("student.", "teacher.")) for name in state)

    spec = "model={name: t3d, width: 4, growth: 4, bottleneck: 2, blocks: [1, 1], stem: half}"
    words = ["tiny.yaml", "name=fine", spec, "train.epochs=1", f"init.from={run}"]
    answer = run_cli("train", *words)
    assert answer.code == 0, answer.err
    record = json.loads((find_run(project, "fine") / "fold_1/init.json").read_text())
    assert record["origin"]["fold"] == 1
    assert set(record["tensors"]["left"]) == {"classifier.weight", "classifier.bias"}
    refused = run_cli("predict", run, "scans")
    assert refused.code == 3
    assert "pre-trained without labels" in refused.err


def test_scans_without_labels_are_enough(project: Path, run_cli: Cli, teacher: Path) -> None:
    strip_labels(project)
    other = project / "weights.pt"
    torch.save(torch.load(teacher / "fold_0/best.ckpt", weights_only=True)["state_dict"], other)
    words = [
        "student.yaml",
        "data.manifest=bare.csv",
        f"pretrain.teacher={other}",
        "pretrain.teacher_model={name: slicewise, width: 4, depths: [1]}",
    ]
    answer = run_cli("train", *words)
    assert answer.code == 0, answer.err
    run = find_run(project, "student")
    for fold in read_folds(json.loads((run / "splits.json").read_text())):
        held = {f"p{int(case[1:]) % 18}" for case in fold.test}
        assert not held & {f"p{int(case[1:]) % 18}" for case in fold.train + fold.val}


def test_check_tries_pairs_before_a_pretraining(project: Path, run_cli: Cli, teacher: Path) -> None:
    answer = run_cli("check", "student.yaml", f"pretrain.teacher={teacher}")
    assert answer.code == 0, answer.err
    told = " ".join(answer.out.split())
    assert "T3D" in told
    assert "Slicewise, fold 0 from fold 0 of teacher-" in told
    assert "first step loss" in told
    assert not list((project / "runs").glob("student-*"))


def test_a_teacher_of_another_scale_of_values_is_refused_and_one_in_other_words_taken(
    project: Path, run_cli: Cli, teacher: Path
) -> None:
    words = ["student.yaml", f"pretrain.teacher={teacher}"]
    for verb in ("check", "train"):
        answer = run_cli(verb, *words, "transforms.both=[{name: window, windows: bone}]")
        assert answer.code == 2
        assert "values from `scale` (divide_by: 100)" in answer.err
        assert "values from `window` (windows: bone)" in answer.err
        assert not list((project / "runs").glob("student-*"))
    same = (
        "transforms={both: [], train: [{name: gaussian_noise}, {name: scale, divide_by: 100}], "
        "test: [{name: scale, divide_by: 100.0, mean: null}]}"
    )
    answer = run_cli("check", *words, same)
    assert answer.code == 0, answer.err


def test_all_fixed_transforms_of_values_are_compared_with_the_teacher_s() -> None:
    kept = {r.name for r in list_transforms() if (r.kind, r.output_size) == ("fixed", "kept")}
    names = {name for name, kind in TRANSFORMS.items() if kind in VALUE_TRANSFORMS}
    assert names == kept - {"difference"}  # that one leaves the clip as it is


def test_check_of_a_pretraining_needs_no_labels_but_a_teacher(
    project: Path, run_cli: Cli, teacher: Path
) -> None:
    strip_labels(project)
    words = ["student.yaml", "data.manifest=bare.csv"]
    other = project / "weights.pt"
    torch.save(torch.load(teacher / "fold_0/best.ckpt", weights_only=True)["state_dict"], other)
    spec = "pretrain.teacher_model={name: slicewise, width: 4, depths: [1]}"
    answer = run_cli("check", *words, f"pretrain.teacher={other}", spec)
    assert answer.code == 0, answer.err
    refused = run_cli("check", *words)
    assert refused.code == 2
    assert "needs a teacher" in refused.err


def test_it_goes_on_fold_by_fold_and_ends_the_same(
    project: Path, run_cli: Cli, teacher: Path
) -> None:
    words = ["student.yaml", f"pretrain.teacher={teacher}"]
    assert run_cli("train", *words, "name=whole").code == 0
    assert run_cli("train", *words, "name=parts", "--fold", "1").code == 0
    parts = find_run(project, "parts")
    # As if killed after matcher.ckpt and best.ckpt were written, before the predictions.
    (parts / "fold_1/predictions_test.csv").unlink()
    assert run_cli("train", "--resume", parts).code == 0
    first, second = (
        read_predictions(run / "predictions_oof.csv") for run in (find_run(project, "whole"), parts)
    )
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("pretrain.hidden=[4]", "needs a teacher"),
        ("pretrain.teacher=nowhere", "does not exist"),
        ("pretrain.teahcer=x", "needs a teacher"),
    ],
)
def test_a_pretraining_that_cannot_be_meant_is_a_sentence(
    project: Path, run_cli: Cli, word: str, said: str
) -> None:
    (project / "student.yaml").write_text(STUDENT, encoding="utf-8")
    answer = run_cli("train", "student.yaml", word)
    assert answer.code == 2
    assert said in answer.err


def test_a_case_without_a_label_joins_its_patient_in_any_spelling(project: Path) -> None:
    table = (project / "manifest.csv").read_text(encoding="utf-8").splitlines()
    # the first case of c18's patient is c0
    table[19] = table[19].replace(",p0,", ",P0,").rsplit(",", 1)[0] + ","
    (project / "manifest.csv").write_text("\n".join(table) + "\n", encoding="utf-8")
    config = read_config(project / "tiny.yaml", ["pretrain={teacher: tiny.yaml}"])
    opened = open_pretraining(config)

    for fold in make_pair_folds(opened.job.data, opened.labelled, 0):
        (side,) = [name for name, cases in fold.sides().items() if "c0" in cases]
        assert "c18" in fold.sides()[side]
