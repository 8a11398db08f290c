"""Fixtures of the training room."""

from pathlib import Path

import pytest

from tests.train.tiny import TinyNet, build_net


@pytest.fixture
def net() -> TinyNet:
    return build_net()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fold_0"
