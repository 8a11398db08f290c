"""Enhanced multi-frame DICOM: what lies in functional groups is read, one stack for each phase."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian

from medvid.contract import DataError, GeometryError
from medvid.io import open_stack
from medvid.io.scan import scan_tree

RLE = "1.2.840.10008.1.2.5"
STEP_MM = 4.0


@pytest.fixture
def volume() -> NDArray[np.int16]:
    slices = np.arange(6, dtype=np.int16) * 50 + 10
    return np.broadcast_to(slices[:, None, None], (6, 12, 10)).copy()


def item(**values: Any) -> Items:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return Items([dataset])


def write_enhanced(
    path: Path,
    frames: Sequence[tuple[float, NDArray[np.int16], float, float]],
    *,
    shared: bool,
    syntax: str = ExplicitVRLittleEndian,
) -> None:
    """Writes frames of (z in mm, stored pixels, slope, echo time) in the order given."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    meta.MediaStorageSOPInstanceUID = UID("2.25.77")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedMRImageStorage, "2.25.77"
    dataset.SeriesInstanceUID, dataset.PatientID = "2.25.78", "SECRET-9"
    dataset.Modality, dataset.ImageType = "MR", ["ORIGINAL", "PRIMARY", "T1", "NONE"]
    dataset.Rows, dataset.Columns = frames[0][1].shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.NumberOfFrames = len(frames)
    same = Dataset()
    groups = []
    for z, _, slope, echo in frames:
        own = Dataset()
        own.PlanePositionSequence = item(ImagePositionPatient=[-3.0, 4.0, z])
        own.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=1.0)
        own.MREchoSequence = item(EffectiveEchoTime=echo)
        where = same if shared else own
        where.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        where.PixelMeasuresSequence = item(PixelSpacing=[0.5, 0.75], SliceThickness=2.0)
        groups.append(own)
    if shared:
        dataset.SharedFunctionalGroupsSequence = Items([same])
    dataset.PerFrameFunctionalGroupsSequence = Items(groups)
    dataset.PixelData = np.stack([pixels for _, pixels, _, _ in frames]).astype("<u2").tobytes()
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def shuffled(volume: NDArray[np.int16], seed: int = 0) -> list[tuple[float, Any, float, float]]:
    order = np.random.default_rng(seed).permutation(len(volume))
    return [(STEP_MM * int(t), volume[t], 1.0, 20.0) for t in order]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLE])
def test_frames_are_ordered_by_their_positions(
    tmp_path: Path, volume: NDArray[np.int16], shared: bool, syntax: str
) -> None:
    path = tmp_path / "study" / "IM0"
    write_enhanced(path, shuffled(volume), shared=shared, syntax=syntax)
    (row,) = scan_tree(tmp_path)
    assert (row.verdict, row.frames, row.path, row.thickness) == ("ok", 6, str(path), 2.0)
    assert "SECRET" not in str(row)
    for place in (path, path.parent):
        stack = open_stack(place)
        np.testing.assert_array_equal(stack.read()[0], volume + 1)
        np.testing.assert_array_equal(stack.read([4, 1])[0], volume[[4, 1]] + 1)
        assert stack.spacing == pytest.approx((4.0, 0.5, 0.75))
        assert stack.affine is not None
        assert stack.affine[:3, 3] == pytest.approx([-3.0, 4.0, 0.0])
    assert len(set(open_stack(path).frame_keys)) == 6


def test_every_frame_has_its_own_rescale(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    frames = [(z, pixels, 1 + 0.5 * (z > 8), echo) for z, pixels, _, echo in shuffled(volume)]
    write_enhanced(tmp_path / "IM0", frames, shared=True)
    expected = volume * np.array([1, 1, 1, 1.5, 1.5, 1.5])[:, None, None] + 1
    np.testing.assert_allclose(open_stack(tmp_path).read()[0], expected)


def test_echoes_in_one_file_are_stacks_of_their_own(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    frames = [
        (z, pixels + add, slope, echo)
        for z, pixels, slope, _ in shuffled(volume)
        for add, echo in ((7, 80.0), (0, 20.0))
    ]
    path = tmp_path / "IM0"
    write_enhanced(path, frames, shared=True)
    rows = {row.series.partition(":")[2]: row for row in scan_tree(tmp_path)}
    assert set(rows) == {"EchoTime=20", "EchoTime=80"}
    for echo, add in ((20, 1), (80, 8)):
        row = rows[f"EchoTime={echo}"]
        stack = open_stack(row.path, series=row.series)
        np.testing.assert_array_equal(stack.read()[0], volume + add)
    with pytest.raises(GeometryError, match="several series"):
        open_stack(path)


def state_content(path: Path, contents: Sequence[dict[str, Any]]) -> None:
    dataset = dcmread(path)
    for own, values in zip(dataset.PerFrameFunctionalGroupsSequence, contents, strict=True):
        own.FrameContentSequence = item(**values)
    dataset.save_as(path)


@pytest.mark.parametrize("offset", [0.0, STEP_MM / 2])
def test_stacks_of_one_file_are_stacks_of_their_own(
    tmp_path: Path, volume: NDArray[np.int16], offset: float
) -> None:
    frames = [
        (STEP_MM * t + offset * s, volume[t] + s, 1.0, 20.0) for s in (0, 1) for t in range(6)
    ]
    write_enhanced(tmp_path / "IM0", frames, shared=True)
    state_content(tmp_path / "IM0", [{"StackID": f"{1 + s}"} for s in (0, 1) for _ in range(6)])
    rows = {row.series.partition(":")[2]: row for row in scan_tree(tmp_path)}
    assert set(rows) == {"StackID=1", "StackID=2"}
    for add, name in enumerate(sorted(rows)):
        stack = open_stack(rows[name].path, series=rows[name].series)
        np.testing.assert_array_equal(stack.read()[0], volume + 1 + add)


def test_midnight_does_not_mix_the_phases_of_one_file(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    frames = [(STEP_MM * t, volume[t] + s, 1.0, 20.0) for s in (0, 1) for t in range(6)]
    write_enhanced(tmp_path / "IM0", frames, shared=True)
    times = [f"20191231{235957 + t}" if t < 3 else f"202001010000{t:02d}.5" for t in range(6)]
    times += [f"202001010001{t:02d}" for t in range(6)]
    state_content(tmp_path / "IM0", [{"FrameAcquisitionDateTime": time} for time in times])
    rows = scan_tree(tmp_path)
    assert [row.series.partition(":")[2] for row in rows] == [
        "AcquisitionTime#1",
        "AcquisitionTime#2",
    ]
    assert not any(day in str(rows) for day in ("2019", "2020"))
    for add, row in enumerate(rows):
        stack = open_stack(row.path, series=row.series)
        np.testing.assert_array_equal(stack.read()[0], volume + 1 + add)


def test_a_frame_that_is_missing_is_named_by_its_neighbours(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    frames = [frame for frame in shuffled(volume) if frame[0] != 8.0]
    write_enhanced(tmp_path / "IM0", frames, shared=True)
    (row,) = scan_tree(tmp_path)
    assert (row.code, row.fix) == ("missing_slices", "on_gap=resample")
    assert "IM0 (frame " in row.reason
    filled = open_stack(row.path, on_gap="resample").read()[0]
    np.testing.assert_array_equal(filled, volume + 1)


def test_two_different_frames_at_one_place_are_refused(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    frames = shuffled(volume)
    z, pixels, slope, echo = frames[2]
    for syntax in (ExplicitVRLittleEndian, RLE):
        write_enhanced(
            tmp_path / "IM0", [*frames, (z, pixels + 5, slope, echo)], shared=True, syntax=syntax
        )
        (row,) = scan_tree(tmp_path)
        assert (row.verdict, row.code) == ("refused", "duplicate_slice")
        write_enhanced(
            tmp_path / "IM0", [*frames, (z, pixels, slope, echo)], shared=True, syntax=syntax
        )
        (row,) = scan_tree(tmp_path)
        assert (row.verdict, row.frames) == ("ok", 6)


def test_a_cut_off_multi_frame_file_is_refused(tmp_path: Path, volume: NDArray[np.int16]) -> None:
    path = tmp_path / "IM0"
    write_enhanced(path, shuffled(volume), shared=True)
    path.write_bytes(path.read_bytes()[:-100])
    (row,) = scan_tree(tmp_path)
    assert row.code == "truncated"
    assert "IM0 (frame 6) is cut off" in row.reason


def test_a_cut_off_packed_multi_frame_file_is_refused_whole(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    path = tmp_path / "IM0"
    write_enhanced(path, shuffled(volume), shared=True, syntax=RLE)
    path.write_bytes(path.read_bytes()[:-20])
    (row,) = scan_tree(tmp_path)
    assert (row.verdict, row.code, row.fix) == ("refused", "truncated", "")


def test_frames_with_one_column_too_few_are_refused(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    path = tmp_path / "IM0"
    write_enhanced(path, shuffled(volume), shared=True)
    dataset = dcmread(path)
    dataset.Columns -= 1
    dataset.save_as(path)
    (row,) = scan_tree(tmp_path)  # was a stack of sheared frames
    assert (row.verdict, row.code, row.fix) == ("refused", "pixels_surplus", "")


def test_groups_that_do_not_fit_the_frames_are_refused(
    tmp_path: Path, volume: NDArray[np.int16]
) -> None:
    path = tmp_path / "IM0"
    write_enhanced(path, shuffled(volume), shared=True)
    dataset = dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:-1]
    dataset.save_as(path)
    (row,) = scan_tree(tmp_path)
    assert (row.verdict, row.code) == ("refused", "multi_frame")
    assert "does not say where each of them lies" in row.reason
    with pytest.raises((DataError, GeometryError), match="6 frames in one file"):
        open_stack(path)
