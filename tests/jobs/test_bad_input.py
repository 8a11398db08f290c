"""Bad input is a sentence that names the file and what to do, with the right exit code."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Cli = Callable[..., Any]


def rewrite(project: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = project / "manifest.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.wdith=3", "Did you mean `width`?"),
        ("model.name=slicewize", "Did you mean `slicewise`?"),
        ("train.epoch=3", "Did you mean `epochs`?"),
        ("train.epochs=many", "cannot use it"),
        ("data.sampler.frame=3", "Did you mean `frames`?"),
        ("data.tusk=scan", "Did you mean `task`?"),
        ("transforms.train=[flipp]", "Did you mean `flip`?"),
        ("transforms.test=[{name: flip, axes: [W]}]", "random"),
        ("evaluate.operating_point=best", "operating point"),
        ("data.splits.fold=3", "Did you mean `folds`?"),
        ("trian.epochs=3", "Did you mean `train`?"),
        ("data.batch_size=0", "greater than or equal to 1"),
        ("data.workers=-1", "greater than or equal to 0"),
        ("data.crop=[0,0]", "greater than or equal to 1"),
        ("data.size=[0,0]", "greater than or equal to 1"),
        ("data.spacing=[-1,1,1]", "greater than or equal to 0"),
        ("evaluate.resamples=0", "greater than or equal to 40"),
        ("evaluate.level=2", "less than 1"),
        ("model.width=0", "greater than or equal to 1"),
        ("model.width=-4", "greater than or equal to 1"),
        ("model.depths=[]", "at least 1 item"),
        ("model.dropout=2", "less than 1"),
        ("model=5", "a name, or a section"),
        ("seed=-1", "whole number from 0"),
        ("transforms={both: [5]}", "lists of transforms"),
        ("train.precision=31", "'32', 'bf16-mixed' or '16-mixed'"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_word(
    project: Path, run_cli: Cli, override: str, said: str
) -> None:
    answer = run_cli("train", "tiny.yaml", override)
    assert answer.code == 2, answer.err
    assert said in answer.err
    assert not (project / "runs").exists()


@pytest.mark.parametrize("accelerator", ["gpu", "mps"])
def test_an_accelerator_that_is_not_there_is_told(
    project: Path, run_cli: Cli, monkeypatch: pytest.MonkeyPatch, accelerator: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    answer = run_cli("train", "tiny.yaml", f"train.accelerator={accelerator}")
    assert answer.code == 2, answer.err
    assert "Possible on this machine: auto, cpu." in answer.err
    assert not (project / "runs").exists()


def test_a_precision_may_be_written_as_a_number(project: Path, run_cli: Cli) -> None:
    answer = run_cli("train", "tiny.yaml", "train.precision=32", "train.epochs=1", "--fold", "0")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ls: [ls[0].replace("patient_id", "patientid"), *ls[1:]], "patient_id"),
        (lambda ls: [ls[0].replace("path", "paht"), *ls[1:]], "path"),
        (lambda ls: [ls[0], *(row.replace("dark", "bright") for row in ls[1:])], "two classes"),
        (
            lambda ls: [ls[0], *(f"c{k},p,{row.split(',', 2)[2]}" for k, row in enumerate(ls[1:]))],
            "one patient",
        ),
        (lambda ls: [*ls, "x,y,scans/gone.nii.gz,dark"], "gone.nii.gz"),
        (lambda ls: [*ls, ls[1]], "c0"),
        (
            lambda ls: [ls[0] + ",fold", *(f"{row},{k % 2}" for k, row in enumerate(ls[1:]))],
            "tested but never trained on",
        ),
        (
            lambda ls: [
                ls[0] + ",split",
                *(f"{row},{'train' if k < 20 else 'test'}" for k, row in enumerate(ls[1:])),
            ],
            "same patient",
        ),
    ],
    ids=["column", "path", "class", "patient", "missing", "twice", "fold", "leak"],
)
def test_a_manifest_that_cannot_be_used_is_a_sentence(
    project: Path, run_cli: Cli, change: Callable[[list[str]], list[str]], said: str
) -> None:
    rewrite(project, change)
    answer = run_cli("train", "tiny.yaml")
    assert answer.code == 3, answer.err
    assert said in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.nii.gz", b"\x1f\x8b\x08\x00" + b"\0" * 40),
        ("empty.nii.gz", b""),
        ("text.dcm", b"this is no DICOM"),
        ("cut.avi", b"RIFF\x00\x10\x00\x00AVI " + b"\0" * 64),
        ("empty.npy", b""),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    project: Path, run_cli: Cli, name: str, content: bytes
) -> None:
    (project / "scans" / name).write_bytes(content)
    rewrite(project, lambda lines: [*lines, f"x,y,scans/{name},dark"])
    for verb in ("check", "train"):
        answer = run_cli(verb, "tiny.yaml")
        assert answer.code == 3, answer.err
        assert name in answer.err
        assert "on_bad=quarantine" in answer.err


def test_a_clip_longer_than_the_scan_is_padded_and_masked(project: Path, run_cli: Cli) -> None:
    answer = run_cli("train", "tiny.yaml", "data.sampler.frames=9", "train.epochs=1")
    assert answer.code == 0, answer.err


def test_a_checkpoint_of_another_model_is_refused(project: Path, run_cli: Cli) -> None:
    assert run_cli("train", "tiny.yaml", "train.epochs=1").code == 0
    (run,) = (project / "runs").iterdir()
    checkpoint = torch.load(run / "fold_0/best.ckpt", weights_only=True)
    checkpoint["medvid"]["model"] = {"name": "slicewise", "width": 8}
    torch.save(checkpoint, run / "fold_0/best.ckpt")
    answer = run_cli("predict", run, "scans")
    assert answer.code == 3
    assert "of another model" in answer.err


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("harmed", "w"))


def test_a_malicious_checkpoint_is_refused_and_not_run(project: Path, run_cli: Cli) -> None:
    assert run_cli("train", "tiny.yaml", "train.epochs=1").code == 0
    (run,) = (project / "runs").iterdir()
    torch.save({"state_dict": Harmful()}, run / "fold_0/best.ckpt")
    answer = run_cli("predict", run, "scans")
    assert answer.code == 3
    assert "could run code" in answer.err
    assert not (project / "harmed").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train"], 2, "Give a config, or --resume RUN"),
        (["train", "nowhere.yaml"], 2, "no config `nowhere.yaml`"),
        (["train", "--resume", "scans"], 3, "no run folder"),
        (["predict", "nowhere", "scans"], 3, "no run folder"),
        (["scan", "nowhere"], 3, "does not exist"),
        (["manifest", "ucf11", ".", "-o", "m.csv"], 2, "Did you mean `ucf101`?"),
        (["phantom", "nodul", "out"], 2, "Did you mean `nodule`?"),
        (["phantom", "nodule", "out", "--size", "3,x"], 2, "T,H,W"),
        (["demo", "scans"], 2, "is not empty"),
        (["compare", "scans", "scans"], 3, "no run folder"),
    ],
)
def test_a_command_that_cannot_be_meant_is_a_sentence(
    project: Path, run_cli: Cli, words: list[str], code: int, said: str
) -> None:
    answer = run_cli(*words)
    assert answer.code == code, answer.err
    assert said in answer.err


@pytest.mark.parametrize("verb", ["models", "adapters", "transforms"])
def test_what_there_is_can_be_listed_as_json(run_cli: Cli, verb: str) -> None:
    import json

    answer = run_cli(verb, "--json")
    assert answer.code == 0, answer.err
    assert {"c3d", "table", "window"} & {row["name"] for row in json.loads(answer.out)}
    assert run_cli(verb).code == 0


def test_help_does_not_pay_for_torch() -> None:
    code = (
        "import sys; sys.argv = ['medvid', '--help']\n"
        "from medvid.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'monai', 'lightning', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
