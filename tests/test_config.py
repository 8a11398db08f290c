"""Configs: parents, overrides, numbers, and sentences for what cannot be meant."""

from pathlib import Path

import pytest
import yaml

from medvid.config import format_config, list_configs, merge, read_config, save_config
from medvid.contract import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_child_lies_over_its_parents_key_by_key(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "seed: 1\ntrain: {epochs: 3, optimizer: {name: sgd, lr: 1}}\n")
    child = write(tmp_path, "child.yaml", "extends: base\ntrain: {epochs: 5}\n")
    assert read_config(child) == {
        "seed": 1,
        "train": {"epochs": 5, "optimizer": {"name": "sgd", "lr": 1}},
    }


def test_another_name_starts_a_section_anew() -> None:
    merged = merge({"model": {"name": "c3d", "width": 3}}, {"model": {"name": "slicewise"}})
    assert merged == {"model": {"name": "slicewise"}}


def test_overrides_reach_into_sections_and_are_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "c.yaml", "train: {epochs: 3}\n")
    config = read_config(path, ["train.lr=1e-3", "model.depths=[1, 2]", "data.store=a b"])
    assert config["train"] == {"epochs": 3, "lr": 1e-3}
    assert config["model"]["depths"] == [1, 2]
    assert config["data"]["store"] == "a b"


@pytest.mark.parametrize("text", ["1e-3", "1E3", "2.5e4", ".5e1"])
def test_a_number_with_an_exponent_is_a_number(tmp_path: Path, text: str) -> None:
    assert read_config(write(tmp_path, "c.yaml", f"train: {{lr: {text}}}"))["train"] == {
        "lr": float(text)
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trian: {}", r"no section `trian`\. Did you mean `train`\?"),
        ("seed: [1", "is no YAML"),
        ("seed: abc", "`seed` was given `abc`; it is a whole number from 0"),
        ("seed: -1", "whole number from 0"),
        ("seed: true", "whole number from 0"),
        ("overfit: abc", "number of cases"),
        ("overfit: -3", "number of cases"),
        ("name: 5", "it is a text"),
        ("name: [a]", "it is a text"),
        ("data: 5", "section of options"),
        ("train: 5", "section of options"),
        ("train: [a]", "section of options"),
        ("evaluate: 5", "section of options"),
        ("model: 5", "a name, or a section"),
        ("model: {name: 5}", "a name, or a section"),
        ("transforms: 5", "lists of transforms"),
        ("transforms: {both: 5}", "lists of transforms"),
        ("transforms: {both: [5]}", "lists of transforms"),
        ("just words", "holds no sections"),
        ("seed: 1\nseed: 2", "stands twice"),
        ("extends: c", "extends itself"),
        ("extends: run/lidc_c3", r"Did you mean `run/lidc_c3d5`"),
    ],
)
def test_a_config_that_cannot_be_meant_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(write(tmp_path, "c.yaml", text))


def test_an_override_without_a_value_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="is no override; write key=value"):
        read_config("model/slicewise", ["width"])


def test_a_saved_config_reads_back_the_same(tmp_path: Path) -> None:
    config = {"seed": 3, "train": {"lr": 1e-5, "size": (1, 2)}, "name": "über"}
    save_config(config, tmp_path / "c.yaml")
    assert read_config(tmp_path / "c.yaml") == {**config, "train": {"lr": 1e-5, "size": [1, 2]}}
    assert not list(tmp_path.glob("*.part"))


def test_a_manifest_is_looked_for_beside_the_config(tmp_path: Path) -> None:
    write(tmp_path, "labels.csv", "")
    path = write(tmp_path, "c.yaml", "data: {manifest: labels.csv}")
    assert read_config(path)["data"]["manifest"] == str((tmp_path / "labels.csv").resolve())


@pytest.mark.parametrize("name", list_configs())
def test_every_shipped_config_reads_and_has_a_first_line_that_says_what_it_is_for(
    name: str,
) -> None:
    assert read_config(name)
    path = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert yaml.safe_load(format_config(read_config(name))) is not None


def test_configs_are_shipped() -> None:
    assert {"model/c3d", "model/slicewise", "data/ucf101"} <= set(list_configs())
