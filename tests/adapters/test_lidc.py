"""LIDC-IDRI's outlines become nodules where the images say, and ratings become labels."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medvid.contract import SourceError
from medvid.io import open_stack
from medvid.io.lidc_nodules import Mark, join_marks
from medvid.io.lidc_xml import Annotation, read_lidc_xml
from medvid.sources import load_adapter

lidc = load_adapter("lidc")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lidc.imitate(tmp_path)
    return tmp_path


def find_xml(root: Path, case: int) -> Path:
    return next(root.rglob(f"{60 + case:03d}.xml"))


def change_xml(root: Path, old: str, new: str, case: int = 0) -> Path:
    path = find_xml(root, case)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def change_images(folder: Path, **values: object) -> None:
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(dataset, name, value)
        dataset.save_as(path)


def mark(*points: Sequence[float], reader: int = 0) -> Mark:
    return Mark(Annotation(reader, {"malignancy": 3}, ()), np.array(points, dtype=float), 0.0)


def test_every_centre_lies_in_its_nodule(root: Path) -> None:
    records = list(lidc.records(root, label="agreement"))
    assert len(records) == 7
    for record in records:
        stack = open_stack(record.path, series=record.series)
        t, h, w = (round(place) for place in stack.locate(record.center))
        assert (stack.read([t - 1, t, t + 1])[0, :, h, w] == 100).all()


def test_a_scan_of_a_patient_on_the_belly_has_its_centres_too(root: Path) -> None:
    folder = find_xml(root, 0).parent
    change_images(folder, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0], PixelSpacing=[0.5, 0.9])
    records = [r for r in lidc.records(root) if Path(r.path) == folder]
    assert len(records) == 2
    for record in records:
        stack = open_stack(record.path)
        t, h, w = (round(place) for place in stack.locate(record.center))
        assert stack.read([t])[0, 0, h, w] == 100


def test_the_position_that_the_xml_states_moves_nothing(root: Path) -> None:
    before = [record.center for record in lidc.records(root)]
    zero = "<imageZposition>0<"
    change_xml(root, zero, "<imageZposition>1492.5<")
    assert [record.center for record in lidc.records(root)] == before


def test_malignancy_is_the_median_and_three_is_left_out(root: Path) -> None:
    told = [(r.label, r.extra["malignancy"], r.extra["readers"]) for r in lidc.records(root)]
    assert told == [
        ("benign", "1", "3"),
        ("malignant", "5", "4"),
        ("benign", "2", "3"),
        ("benign", "2", "4"),
        ("malignant", "4", "3"),
    ]


def test_the_mean_is_another_rating(root: Path) -> None:
    told = [r.extra["malignancy"] for r in lidc.records(root, rating="mean")]
    assert told == ["1.333", "4.75", "1.667", "2.25", "4"]


def test_agreement_counts_the_readers(root: Path) -> None:
    told = [(r.label, r.extra["readers"]) for r in lidc.records(root, label="agreement")]
    assert {label for label, count in told if count in "12"} == {"minority"}
    assert {label for label, count in told if count in "34"} == {"majority"}


def test_nodules_of_few_readers_can_be_left_out(root: Path) -> None:
    kept = [r.extra["readers"] for r in lidc.records(root, label="agreement", min_readers=4)]
    assert kept == ["4", "4"]


def test_small_nodules_and_what_is_none_are_no_cases(root: Path) -> None:
    reading = read_lidc_xml(find_xml(root, 0))
    assert reading is not None
    assert len(reading.annotations) == 7  # the four readers' four small marks are not among them


def test_the_diameter_is_the_greatest_within_a_slice(root: Path) -> None:
    # Outlines go round 3 x 3 pixels, so their corners are 4 pixels of 0.7 mm apart both ways.
    expected = f"{math.hypot(4 * 0.7, 4 * 0.7):.2f}"
    assert {r.extra["diameter_mm"] for r in lidc.records(root)} == {expected}


def test_holes_in_a_nodule_are_no_outline(root: Path) -> None:
    # Its first outline becomes a hole: two of three slices are left, and the centre moves by half
    # a slice.
    path = find_xml(root, 2)
    before = next(r for r in lidc.records(root) if Path(r.path) == path.parent).center
    parts = path.read_text(encoding="utf-8").split("<unblindedReadNodule><noduleID>1<")
    parts[1:] = [part.replace(">TRUE<", ">FALSE<", 1) for part in parts[1:]]
    path.write_text("<unblindedReadNodule><noduleID>1<".join(parts), encoding="utf-8")
    after = next(r for r in lidc.records(root) if Path(r.path) == path.parent).center
    assert before is not None
    assert after == pytest.approx((before[0], before[1], before[2] + 1.25))


def test_two_scans_of_a_patient_stay_one_patient(root: Path) -> None:
    records = list(lidc.records(root))
    assert len({r.path for r in records}) == 4
    assert len({r.patient_id for r in records}) == 3


def test_a_nodule_without_a_rating_has_no_label(root: Path) -> None:
    change_xml(root, "<malignancy>1</malignancy>", "", case=3)
    change_xml(root, "<malignancy>5</malignancy>", "<malignancy>0</malignancy>", case=3)
    last = list(lidc.records(root))[-1]
    assert last.label is None
    assert "malignancy" not in last.extra
    assert last.extra["readers"] == "2"


def test_readings_are_found_in_a_folder_of_their_own(root: Path) -> None:
    before = list(lidc.records(root))
    (root / "tcia-lidc-xml" / "157").mkdir(parents=True)
    for path in sorted((root / "LIDC-IDRI").rglob("06*.xml")):
        path.rename(root / "tcia-lidc-xml" / "157" / path.name)
    assert list(lidc.records(root)) == before


def test_a_copy_of_a_reading_is_no_second_one_and_another_reading_is(root: Path) -> None:
    before = list(lidc.records(root))
    path = find_xml(root, 0)
    (root / "copy.xml").write_bytes(path.read_bytes())
    assert list(lidc.records(root)) == before
    change_xml(root, "<malignancy>4<", "<malignancy>3<")
    with pytest.raises(SourceError, match=r"two different readings of one series\. Keep one"):
        list(lidc.records(root))


def test_series_without_images_and_without_reading_are_told_as_tokens(root: Path) -> None:
    for path in find_xml(root, 0).parent.glob("*.dcm"):
        path.unlink()
    find_xml(root, 1).unlink()
    (absent,), (unread,) = lidc.missing(root), lidc.unlisted(root)
    assert not any("6279" in token for token in (absent, unread))
    assert len({r.path for r in lidc.records(root)}) == 2


def test_a_series_that_lacks_outlined_slices_is_refused_or_left_out(root: Path) -> None:
    folder = find_xml(root, 0).parent
    (folder / "1-007.dcm").unlink()
    with pytest.raises(SourceError, match=r"lacks 1 of the slices on which 060\.xml outlines"):
        list(lidc.records(root))
    kept = list(lidc.records(root, incomplete="leave_out"))
    assert str(folder) not in {r.path for r in kept}
    assert len(lidc.missing(root, incomplete="leave_out")) == 1


def test_no_uid_stands_in_a_name_or_a_sentence(root: Path) -> None:
    records = list(lidc.records(root))
    told = [
        part for r in records for part in (r.case_id, r.patient_id, r.series, *r.extra.values())
    ]
    assert not any("6279" in part or "LIDC" in part for part in told)


@pytest.mark.parametrize("entity", ['"a"', 'SYSTEM "file:///etc/hostname"'])
def test_a_doctype_is_refused(root: Path, entity: str) -> None:
    bomb = f"<!DOCTYPE LidcReadMessage [<!ENTITY e {entity}>]>\n<LidcReadMessage"
    change_xml(root, "<LidcReadMessage", bomb)
    with pytest.raises(SourceError, match="begins with a DOCTYPE"):
        list(lidc.records(root))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("</LidcReadMessage>", "", "is no whole XML file"),
        ("SeriesInstanceUid", "Series", "names no SeriesInstanceUid in its ResponseHeader"),
        ("<xCoord>", "<xCoord>-", "has an xCoord `-"),
        ("imageSOP_UID", "image", "has an outline that names no image"),
        ("edgeMap", "edge", "has an outline without points"),
        (">TRUE<", ">FALSE<", "rates a nodule that has no outline"),
    ],
)
def test_a_reading_that_cannot_be_meant_is_refused(
    root: Path, old: str, new: str, sentence: str
) -> None:
    change_xml(root, old, new)
    with pytest.raises(SourceError, match=sentence):
        list(lidc.records(root))


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ("SliceThickness", "states no slice thickness"),
        ("ImagePositionPatient", "states no ImagePositionPatient"),
    ],
)
def test_images_that_do_not_say_where_they_lie_are_refused(
    root: Path, tag: str, sentence: str
) -> None:
    change_images(find_xml(root, 0).parent, **{tag: None})
    with pytest.raises(SourceError, match=sentence):
        list(lidc.records(root))


def test_an_image_of_another_series_in_the_folder_is_refused(root: Path) -> None:
    path = next(find_xml(root, 1).parent.glob("*.dcm"))
    path.rename(find_xml(root, 0).parent / "2-001.dcm")
    with pytest.raises(SourceError, match="is of another series than the files beside it"):
        list(lidc.records(root))


@pytest.mark.parametrize("name", ["0-001.dcm", "9-001.dcm"])
def test_a_scout_beside_the_slices_is_passed_over(root: Path, name: str) -> None:
    before = list(lidc.records(root))
    folder = find_xml(root, 0).parent
    dataset = pydicom.dcmread(folder / "1-001.dcm")
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.3", "1.2.3.4"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.save_as(folder / name)
    assert list(lidc.records(root)) == before
    assert lidc.missing(root) == lidc.unlisted(root) == []
    record = next(r for r in before if r.path == str(folder))
    assert open_stack(record.path, series=record.series).num_frames == 12


def test_pictures_and_what_macos_adds_are_no_slices(root: Path) -> None:
    before = list(lidc.records(root))
    folder = find_xml(root, 0).parent
    for name in ("0-key.png", "9-key.png", "._1-001.dcm", "._060.xml"):
        (folder / name).write_bytes(b"\0\5\x16\7" * 40)
    find_xml(root, 1).rename(find_xml(root, 1).with_suffix(".XML"))
    assert list(lidc.records(root)) == before


def test_a_file_that_may_be_a_slice_is_refused_with_what_to_do(root: Path) -> None:
    (find_xml(root, 0).parent / "1-013").write_bytes(b"no slice" * 40)
    with pytest.raises(SourceError, match="fetch it again, or take it out of the folder"):
        list(lidc.records(root))


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    for path in root.rglob("*.dcm"):
        path.unlink()
    with pytest.raises(SourceError, match="none of the 4 CT series that its XML files name"):
        list(lidc.records(root))
    for path in root.rglob("06*.xml"):
        path.unlink()
    with pytest.raises(SourceError, match="holds no reading of a CT"):
        list(lidc.records(root))


def test_marks_are_joined_by_way_of_a_third() -> None:
    chain = [mark((0, 0, z)) for z in (0, 2, 4)]
    assert [len(own) for own in join_marks(chain, 2.0)] == [3]
    assert [len(own) for own in join_marks(chain, 1.9)] == [1, 1, 1]


def test_more_than_four_marks_are_told_apart_by_a_smaller_distance() -> None:
    low = [mark((x, 0, 0), reader=x) for x in range(3)]
    high = [mark((x, 0, 2.4), reader=x) for x in range(3)]
    joined = join_marks([*high, *low], 2.5)
    assert [len(own) for own in joined] == [3, 3]
    assert joined[0][0].points[0, 2] == 0


def test_more_than_four_marks_of_one_place_stay_one_nodule() -> None:
    assert [len(own) for own in join_marks([mark((0, 0, 0))] * 5, 2.5)] == [5]


def test_no_marks_are_no_nodules() -> None:
    assert join_marks([], 2.5) == []
