import pickle
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from numpy.typing import NDArray

from medvid.contract import ConfigError, DataError
from medvid.io.containers import count_missing_bytes
from medvid.io.kinds import name_kind
from medvid.io.video import open_video
from medvid.io.write_video import write_video

UCF101 = Path(__file__).parents[2].parent / "shared/data/video_ucf101_mini/UCF-101"

HEIGHT, WIDTH, BITS = 48, 96, 6
FRAMES = 50


def draw_number(number: int) -> NDArray[np.uint8]:
    """A picture whose vertical bars are the bits of `number`, white for 1: any codec keeps them."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], np.uint8) * 255
    row = np.repeat(bits, WIDTH // BITS)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).copy()


def read_numbers(clip: NDArray[Any]) -> list[int]:
    """The numbers that the frames of a clip (C, T, H, W) show."""
    bars = clip.mean(axis=(0, 2)).reshape(clip.shape[1], BITS, WIDTH // BITS).mean(axis=-1)
    return [int(sum(1 << bit for bit in range(BITS) if row[bit] > 127)) for row in bars]


def encode(
    path: Path,
    codec: str,
    *,
    b_frames: int = 0,
    options: dict[str, str] | None = None,
    steps: list[int] | None = None,
    rotation: int = 0,
) -> Path:
    """Writes the numbered frames; `steps` are the ticks of 1/100 s between frames."""
    with av.open(str(path), "w") as container:
        stream = cast(
            "VideoStream",
            container.add_stream(codec, rate=100 if steps else 25, options=options or {}),
        )
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.gop_size = 12
        stream.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        times = np.cumsum([0, *(steps or [1] * (FRAMES - 1))])
        for number, time in enumerate(times.tolist()):
            frame = av.VideoFrame.from_ndarray(draw_number(number), format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


KINDS: dict[str, dict[str, Any]] = {
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4_b.mp4": {"codec": "mpeg4", "b_frames": 2},
    "h264_b.mp4": {"codec": "libx264", "b_frames": 3},
    "h264_b.mkv": {"codec": "libx264", "b_frames": 3},
    "h264_open.mkv": {
        "codec": "libx264",
        "b_frames": 3,
        "options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"},
    },
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def numbered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = KINDS[request.param]
    if kind["codec"] not in av.codecs_available:
        pytest.skip(f"this PyAV has no {kind['codec']}")
    return encode(tmp_path_factory.mktemp("video") / request.param, **kind)


def test_every_frame_is_found_in_its_place(numbered: Path) -> None:
    stack = open_video(numbered)
    assert stack.num_frames == FRAMES
    assert read_numbers(stack.read()) == list(range(FRAMES))
    assert stack.read().shape == (3, FRAMES, HEIGHT, WIDTH)
    np.testing.assert_allclose(np.diff(stack.positions), 0.04, atol=1e-6)
    assert stack.spacing == (0.04, 1.0, 1.0)


def test_frames_come_in_the_order_they_are_asked_for(numbered: Path) -> None:
    asked = np.random.default_rng(0).permutation(FRAMES).tolist()
    assert read_numbers(open_video(numbered).read(asked)) == asked


def test_frames_may_repeat(numbered: Path) -> None:
    assert read_numbers(open_video(numbered).read([7, 7, 31, 7])) == [7, 7, 31, 7]


def test_single_frames_are_the_same_as_in_the_whole(numbered: Path) -> None:
    stack = open_video(numbered)
    whole = stack.read()
    for frame in range(0, FRAMES, 3):
        np.testing.assert_array_equal(stack.read([frame])[:, 0], whole[:, frame])


def test_an_opened_video_survives_pickling(numbered: Path) -> None:
    stack = pickle.loads(pickle.dumps(open_video(numbered)))
    assert read_numbers(stack.read([3, 40])) == [3, 40]


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_a_video_cut_off_is_refused_by_name(numbered: Path, tmp_path: Path, share: float) -> None:
    cut = tmp_path / numbered.name
    whole = numbered.read_bytes()
    cut.write_bytes(whole[: int(len(whole) * share)])
    assert count_missing_bytes(cut) > 0
    with pytest.raises(DataError, match="cut") as refused:
        open_video(cut)
    assert refused.value.code == "video_truncated"
    assert str(cut) in refused.value.message


def test_the_refusal_says_how_many_frames_of_how_many_decode(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.avi", "mpeg4").read_bytes()
    cut = tmp_path / "half.avi"
    # Bars compress so well that the AVI's headers fill its first half.
    cut.write_bytes(whole[: int(len(whole) * 0.8)])
    with pytest.raises(DataError, match=rf"\d+ of {FRAMES} frames decode"):
        open_video(cut)


def test_damage_inside_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "damaged.mp4", "mpeg4")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(DataError) as refused:
        open_video(path)
    assert refused.value.code in ("video_corrupt", "video_truncated")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.avi"
    path.touch()
    with pytest.raises(DataError, match=r"empty \(0 bytes\)") as refused:
        open_video(path)
    assert refused.value.code == "not_a_video"


def test_text_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "Notizen für später.avi"
    path.write_text("no frames here " * 99, encoding="utf-8")
    with pytest.raises(DataError, match=r"Notizen für später\.avi") as refused:
        open_video(path)
    assert refused.value.code == "not_a_video"


def test_a_picture_is_no_video(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "picture.avi"
    Image.fromarray(draw_number(5)).save(path, format="PNG")
    with pytest.raises(DataError, match="still picture"):
        open_video(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_video(tmp_path / "gone.avi")


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    write_video(path, np.zeros((30, 16, 16, 3), np.uint8))
    stack = open_video(path)
    write_video(path, np.zeros((3, 16, 16, 3), np.uint8))
    with pytest.raises(DataError, match="Did the file change") as refused:
        stack.read([20])
    assert refused.value.code == "file_changed"


def test_a_variable_frame_rate_shows_in_the_positions(tmp_path: Path) -> None:
    steps = [4, 4, 10, 2, 4, 4, 4, 30, 4]
    stack = open_video(encode(tmp_path / "varies.mkv", "mpeg4", steps=steps))
    np.testing.assert_allclose(np.diff(stack.positions), np.array(steps) / 100, atol=1e-3)
    assert stack.spacing[0] == pytest.approx(0.04)
    assert read_numbers(stack.read([8, 2])) == [8, 2]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_flags_are_followed(tmp_path: Path, degrees: int) -> None:
    plain = open_video(encode(tmp_path / "plain.mp4", "mpeg4")).read([5])
    turned = open_video(encode(tmp_path / "turned.mp4", "mpeg4", rotation=degrees))
    with av.open(str(tmp_path / "turned.mp4")) as container:
        flag = next(container.decode(video=0)).rotation
    assert flag % 360 == degrees  # counter-clockwise, as FFmpeg counts
    expected = np.rot90(plain, degrees // 90, axes=(2, 3))
    assert (turned.height, turned.width) == expected.shape[2:]
    np.testing.assert_array_equal(turned.read([5]), expected)


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_metadata_in_another_encoding_do_not_matter(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        container.metadata["title"] = "Kamera XXXX"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert b"XXXX" in content
    path.write_bytes(content.replace(b"XXXX", b"\xfc\xdf\xff\xe4"))
    np.testing.assert_array_equal(np.moveaxis(open_video(path).read(), 0, -1), frames)


def test_grey_videos_give_three_equal_channels(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 17, 23), dtype=np.uint8)
    write_video(tmp_path / "grey.mkv", frames, lossless=True)
    clip = open_video(tmp_path / "grey.mkv").read()
    np.testing.assert_array_equal(clip, np.broadcast_to(frames, (3, *frames.shape)))


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_lossless_video_comes_back_bit_by_bit(tmp_path: Path, suffix: str) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (5, 21, 34, 3), dtype=np.uint8)
    path = tmp_path / f"clip{suffix}"
    write_video(path, frames, fps=10, lossless=True)
    stack = open_video(path)
    np.testing.assert_array_equal(np.moveaxis(stack.read(), 0, -1), frames)
    assert stack.spacing[0] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mp4"])
def test_written_videos_keep_their_numbers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    write_video(path, np.stack([draw_number(n) for n in range(20)]))
    assert read_numbers(open_video(path).read()) == list(range(20))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(av.VideoFrame, "from_ndarray", fail, raising=True)
    with pytest.raises(OSError, match="No space"):
        write_video(tmp_path / "clip.avi", np.zeros((3, 16, 16), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    frames = np.zeros((3, 16, 16), np.uint8)
    with pytest.raises(ConfigError, match=r"\.avi, \.mkv, \.mp4"):
        write_video(tmp_path / "clip.gif", frames)
    with pytest.raises(ConfigError, match="lossless"):
        write_video(tmp_path / "clip.mp4", frames, lossless=True)
    with pytest.raises(DataError, match="even sizes"):
        write_video(tmp_path / "clip.mp4", frames[:, :15])
    with pytest.raises(DataError, match="at least one frame"):
        write_video(tmp_path / "clip.mp4", frames[:0])


def test_videos_are_known_by_their_ending() -> None:
    assert name_kind("a.AVI") == "video"
    assert name_kind("a.dcm") == name_kind("avi") == ""


def test_real_clips_read_alike_in_any_order() -> None:
    clips = sorted(UCF101.rglob("*.avi"))
    if not clips:
        pytest.skip("UCF101 clips absent")
    for path in clips:
        stack = open_video(path)
        whole = stack.read()
        assert whole.shape == (3, stack.num_frames, 240, 320)
        assert np.all(np.diff(stack.positions) > 0)
        asked = np.random.default_rng(0).permutation(stack.num_frames)[:8].tolist()
        np.testing.assert_array_equal(stack.read(asked), whole[:, asked])


def test_a_real_clip_cut_in_half_is_refused(tmp_path: Path) -> None:
    clips = sorted(UCF101.rglob("*.avi"))
    if not clips:
        pytest.skip("UCF101 clips absent")
    cut = tmp_path / "half.avi"
    whole = clips[-1].read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="frames decode") as refused:
        open_video(cut)
    assert refused.value.code == "video_truncated"
