"""`init`: a network begins with another's weights, and never with those of its test patients."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from medvid.contract import ConfigError, DataError
from medvid.evaluate import read_predictions
from medvid.jobs.lineage import RECORD
from medvid.jobs.start import read_init, read_weights
from medvid.models import MODELS
from medvid.train.checkpoint import load_checkpoint

Cli = Callable[..., Any]

NET = "model={name: res3d, width: 4, stem_kernel: [3, 3, 3], stem_stride: [1, 1, 1]}"
TWIN = NET[:-1] + ", planar: true}"


def find_run(project: Path, name: str) -> Path:
    return next((project / "runs").glob(f"{name}-*"))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_patients(project: Path) -> dict[str, str]:
    table = pd.read_csv(project / "manifest.csv")
    return dict(zip(table["case_id"], table["patient_id"], strict=True))


def train_twin(project: Path, run_cli: Cli) -> Path:
    answer = run_cli("train", "tiny.yaml", TWIN, "name=slices", "train.epochs=1")
    assert answer.code == 0, answer.err
    return find_run(project, "slices")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the twin lies between the tests, which would train the same one anew."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def twin(project: Path, run_cli: Cli, shelf: Path) -> Path:
    """A run of the planar twin, three folds."""
    kept = next(shelf.glob("slices-*"), None)
    if kept is None:
        run = train_twin(project, run_cli)
        shutil.copytree(run, shelf / run.name)
        return run
    return Path(shutil.copytree(kept, project / "runs" / kept.name))


def test_two_commands_make_a_3d_net_that_begins_with_its_twin(
    project: Path, twin: Path, run_cli: Cli
) -> None:
    # At a learning rate of nothing the first checkpoint still holds what the net began with.
    still = "train.optimizer={name: sgd, lr: 1e-30, weight_decay: 0}"
    words = ["tiny.yaml", NET, "name=deep", f"init.from={twin}", still, "train.epochs=1"]
    answer = run_cli("train", *words)
    assert answer.code == 0, answer.err
    assert f"fold 1/3 started from fold 0 of {twin.name}" in answer.out
    assert "kernels inflated (repeat)" in answer.out
    deep = find_run(project, "deep")
    for number in range(3):
        flat = load_checkpoint(twin / f"fold_{number}/best.ckpt")["state_dict"]
        begun = load_checkpoint(deep / f"fold_{number}/best.ckpt")
        solid = begun["state_dict"]["blocks.res2a.conv1.weight"]
        wanted = flat["blocks.res2a.conv1.weight"].expand_as(solid) / 3
        torch.testing.assert_close(solid, wanted)
        # The same classes: what the twin's classifier learnt is of use too.
        head = "classifier.weight"
        torch.testing.assert_close(begun["state_dict"][head], flat[head])
        about = begun["medvid"]["init"]
        assert (about["run"], about["fold"], about["inflate"]) == (twin.name, number, "repeat")
        assert str(project) not in json.dumps(about)


def test_init_json_says_what_became_of_every_tensor(
    project: Path, twin: Path, run_cli: Cli
) -> None:
    words = ["tiny.yaml", NET, "name=deep", f"init={{from: {twin}, inflate: centre}}"]
    assert run_cli("train", *words, "--fold", "1", "train.epochs=1").code == 0
    folder = find_run(project, "deep") / "fold_1"
    record = read_json(folder / RECORD)
    tensors = record["tensors"]
    names = set(load_checkpoint(folder / "best.ckpt")["state_dict"])
    assert {*tensors["inflated"], *tensors["copied"], *tensors["left"]} == names
    assert tensors["how"] == record["origin"]["inflate"] == "centre"
    assert "stem.weight" in tensors["inflated"]


def test_nobody_of_the_test_part_was_seen_before(project: Path, twin: Path, run_cli: Cli) -> None:
    words = ["tiny.yaml", NET, "name=deep", f"init.from={twin}", "train.epochs=1"]
    assert run_cli("train", *words).code == 0
    deep = find_run(project, "deep")
    patient = read_patients(project)
    for number, fold in enumerate(read_json(deep / "splits.json")):
        record = read_json(deep / f"fold_{number}" / RECORD)
        test = {patient[case] for case in fold["test"]}
        assert not test & {*record["trained"], *record["chosen"]}
        assert {patient[case] for case in fold["train"]} <= set(record["trained"])


@pytest.mark.parametrize("change", ["seed=1", "data.splits.folds=2"])
def test_other_splits_are_refused_before_a_run_folder_is_made(
    project: Path, twin: Path, run_cli: Cli, change: str
) -> None:
    answer = run_cli("train", "tiny.yaml", NET, "name=deep", f"init.from={twin}", change)
    assert answer.code == 3
    assert "cannot be started from" in answer.err
    assert "same manifest, `data.splits` and `seed`" in answer.err
    assert not list((project / "runs").glob("deep-*"))
    checked = run_cli("check", "tiny.yaml", NET, f"init.from={twin}", change)
    assert checked.code == 3
    assert "cannot be started from" in checked.err


def test_validation_patients_that_were_trained_on_are_refused_too(
    project: Path, run_cli: Cli
) -> None:
    """Without a validation part the twin was trained on those on whom the net would choose."""
    bare = ["data.splits.validation=0", "train.epochs=1"]
    assert run_cli("train", "tiny.yaml", TWIN, "name=slices", *bare).code == 0
    answer = run_cli("train", "tiny.yaml", NET, f"init.from={find_run(project, 'slices')}")
    assert answer.code == 3
    assert "known by heart" in answer.err


def test_a_fold_that_never_saw_them_is_taken_wherever_it_stands(
    project: Path, twin: Path, run_cli: Cli
) -> None:
    """The same three test parts, in another order by a fold column."""
    folds = read_json(twin / "splits.json")
    turned = {case: (number + 1) % 3 for number, fold in enumerate(folds) for case in fold["test"]}
    table = pd.read_csv(project / "manifest.csv")
    table.assign(fold=table["case_id"].map(turned)).to_csv(project / "turned.csv", index=False)
    words = ["tiny.yaml", NET, "name=deep", f"init.from={twin}", "data.manifest=turned.csv"]
    words += ["data.splits={validation: 0}", "train.epochs=1", "--fold", "0"]
    answer = run_cli("train", *words)
    assert answer.code == 0, answer.err
    assert f"started from fold 2 of {twin.name}" in answer.out


def test_other_names_for_the_same_scans_do_not_hide_a_patient(project: Path, run_cli: Cli) -> None:
    twin = train_twin(project, run_cli)  # of these very files
    table = pd.read_csv(project / "manifest.csv")
    table["patient_id"] = "someone " + table["patient_id"]
    table.to_csv(project / "renamed.csv", index=False)
    words = ["tiny.yaml", NET, f"init.from={twin}", "data.manifest=renamed.csv"]
    answer = run_cli("train", *words, "seed=1")
    assert answer.code == 3
    assert "cannot be started from" in answer.err


def test_patients_of_a_run_before_the_run_are_remembered(
    project: Path, twin: Path, run_cli: Cli
) -> None:
    """deep begins with slices; what begins with deep knows the patients of both."""
    words = ["tiny.yaml", NET, "name=deep", f"init.from={twin}", "train.epochs=1"]
    assert run_cli("train", *words, "--fold", "0").code == 0
    deep = find_run(project, "deep")
    record = deep / "fold_0" / RECORD
    told = read_json(record)
    stranger = read_json(deep / "splits.json")[0]["test"][0]
    told["trained"].append(read_patients(project)[stranger])
    record.write_text(json.dumps(told), encoding="utf-8")
    answer = run_cli("train", "tiny.yaml", NET, f"init.from={deep}")
    assert answer.code == 3
    assert "fold 0 has seen 1 patient whom fold 0 tests on" in answer.err


def test_one_fold_of_a_run_can_be_named(project: Path, twin: Path, run_cli: Cli) -> None:
    named = f"init.from={twin / 'fold_1'}"
    words = ["tiny.yaml", NET, "train.epochs=1"]
    assert run_cli("train", *words, named, "name=one", "--fold", "1").code == 0
    answer = run_cli("train", *words, named, "--fold", "0")
    assert answer.code == 3
    assert "its fold 1 has seen" in answer.err
    file = f"init.from={twin / 'fold_1' / 'last.ckpt'}"
    answer = run_cli("train", *words, file, "--fold", "0")
    assert answer.code == 3
    assert "its fold 1 has seen" in answer.err


def test_an_unfinished_run_is_no_start(project: Path, run_cli: Cli) -> None:
    words = ["tiny.yaml", TWIN, "name=slices", "train.epochs=1", "--fold", "0"]
    assert run_cli("train", *words).code == 0
    source = find_run(project, "slices")
    assert run_cli("train", "tiny.yaml", NET, "--fold", "0", f"init.from={source}").code == 0
    (source / "fold_0/predictions_test.csv").unlink()
    answer = run_cli("train", "tiny.yaml", NET, f"init.from={source}")
    assert answer.code == 3
    assert f"medvid train --resume {source}" in answer.err


def test_a_broken_off_run_ends_as_an_unbroken_one(project: Path, twin: Path, run_cli: Cli) -> None:
    words = ["tiny.yaml", NET, f"init.from={twin}"]
    assert run_cli("train", *words, "name=whole").code == 0
    assert run_cli("train", *words, "name=parts", "--fold", "1").code == 0
    parts = find_run(project, "parts")
    # As killed after the first weights were in place and before the first epoch's end.
    for file in parts.glob("fold_1/*"):
        if file.name != RECORD:
            file.unlink()
    assert run_cli("train", "--resume", parts).code == 0
    whole, again = (
        read_predictions(find_run(project, name) / "predictions_oof.csv")
        for name in ("whole", "parts")
    )
    pd.testing.assert_frame_equal(whole, again)


def test_a_fold_with_an_epoch_behind_it_needs_its_source_no_more(
    project: Path, twin: Path, run_cli: Cli
) -> None:
    words = ["tiny.yaml", NET, f"init.from={twin}", "name=deep"]
    assert run_cli("train", *words).code == 0
    deep = find_run(project, "deep")
    before = read_predictions(deep / "predictions_oof.csv")
    for number in range(3):  # the trained fold has still to be predicted
        (deep / f"fold_{number}/predictions_test.csv").unlink()
    shutil.rmtree(twin)
    answer = run_cli("train", "--resume", deep)
    assert answer.code == 0, answer.err
    pd.testing.assert_frame_equal(before, read_predictions(deep / "predictions_oof.csv"))


def test_a_source_that_changed_in_between_is_refused(
    project: Path, twin: Path, run_cli: Cli
) -> None:
    words = ["tiny.yaml", NET, f"init.from={twin}", "name=deep", "--fold", "0"]
    assert run_cli("train", *words).code == 0
    deep = find_run(project, "deep")
    for file in deep.glob("fold_0/*"):
        if file.name != RECORD:
            file.unlink()
    shutil.copy(twin / "fold_1/best.ckpt", twin / "fold_0/best.ckpt")
    answer = run_cli("train", "--resume", deep, "--fold", "0")
    assert answer.code == 3
    assert "was begun from other weights" in answer.err


def test_other_classes_leave_the_classifier_alone(project: Path, twin: Path, run_cli: Cli) -> None:
    table = pd.read_csv(project / "manifest.csv")
    table["label"] = table["label"].map({"bright": "hell", "dark": "dunkel"})
    table.to_csv(project / "german.csv", index=False)
    words = ["tiny.yaml", NET, f"init.from={twin}", "name=deep", "data.manifest=german.csv"]
    answer = run_cli("train", *words, "--fold", "0", "train.epochs=1")
    assert answer.code == 0, answer.err
    left = read_json(find_run(project, "deep") / "fold_0" / RECORD)["tensors"]["left"]
    assert set(left) == {"classifier.weight", "classifier.bias"}


def test_a_file_of_somebody_else_is_a_start_with_a_warning(project: Path, run_cli: Cli) -> None:
    net = MODELS["res3d"](in_channels=3, num_classes=7, width=4, planar=True, stem_kernel=(3, 3, 3))
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, "rgb.pth")
    words = ["tiny.yaml", NET, "init.from=rgb.pth", "name=deep", "--fold", "0", "train.epochs=1"]
    answer = run_cli("train", *words)
    assert answer.code == 0, answer.err
    assert "Nobody can tell on which patients" in answer.out
    tensors = read_json(find_run(project, "deep") / "fold_0" / RECORD)["tensors"]
    assert tensors["summed"] == ["stem.weight"]
    assert set(tensors["left"]) == {"classifier.weight", "classifier.bias"}


def test_another_network_is_no_start(project: Path, run_cli: Cli) -> None:
    assert run_cli("train", "tiny.yaml", "name=slices", "train.epochs=1").code == 0
    source = find_run(project, "slices")
    answer = run_cli("train", "tiny.yaml", NET, f"init.from={source}", "name=deep")
    assert answer.code == 3
    assert "too few to be its 2D twin" in answer.err


def test_windows_of_a_run_are_not_summed_as_colours(project: Path, run_cli: Cli) -> None:
    windows = "transforms.both=[{name: window, windows: [brain, bone, lung]}]"
    words = ["tiny.yaml", TWIN, windows, "name=slices", "train.epochs=1", "--fold", "0"]
    assert run_cli("train", *words).code == 0
    source = find_run(project, "slices")
    words = ["tiny.yaml", NET, f"init.from={source}", "name=deep", "--fold", "0"]
    answer = run_cli("train", *words)
    assert answer.code == 3
    assert "was trained on clips of 3 channel(s), and yours have 1" in " ".join(answer.err.split())
    assert not list((project / "runs").glob("deep-*"))
    assert run_cli("train", *words, windows, "train.epochs=1").code == 0


@pytest.mark.parametrize("source", ["wide", "junk.pth", "deep.pth"])
def test_weights_that_do_not_fit_leave_no_run_folder(
    project: Path, twin: Path, run_cli: Cli, source: str
) -> None:
    (project / "junk.pth").write_text("weights", encoding="utf-8")
    names = {f"layer{n}.2.conv1.weight": torch.ones(2, 2, 3, 3) for n in range(1, 5)}
    names |= {"conv1.weight": torch.ones(2, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(2, 2)}
    names |= {"bn1.running_mean": torch.ones(2), "layer4.1.bn2.weight": torch.ones(2)}
    torch.save(names, project / "deep.pth")
    words = [f"init.from={source}"]
    if source == "wide":
        words = [f"init.from={twin}", "model.width=8"]
    answer = run_cli("train", "tiny.yaml", NET, *words, "name=deep")
    assert answer.code == 3, answer.err
    assert not list((project / "runs").glob("deep-*"))


def test_check_says_what_a_net_would_begin_with(project: Path, twin: Path, run_cli: Cli) -> None:
    answer = run_cli("check", "tiny.yaml", NET, f"init.from={twin}")
    assert answer.code == 0, answer.err
    assert f"fold 0 from fold 0 of {twin.name}" in " ".join(answer.out.split())


def test_overfitting_holds_nobody_out(project: Path, twin: Path, run_cli: Cli) -> None:
    words = ["tiny.yaml", NET, f"init.from={twin}", "seed=1", "overfit=4"]
    assert run_cli("train", *words).code == 0


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"form": "x"}, "needs `from`"),
        ({"from": "x", "inflat": "repeat"}, r"no option `inflat`. Did you mean `inflate`\?"),
        ({"from": "x", "inflate": "mean"}, "possible are repeat and centre"),
    ],
)
def test_a_section_that_cannot_be_meant_is_a_sentence(
    section: Mapping[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_init({"init": section})


def test_the_resolved_config_says_how_it_begins(project: Path, run_cli: Cli) -> None:
    answer = run_cli("config", "tiny.yaml", "init.from=runs/x")
    assert answer.code == 0, answer.err
    assert "inflate: repeat" in answer.out
    missing = run_cli("train", "tiny.yaml", "init.from=runs/x")
    assert missing.code == 2
    assert "does not exist" in missing.err


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("hello",))


def test_files_that_hold_no_weights_or_code_are_refused(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "empty.pt": {},
        "words.pt": {"state_dict": {"epoch": 3}},
        "list.pt": [torch.ones(2)],
        "evil.pt": {"state_dict": Evil()},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "words.pt").read_bytes()[:100])
    (tmp_path / "zero.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("ein Text", encoding="utf-8")  # pickle knows no such byte
    for name in (*files, "cut.pt", "zero.pt", "text.pt"):
        with pytest.raises(DataError, match=name) as caught:
            read_weights(tmp_path / name)
        assert caught.value.code in {"no_checkpoint", "unsafe_checkpoint"}
    with pytest.raises(DataError, match=r"is no file of torch, or is cut short.*weights\. Save"):
        read_weights(tmp_path / "text.pt")
