"""Which series of a study is meant: by what it is, and never by chance."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medvid.contract import ConfigError, DataError, GeometryError
from medvid.io import open_stack
from medvid.io.write import write_dicom_series


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Thin and thick, soft and sharp, and an MR."""
    for name, frames, step, kernel, modality in (
        ("thick", 6, 5.0, "B30f", "CT"),
        ("thin", 24, 1.25, "B30f", "CT"),
        ("sharp", 24, 1.25, "B70s", "CT"),
        ("mr", 9, 4.0, "", "MR"),
    ):
        volume = np.full((frames, 6, 5), len(name), np.int16)
        write_dicom_series(
            tmp_path / name,
            volume,
            spacing=(step, 1.0, 1.0),
            modality=modality,
            series_uid=f"2.25.1{len(name)}{frames}",
            description=f"Chest {name} MUELLER",
        )
        for file in (tmp_path / name).iterdir():
            dataset = pydicom.dcmread(file)
            dataset.ConvolutionKernel = kernel
            dataset.save_as(file)
    return tmp_path


@pytest.mark.parametrize(
    ("select", "value"),
    [
        ({"modality": "MR"}, 2),
        ({"description": "*THIN*"}, 4),
        ({"kernel": "b70*"}, 5),
        ({"modality": "CT", "prefer": "thickest"}, 5),
        ({"modality": "CT", "thickness": 5}, 5),
        ({"kernel": "B30f", "prefer": "most_slices"}, 4),
        ({"kernel": "B30f", "prefer": "thinnest"}, 4),
        ({"kernel": "B30f", "thickness": [2, 6]}, 5),
        ({"modality": "CT", "plane": "axial", "description": "chest sharp*"}, 5),
    ],
)
def test_one_series_of_a_study_is_chosen(study: Path, select: dict[str, Any], value: int) -> None:
    stack = open_stack(study, select=select)
    assert stack.read().max() == value
    assert any("by `select`" in note for note in stack.notes)


@pytest.mark.parametrize(("prefer", "value"), [("thinnest", 4), ("thickest", 5)])
def test_slices_without_a_thickness_are_as_thick_as_their_step(
    study: Path, prefer: str, value: int
) -> None:
    for file in (study / "thick").iterdir():
        dataset = pydicom.dcmread(file)
        del dataset.SliceThickness
        dataset.save_as(file)
    stack = open_stack(study, select={"kernel": "B30f", "prefer": prefer})
    assert stack.read().max() == value


def test_a_choice_that_leaves_several_is_refused_and_lists_them(study: Path) -> None:
    with pytest.raises(GeometryError, match="several series") as caught:
        open_stack(study, select={"modality": "CT", "prefer": "most_slices"})
    assert "24 slices, 1.25 mm thick, kernel B30f" in caught.value.message
    assert "MUELLER" not in caught.value.message


def test_a_choice_that_nothing_fits_lists_what_there_is(study: Path) -> None:
    with pytest.raises(DataError, match="no series that fits `select`") as caught:
        open_stack(study, select={"modality": "PT"})
    assert "MR, axial, 9 slices" in caught.value.message
    assert "MUELLER" not in caught.value.message


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ({"kernal": "B30"}, "no key `kernal`"),
        ({"plane": "oblique"}, "`select.plane` is one of axial, coronal, sagittal"),
        ({"prefer": "best"}, "`select.prefer` is one of most_slices, thinnest, thickest"),
        ({"thickness": [5, 1]}, "`select.thickness` is a number of mm"),
        ({"modality": 3}, "`select.modality` is a text"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_a_sentence(
    study: Path, select: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        open_stack(study, select=select)
    assert words in caught.value.message
