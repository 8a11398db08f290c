"""BIDS: what names and participants.tsv say, and nothing that they do not."""

import os
from pathlib import Path

import numpy as np
import pytest

from medvid.contract import ConfigError, SourceError
from medvid.io import open_stack
from medvid.io.write import write_nifti
from medvid.sources import load_adapter

bids = load_adapter("bids")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    bids.imitate(tmp_path)
    return tmp_path


def change_table(root: Path, old: str, new: str) -> None:
    path = root / "participants.tsv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def add_image(root: Path, name: str, folder: str = "sub-02/ses-01/anat") -> Path:
    path = root / folder / name
    write_nifti(path, np.ones((4, 8, 8), dtype=np.int16), spacing=(5.0, 1.0, 1.0))
    return path


def test_sessions_of_a_subject_are_cases_of_one_patient(root: Path) -> None:
    records = list(bids.records(root))
    assert [r.case_id for r in records[:3]] == [
        "sub-01_ses-01_T1w",
        "sub-01_ses-02_T1w",
        "sub-02_ses-01_T1w",
    ]
    assert len(records) == 7
    assert {r.patient_id for r in records[:2]} == {"sub-01"}
    assert [r.extra["session"] for r in records[:2]] == ["ses-01", "ses-02"]


def test_a_missing_group_is_no_label_and_no_class(root: Path) -> None:
    labels = {r.patient_id: r.label for r in bids.records(root)}
    assert labels["sub-06"] is None
    assert bids.classes(root) == ("control", "patient")


def test_age_and_sex_are_kept_and_what_is_missing_is_not(root: Path) -> None:
    change_table(root, "62\tM", "n/a\tM")
    extras = {r.patient_id: dict(r.extra) for r in bids.records(root)}
    assert extras["sub-03"] == {"age": "63", "sex": "F", "session": "ses-01"}
    assert extras["sub-02"] == {"sex": "M", "session": "ses-01"}


def test_another_column_can_be_the_label(root: Path) -> None:
    records = list(bids.records(root, label="sex"))
    assert {r.label for r in records} == {"F", "M"}
    assert records[-1].extra["age"] == "66"
    assert "group" not in records[-1].extra


def test_derivatives_and_sourcedata_are_not_read(root: Path) -> None:
    add_image(root, "sub-02_T1w.nii.gz", "sourcedata/sub-02/anat")
    assert len(list(bids.records(root))) == 7


def test_a_suffix_a_session_and_an_entity_choose_images(root: Path) -> None:
    assert {Path(r.path).name[-12:] for r in bids.records(root, suffix="FLAIR")} == {"FLAIR.nii.gz"}
    for session in ("ses-02", "02"):
        assert [r.case_id for r in bids.records(root, session=session)] == ["sub-01_ses-02_T1w"]
    add_image(root, "sub-02_ses-01_acq-fast_run-01_T1w.nii")
    for only in ({"acq": "fast"}, {"run": 1}, {"run": "01"}):
        assert [r.case_id for r in bids.records(root, only=only)] == [
            "sub-02_ses-01_acq-fast_run-01_T1w"
        ]


def test_channels_of_a_session_make_one_case(root: Path) -> None:
    records = list(bids.records(root, channels=["FLAIR", "T1w"]))
    assert len(records) == 7
    for record in records:
        assert [channel.name for channel in record.channels] == ["FLAIR", "T1w"]
        assert record.path == record.channels[0].path
        assert all(record.case_id in channel.path for channel in record.channels)
        assert all(open_stack(channel.path).num_frames == 6 for channel in record.channels)


def test_a_session_that_lacks_a_channel_is_left_out_and_told(root: Path) -> None:
    (root / "sub-02/ses-01/anat/sub-02_ses-01_FLAIR.nii.gz").unlink()
    assert len(list(bids.records(root, channels=["T1w", "FLAIR"]))) == 6
    assert bids.missing(root, channels=["T1w", "FLAIR"]) == ["sub-02_ses-01_FLAIR"]
    assert bids.missing(root) == []


def test_several_images_for_one_channel_are_refused(root: Path) -> None:
    add_image(root, "sub-02_ses-01_run-02_T1w.nii.gz")
    assert len(list(bids.records(root))) == 8
    with pytest.raises(
        SourceError, match=r"are both T1w of one session\. Say which is the channel"
    ):
        list(bids.records(root, channels=["T1w", "FLAIR"]))


@pytest.mark.parametrize("channels", [[], ["T1w", "T1w"]])
def test_channels_are_named_once_and_there_is_one(root: Path, channels: list[str]) -> None:
    for function in (bids.records, bids.missing, bids.unlisted):
        with pytest.raises(ConfigError, match="Name one suffix or more, each once"):
            list(function(root, channels=channels))


def test_images_right_below_the_subject_need_no_session(root: Path) -> None:
    add_image(root, "sub-07_T1w.nii", "sub-07/anat")
    change_table(root, "sub-06\t", "sub-07\t70\tF\tcontrol\nsub-06\t")
    record = next(r for r in bids.records(root) if r.patient_id == "sub-07")
    assert record.case_id == "sub-07_T1w"
    assert "session" not in record.extra


def test_the_prefix_may_be_left_out_of_the_table(root: Path) -> None:
    before = list(bids.records(root))
    change_table(root, "sub-", "")
    assert list(bids.records(root)) == before


def test_a_session_has_the_label_of_its_own_row(root: Path) -> None:
    rows = "participant_id\tsession_id\tgroup\nsub-01\tses-01\twell\nsub-01\tses-02\till\n"
    (root / "participants.tsv").write_text(rows, encoding="utf-8")
    assert [r.label for r in bids.records(root)] == ["well", "ill"]
    change_table(root, "sub-01\tses-02\till\n", "")
    with pytest.raises(SourceError, match="has no row for sub-01_ses-02"):
        list(bids.records(root))


def test_participants_without_images_and_images_without_a_row_are_told(root: Path) -> None:
    change_table(root, "sub-03", "sub-30")
    assert bids.missing(root) == ["sub-30"]
    assert bids.unlisted(root) == ["sub-03"]
    assert "sub-03" not in {r.patient_id for r in bids.records(root)}


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_to_contents_that_were_not_fetched_is_missing(root: Path) -> None:
    path = root / "sub-02/ses-01/anat/sub-02_ses-01_T1w.nii.gz"
    path.unlink()
    path.symlink_to("../../../.git/annex/objects/nothing.nii.gz")
    assert bids.missing(root) == [path.name]
    assert "sub-02" not in {r.patient_id for r in bids.records(root)}


def test_a_column_with_a_meaning_in_manifests_gets_out_of_the_way(root: Path) -> None:
    for name in ("split", "Label_x", "series_x"):
        rows = f"participant_id\t{name}\tgroup\nsub-01\t61\twell\n"
        (root / "participants.tsv").write_text(rows, encoding="utf-8")
        assert next(bids.records(root)).extra[f"bids_{name}"] == "61"


@pytest.mark.parametrize("text", ["N/A", "NaN", "NA"])
def test_another_spelling_of_missing_is_no_class(root: Path, text: str) -> None:
    change_table(root, "n/a", text)
    with pytest.raises(SourceError, match=f"`{text}` in the column `group` would be a class"):
        list(bids.records(root))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("participant_id", "subject", "has no column `participant_id`"),
        ("\tgroup", "\tdiagnosis", r"has no column `group`.* choose a column with label=NAME"),
        (
            "sub-02\t",
            "02\t63\tM\tpatient\nsub-02\t",
            r"line 4: sub-02 has a row already, in line 3",
        ),
        ("sub-02\t", "\t", "line 3: there is no participant_id"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(
    root: Path, old: str, new: str, sentence: str
) -> None:
    change_table(root, old, new)
    with pytest.raises(SourceError, match=sentence):
        list(bids.records(root))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("sub-03_ses-01_T1w.nii.gz", "sub-02/ses-01/anat"),
        ("sub-02_ses-02_T1w.nii.gz", "sub-02/ses-01/anat"),
        ("sub-02_T1w.nii.gz", "sub-02/ses-01/anat"),
        ("sub-02_ses-01_T1w.nii.gz", "sub-02/anat"),
    ],
)
def test_a_name_that_contradicts_its_folder_is_refused(root: Path, name: str, folder: str) -> None:
    add_image(root, name, folder)
    with pytest.raises(SourceError, match="says another subject or session in its name than"):
        list(bids.records(root))


def test_endings_may_be_in_capitals(root: Path) -> None:
    path = root / "sub-02/ses-01/anat/sub-02_ses-01_T1w.nii.gz"
    path.rename(path.with_name("sub-02_ses-01_T1w.NII.GZ"))
    record = next(r for r in bids.records(root) if r.patient_id == "sub-02")
    assert record.case_id == "sub-02_ses-01_T1w"
    assert open_stack(record.path).num_frames == 6
    assert bids.missing(root) == []


def test_what_macos_adds_to_archives_is_no_image(root: Path) -> None:
    before = list(bids.records(root))
    (root / "sub-02/ses-01/anat/._sub-02_ses-01_T1w.nii.gz").write_bytes(b"\0\5\x16\7" * 40)
    assert list(bids.records(root)) == before
    assert list(bids.records(root, channels=["T1w", "FLAIR"]))


def test_one_image_in_two_files_is_refused(root: Path) -> None:
    add_image(root, "sub-02_ses-01_T1w.nii")
    with pytest.raises(SourceError, match=r"lies there as .* too\. Keep one"):
        list(bids.records(root))


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match="holds no image T2w, session=ses-01, acq-x of a partic"):
        list(bids.records(root, suffix="T2w", session="ses-01", only={"acq": "x"}))
    (root / "participants.tsv").unlink()
    with pytest.raises(SourceError, match=r"participants\.tsv is not there"):
        list(bids.records(root))
