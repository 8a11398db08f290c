"""What `medvid models --clip` tells of every shipped model config."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from medvid.config import list_configs, read_config
from medvid.jobs.listings import list_config_rows, list_model_rows, tell_model_rows
from medvid.models import MODELS, ModelDescription, build_model

CONFIGS = Path(__file__).parents[2] / "configs"

Cli = Callable[..., Any]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def listed() -> Rows:
    return list_config_rows((17, 28, 28))


NO_SCAN_PRESET = {"c3d_study", "slicewise"}
"""The study net has its kernel depths for options; `slicewise` is made for scans."""


def test_every_model_has_a_config_of_its_name_and_one_for_scans() -> None:
    shipped = set(list_configs())
    assert {f"model/{name}" for name in MODELS} <= shipped
    assert {f"model/{name}_scan" for name in set(MODELS) - NO_SCAN_PRESET} <= shipped


@pytest.mark.parametrize("name", [name for name in list_configs() if name.startswith("model/")])
def test_the_parameters_that_a_config_states_are_its_network_s(name: str) -> None:
    said = re.search(
        r"([\d.]+) million parameters(?: at ([\d x]+))?",
        (CONFIGS / f"{name}.yaml").read_text("utf-8"),
    )
    if said is None:
        return
    section = read_config(name)["model"]
    scan = name.endswith("_scan")
    size = (17, 28, 28) if scan else cast("Any", MODELS[section["name"]]).paper_clip
    if said[2]:
        size = tuple(map(int, said[2].split(" x ")))
    with torch.device("meta"):
        network = build_model(
            section,
            in_channels=1 if scan else 3,
            num_classes=2 if scan else 101,
            clip_size=size,
        )
    count = sum(parameter.numel() for parameter in network.parameters())
    digits = len(said[1].partition(".")[2])
    assert f"{count / 1e6:.{digits}f}" == said[1]


def test_every_scan_preset_takes_small_crops_of_few_slices() -> None:
    rows = {row["name"]: row for row in list_config_rows((17, 28, 28), spacing=(5.0, 0.7, 0.7))}
    scans = {name: row for name, row in rows.items() if name.endswith("_scan")}
    assert scans
    for name, row in scans.items():
        assert row["problem"] is None, name
        assert 0 < row["parameters"] < 2e6, name


def test_a_config_that_cannot_take_the_clip_says_why(run_cli: Cli) -> None:
    answer = run_cli("models", "--clip", "17,28,28", "--json")
    rows = {row["name"]: row for row in json.loads(answer.out)}
    assert "at least 17 x 32 x 32" in rows["model/ltc"]["problem"]
    assert rows["model/ltc"]["through_plane"] is None
    assert rows["model/ltc"]["parameters"] is None
    assert {tuple(row["clip_size"]) for row in rows.values()} == {(17, 28, 28)}
    assert rows["model/c3d"]["problem"] is None


def test_the_table_has_the_reason_where_a_network_s_sentence_would_be(listed: Rows) -> None:
    told = {row["name"]: row for row in tell_model_rows(listed)}
    refused = told["model/ltc"]
    assert "at least 17 x 32 x 32" in refused["through-plane"]
    assert refused["clip"] == "17 x 28 x 28"
    assert refused["parameters (M)"] == refused["frames"] == refused["mask"] == ""


def test_without_json_it_is_a_table_for_people(run_cli: Cli) -> None:
    answer = run_cli("models")
    assert answer.out.startswith("name ")
    assert "GFLOP a clip" in answer.out
    assert "16 x 112 x 112" in answer.out


def test_programs_get_exact_numbers_and_people_significant_digits(run_cli: Cli) -> None:
    listed = json.loads(run_cli("models", "--clip", "5,32,32", "--json").out)
    rows = {row["name"]: row for row in listed}
    assert all(set(row) == {"name", "problem", *ModelDescription.__annotations__} for row in listed)
    assert rows["model/c3d_scan"]["parameters"] == 433_034
    assert rows["model/c3d_scan"]["smallest"] == [1, 17, 17]
    small = rows["model/ji3dcnn_scan"]["flops"]
    assert isinstance(small, int)
    assert 0 < small < 5e6
    told = {row["name"]: row for row in tell_model_rows(listed)}
    assert told["model/c3d_scan"]["parameters (M)"] == "0.433"
    assert told["model/c3d_scan"]["smallest"] == "1 x 17 x 17"
    said = told["model/ji3dcnn_scan"]["GFLOP a clip"]
    assert float(said) == pytest.approx(small / 1e9, rel=0.005)
    papers = {row["name"]: row for row in json.loads(run_cli("models", "--json").out)}
    assert papers["c3d"]["parameters"] == 78_000_514
    assert papers["c3d"]["clip_size"] == [16, 112, 112]


def test_a_clip_that_is_no_size_is_a_sentence(run_cli: Cli) -> None:
    for words in (
        ["--clip", "17,28"],
        ["--clip", "0,28,28"],
        ["--clip", "1.5,28,28"],
        ["--channels", "3"],
    ):
        answer = run_cli("models", *words)
        assert answer.code == 2
        assert "T,H,W" in answer.err


def test_a_clip_that_no_network_is_listed_for_is_a_sentence(run_cli: Cli) -> None:
    for size in ("1000000,28,28", "16,28,5000", "nan,28,28", "inf,28,28"):
        answer = run_cli("models", "--clip", size)
        assert answer.code == 2
        assert "up to 1024 x 4096 x 4096" in answer.err or "is T,H,W" in answer.err
    answer = run_cli("models", "--clip", "16,28,28", "--spacing=nan,1,1")
    assert answer.code == 2
    assert "--spacing is T,H,W" in answer.err


def test_it_says_how_many_frames_a_network_takes_and_whether_padding_counts(listed: Rows) -> None:
    rows = {row["name"]: row for row in tell_model_rows(list_model_rows())}
    frames = {name: rows[name]["frames"] for name in ("slicewise", "ltc", "fstcn", "c3d")}
    assert frames == {"slicewise": "any", "ltc": "exactly 100", "fstcn": "exactly 30", "c3d": "any"}
    assert {row["mask"] for row in rows.values()} == {"honoured"}
    rows = {row["name"]: row for row in tell_model_rows(listed)}
    assert rows["model/fstcn_scan"]["frames"] == "at least 2"
    assert rows["model/early_fusion_scan"]["frames"] == "exactly 17"


def test_the_sentences_are_those_of_the_spacing(run_cli: Cli) -> None:
    listed = run_cli("models", "--clip", "16,64,64", "--spacing", "5,.7,.7", "--json").out
    told = {row["name"]: row["through_plane"] for row in json.loads(listed)}
    assert "in the first 2 of 5 stages" in told["model/c3d_scan"]
    assert "in the first 3 of 5 stages; then mixes" in told["model/i3d_scan"]
    assert "stem" not in told["model/i3d_scan"]
    assert told["model/c3d"].startswith("Mixes neighbouring slices in every layer")
    assert "first layer, 5 after two, 6 after three" in told["model/slow_fusion_scan"]
    assert "first layer, 6 after two, 10 after three" in told["model/slow_fusion"]
    assert "2 layers of LSTM, in both directions" in told["model/lstm_scan"]
    assert "5 layers of LSTM." in told["model/lstm"]
