"""CQ500: one series of each study, and what two of three readers say."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from medvid.contract import ConfigError, Record, SourceError
from medvid.io import open_stack, study_series
from medvid.io.write import write_dicom_series
from medvid.sources import load_adapter

cq500 = load_adapter("cq500")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cq500")
    cq500.imitate(root)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """Returns the studies of two series and more, and the row of the absent one."""
    copy = tmp_path / "cq500"
    shutil.copytree(written, copy)
    for number in range(4, 13):
        shutil.rmtree(find_study(copy, number).parent)
    lines = (copy / "reads.csv").read_text(encoding="utf-8").splitlines()
    (copy / "reads.csv").write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    return copy


def name_folders(records: list[Record]) -> list[str]:
    return [Path(record.path).name for record in records]


def find_study(root: Path, number: int) -> Path:
    return root / f"CQ500CT{number} CQ500CT{number}" / "Unknown Study"


def change_cell(root: Path, study: int, column: str, text: str) -> None:
    path = root / "reads.csv"
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    lines[study + 1][lines[0].index(column)] = text
    path.write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")


def write_part(folder: Path, **options: object) -> None:
    given: dict[str, object] = {"spacing": (0.6, 4.0, 4.0), "patient_id": "CQ500-CT-0"}
    volume = np.arange(40, dtype=np.int16)[:, None, None] + np.zeros((40, 8, 8), np.int16)
    write_dicom_series(folder, volume, **(given | options))  # type: ignore[arg-type]


def test_two_of_three_readers_decide(root: Path) -> None:
    labels = {record.case_id: record.label for record in cq500.records(root)}
    assert labels == {
        "CQ500-CT-0": {"ich": 1, "iph": 1, "ivh": 1, "sdh": 0, "edh": 0, "sah": 0},
        "CQ500-CT-1": {"ich": 0, "iph": 0, "ivh": 0, "sdh": 0, "edh": 0, "sah": 0},
        "CQ500-CT-2": {"ich": 1, "iph": 0, "ivh": 0, "sdh": 1, "edh": 1, "sah": 1},
    }


def test_votes_tell_where_readers_disagree(root: Path) -> None:
    first, second, third = cq500.records(root)
    assert [record.extra["votes_ich"] for record in (first, second, third)] == ["3", "1", "2"]
    assert first.extra["votes_sah"] == "1"
    assert [record.extra["category"] for record in (first, second, third)] == ["B1", "B1", "B2"]


def test_findings_are_chosen(root: Path) -> None:
    records = list(cq500.records(root, findings=["fracture", "midline_shift"]))
    assert [dict(record.label) for record in records] == [
        {"fracture": 0, "midline_shift": 0},
        {"fracture": 0, "midline_shift": 0},
        {"fracture": 1, "midline_shift": 0},
    ]


@pytest.mark.parametrize("findings", [[], ["ich", "ich"]])
def test_findings_are_named_once_and_there_is_one(root: Path, findings: list[str]) -> None:
    for function in (cq500.records, cq500.missing):
        with pytest.raises(ConfigError, match="Name one finding or more, each once"):
            list(function(root, findings=findings))


@pytest.mark.parametrize(
    ("options", "folders"),
    [
        ({}, ["CT PLAIN THIN"] * 3),
        ({"series": "thick"}, ["CT Plain"] * 3),
        ({"series": "most_slices"}, ["CT PLAIN THIN"] * 3),
        ({"contrast": True}, ["CT POST CONTRAST", "CT POST CONTRAST", "CT PLAIN THIN"]),
        ({"bone": True}, ["CT Thin Bone", "CT PLAIN THIN", "CT PLAIN THIN"]),
        ({"names": "ct plain"}, ["CT Plain"] * 3),
    ],
)
def test_a_series_is_chosen(root: Path, options: dict[str, object], folders: list[str]) -> None:
    records = list(cq500.records(root, **options))
    assert name_folders(records) == folders
    for number, record in enumerate(records):
        stack = open_stack(record.path, series=record.series)
        assert stack.read([0])[0, 0, -1, -1] == 30 + number
        assert stack.spacing[0] == float(record.extra["thickness_mm"])


def test_names_of_the_published_series_are_understood(root: Path) -> None:
    plain = (
        *("CT PRE CONTRAST 5MM STD", "CT Thin Stnd", "CT 0.625mm-2", "CT I To S", "CT Plain"),
        *("CT PRECONTRAST", "CT without contrast", "CT_NON_CONTRAST", "CT PLAIN C-"),
    )
    contrast = (
        *("CT 5mm POST CONTRAST", "CT 4cc sec 150cc D3D on-2", "CT ORAL IV", "CT CECT THIN"),
        *("CT Plain and Contrast", "CT precontrast-postcontrast", "CT BRAIN PLAIN C+"),
        *("CT_PLAIN_POST", "CT without and with contrast", "CT PRE AND POST CONTRAST"),
    )
    unsure = ("CT C THIN", "CT C-2")
    bone = ("CT PRE CONTRAST BONE", "CT THIN BONE PNS", "CT HRCT", "CT 0.625 MM HI RES")
    study = find_study(root, 0)
    for folder in study.iterdir():
        if folder.name != "CT Plain":
            shutil.rmtree(folder)
    now = study / "CT Plain"
    for name in (*contrast, *unsure, *bone, *plain):
        now = now.rename(study / name)
        first = next(iter(cq500.records(root, on_bad="quarantine")))
        assert (first.case_id == "CQ500-CT-0") == (name in plain), name


def test_a_series_that_does_not_cover_the_brain_is_not_chosen(root: Path) -> None:
    write_part(find_study(root, 0) / "CT 0.625mm")
    assert name_folders(list(cq500.records(root)))[0] == "CT PLAIN THIN"


def test_a_reformat_is_not_chosen(root: Path) -> None:
    write_part(find_study(root, 0) / "CT 3D", plane="coronal", spacing=(4.0, 1.0, 1.0))
    assert name_folders(list(cq500.records(root, series="most_slices")))[0] == "CT PLAIN THIN"


def test_a_series_that_lacks_slices_is_not_chosen(root: Path) -> None:
    (find_study(root, 0) / "CT PLAIN THIN" / "CT000007.dcm").unlink()
    assert name_folders(list(cq500.records(root))) == ["CT Plain", "CT PLAIN THIN", "CT PLAIN THIN"]


def test_a_study_without_a_series_stops_or_is_left_out_and_reported(root: Path) -> None:
    for folder in ("CT Plain", "CT PLAIN THIN"):
        (find_study(root, 1) / folder / "CT000007.dcm").unlink()
    with pytest.raises(
        SourceError,
        match=r"1 of 3 studies have no series that is asked for\. CQ500CT1 CQ500CT1: .*"
        r"refused: missing_slices.* on_bad=quarantine",
    ):
        list(cq500.records(root))
    assert [r.case_id for r in cq500.records(root, on_bad="quarantine")] == [
        "CQ500-CT-0",
        "CQ500-CT-2",
    ]
    absent, left = cq500.missing(root, on_bad="quarantine")
    assert absent == "CQ500-CT-3"
    assert left.startswith("CQ500-CT-1: ")
    assert "missing_slices" in left


def test_names_that_fit_nothing_are_a_sentence(root: Path) -> None:
    with pytest.raises(SourceError, match=r"none of the folders CT Plain, .* is asked for"):
        list(cq500.records(root, names="*brain*", on_bad="quarantine"))


def test_absent_studies_are_reported(root: Path) -> None:
    assert cq500.missing(root) == ["CQ500-CT-3"]


def test_studies_are_found_below_the_folders_of_their_archives(root: Path) -> None:
    for number in range(3):
        archive = root / "qct01" / f"CQ500-CT-{number}"
        archive.mkdir(parents=True)
        find_study(root, number).parent.rename(archive / f"CQ500CT{number} CQ500CT{number}")
    assert len(list(cq500.records(root))) == 3


def test_a_study_in_two_places_is_refused(root: Path) -> None:
    shutil.copytree(find_study(root, 0), root / "copy" / "CQ500CT0 CQ500CT0" / "Unknown Study")
    with pytest.raises(SourceError, match="holds the study `CQ500CT0 CQ500CT0` twice"):
        list(cq500.records(root))


@pytest.mark.parametrize(
    ("column", "text", "sentence"),
    [
        ("R2:SDH", "2", "line 3: `2` in the column `R2:SDH` is not 0 or 1"),
        ("R3:ICH", "", "line 3: `` in the column `R3:ICH` is not 0 or 1"),
        ("name", "Patient 7", "line 3: `Patient 7` names no study, as CQ500-CT-0 does"),
        ("name", "CQ500-CT-0", "line 3: CQ500-CT-0 stands in line 2 already. Keep one of them"),
        ("name", "", "line 3: `` names no study"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(
    root: Path, column: str, text: str, sentence: str
) -> None:
    change_cell(root, 1, column, text)
    with pytest.raises(SourceError, match=sentence):
        list(cq500.records(root))


def test_what_is_absent_is_a_sentence(root: Path) -> None:
    for number in range(3):
        shutil.rmtree(find_study(root, number).parent)
    with pytest.raises(SourceError, match=r"holds none of the 4 studies that reads\.csv names"):
        list(cq500.records(root))
    text = (root / "reads.csv").read_text(encoding="utf-8")
    (root / "reads.csv").write_text(text.replace("R2:SAH", "R2:XYZ"), encoding="utf-8")
    with pytest.raises(SourceError, match=r"has no column `R2:SAH`\. It is part of the published"):
        list(cq500.records(root))
    (root / "reads.csv").unlink()
    with pytest.raises(SourceError, match=r"There is no file .*reads\.csv"):
        list(cq500.records(root))


def test_several_processes_choose_as_one_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(cq500.records(root, workers=1))
    monkeypatch.setattr(study_series, "PARALLEL_FROM", 1)
    assert list(cq500.records(root, workers=2)) == alone
