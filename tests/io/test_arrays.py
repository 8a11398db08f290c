"""NumPy files: plain arrays are read, pickles never loaded, wrong shapes refused in a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medvid.contract import DataError
from medvid.io import open_stack


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def save(path: Path, array: NDArray[Any]) -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, array)
    return path


@pytest.fixture(params=[".npy", ".npz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"v{request.param}"


@pytest.mark.parametrize("kind", [np.uint8, np.int16, ">i2", np.float32])
def test_an_array_is_read_as_it_is(path: Path, kind: Any) -> None:
    array = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(kind)
    stack = open_stack(save(path, array))
    assert (stack.num_frames, stack.height, stack.width, stack.channels) == (4, 5, 6, 1)
    assert stack.dtype == stack.read().dtype
    assert stack.dtype.isnative
    np.testing.assert_array_equal(stack.read([2, 0])[0], array[[2, 0]])
    assert stack.affine is None


def test_doubles_become_float32(path: Path) -> None:
    assert open_stack(save(path, np.zeros((2, 3, 4)))).read().dtype == np.float32


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_come_last_in_the_file_and_first_in_the_stack(path: Path, channels: int) -> None:
    array = np.random.default_rng(0).integers(0, 255, (4, 5, 6, channels)).astype(np.uint8)
    stack = open_stack(save(path, array))
    assert stack.channels == channels
    np.testing.assert_array_equal(stack.read(), array.transpose(3, 0, 1, 2))


@pytest.mark.parametrize("shape", [(5,), (5, 6), (4, 5, 6, 2), (2, 4, 5, 6, 3)])
def test_other_shapes_are_refused(path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"medvid reads \(T, H, W\)") as caught:
        open_stack(save(path, np.zeros(shape, np.uint8)))
    assert caught.value.code == "not_3d"
    assert str(shape) in caught.value.message


@pytest.mark.parametrize("kind", [bool, complex, "U3"])
def test_what_is_no_number_is_refused(path: Path, kind: Any) -> None:
    with pytest.raises(DataError, match="medvid reads numbers"):
        open_stack(save(path, np.zeros((2, 3, 4), kind)))


def test_python_objects_are_refused_and_never_loaded(path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    array = np.empty((2, 3, 4), dtype=object)
    array[...] = Bomb(trace)
    with pytest.raises(DataError, match="holds Python objects, which are not loaded"):
        open_stack(save(path, array))
    assert not trace.exists()


def test_a_file_cut_short_is_refused(path: Path) -> None:
    save(path, np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError) as caught:
        open_stack(path)
    assert caught.value.code == "truncated"
    assert caught.value.files == (str(path),)


def test_a_header_that_is_no_header_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", np.zeros((2, 3, 4), np.int16))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'shape': (2", b"'shape': {2"))
    with pytest.raises(DataError, match=r"v\.npy is no NumPy array"):
        open_stack(path)


def test_an_archive_is_read_by_name(tmp_path: Path) -> None:
    x = np.ones((2, 3, 4), np.uint8)
    np.savez(tmp_path / "v.npz", x=x, y=x * 2)
    np.testing.assert_array_equal(open_stack(tmp_path / "v.npz").read()[0], x)
    np.savez(tmp_path / "only.npz", scan=x * 3)
    np.testing.assert_array_equal(open_stack(tmp_path / "only.npz").read()[0], x * 3)


def test_an_archive_of_several_or_no_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 3, 4)), b=np.zeros((2, 3, 4)))
    with pytest.raises(DataError, match=r"several arrays \(a, b\)\. Name the one to read `x`"):
        open_stack(tmp_path / "two.npz")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"none\.npz holds no array at all"):
        open_stack(tmp_path / "none.npz")
