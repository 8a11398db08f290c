"""What `medvid models --clip` tells of every shipped model config."""

import json
from collections.abc import Callable
from typing import Any

from medvid.config import list_configs
from medvid.jobs.listings import list_config_rows
from medvid.models import MODELS

Cli = Callable[..., Any]

NO_SCAN_PRESET = {"c3d_study", "slicewise"}
"""The study net has its kernel depths for options; `slicewise` is made for scans."""


def test_every_model_has_a_config_of_its_name_and_one_for_scans() -> None:
    shipped = set(list_configs())
    assert {f"model/{name}" for name in MODELS} <= shipped
    assert {f"model/{name}_scan" for name in set(MODELS) - NO_SCAN_PRESET} <= shipped


def test_every_scan_preset_takes_small_crops_of_few_slices() -> None:
    rows = {row["name"]: row for row in list_config_rows((17, 28, 28), spacing=(5.0, 0.7, 0.7))}
    scans = {name: row for name, row in rows.items() if name.endswith("_scan")}
    assert scans
    for name, row in scans.items():
        assert row["parameters (M)"], (name, row["through-plane"])
        assert row["parameters (M)"] < 2, name


def test_a_config_that_cannot_take_the_clip_says_why(run_cli: Cli) -> None:
    answer = run_cli("models", "--clip", "17,28,28", "--json")
    rows = {row["name"]: row for row in json.loads(answer.out)}
    assert "at least 17 x 32 x 32" in rows["model/ltc"]["through-plane"]
    assert rows["model/ltc"]["parameters (M)"] is None
    assert rows["model/c3d"]["clip"] == "17 x 28 x 28"


def test_a_clip_that_is_no_size_is_a_sentence(run_cli: Cli) -> None:
    for words in (["--clip", "17,28"], ["--clip", "0,28,28"], ["--channels", "3"]):
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
