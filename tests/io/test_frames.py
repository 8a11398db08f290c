import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medvid.contract import DataError
from medvid.io.frames import is_frame_folder, open_frames


def write_picture(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey(value: int, height: int = 6, width: int = 9) -> NDArray[np.uint8]:
    return np.full((height, width), value, np.uint8)


def test_frames_are_sorted_as_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100):
        write_picture(tmp_path / f"img{number}.png", grey(number))
    stack = open_frames(tmp_path)
    assert stack.read().shape == (1, 4, 6, 9)
    assert stack.read()[0, :, 0, 0].tolist() == [1, 9, 10, 100]
    assert stack.read([3, 0, 3])[0, :, 0, 0].tolist() == [100, 1, 100]
    assert stack.positions.tolist() == [0, 1, 2, 3]
    assert (stack.unit, stack.spacing, stack.modality) == ("s", (1.0, 1.0, 1.0), "video")
    assert any("no frame rate" in note for note in stack.notes)


def test_colour_gives_three_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_picture(tmp_path / "1.png", pixels)
    stack = open_frames(tmp_path)
    assert stack.channels == 3
    np.testing.assert_array_equal(stack.read()[:, 0], np.moveaxis(pixels, -1, 0))


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    pixels = np.array([[0, 300], [40000, 65535]], np.uint16)
    write_picture(tmp_path / "1.png", pixels)
    stack = open_frames(tmp_path)
    assert stack.dtype == np.uint16
    np.testing.assert_array_equal(stack.read()[0, 0], pixels)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_usual_formats_are_read(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"1{suffix}", grey(80))
    assert np.abs(open_frames(tmp_path).read().astype(int) - 80).max() <= 1  # JPEG rounds


@pytest.mark.parametrize("other", [grey(1, height=8), np.zeros((6, 9, 3), np.uint8)])
def test_a_picture_unlike_the_others_is_named(tmp_path: Path, other: NDArray[np.uint8]) -> None:
    write_picture(tmp_path / "1.png", grey(1))
    write_picture(tmp_path / "2.png", other)
    with pytest.raises(DataError, match=r"2\.png.*must be alike") as refused:
        open_frames(tmp_path)
    assert refused.value.code == "frames_differ"


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    write_picture(tmp_path / "1.png", noise)
    data = (tmp_path / "1.png").read_bytes()
    (tmp_path / "2.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"2\.png") as refused:
        open_frames(tmp_path).read()
    assert refused.value.code == "frame_unreadable"
    (tmp_path / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2\.png"):
        open_frames(tmp_path)


def test_a_folder_with_anything_else_is_no_frame_folder(tmp_path: Path) -> None:
    assert not is_frame_folder(tmp_path)
    write_picture(tmp_path / "1.png", grey(1))
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / ".hidden").touch()
    assert is_frame_folder(tmp_path)
    (tmp_path / "labels.csv").touch()
    assert not is_frame_folder(tmp_path)
    with pytest.raises(DataError, match="only pictures"):
        open_frames(tmp_path)


def test_an_opened_folder_survives_pickling(tmp_path: Path) -> None:
    write_picture(tmp_path / "1.png", grey(7))
    assert pickle.loads(pickle.dumps(open_frames(tmp_path))).read().max() == 7
