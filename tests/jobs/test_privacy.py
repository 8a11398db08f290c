"""Nothing that identifies a patient leaves the files it stands in.

Every identifying tag of made-up DICOM holds a word that occurs nowhere else. All that medvid then
writes and says, also where it fails, is searched for these words: bytes as they are, as UTF-16, and
what is packed into archives, checkpoints and pages.
"""

import base64
import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medvid.io.identity import patient_token
from medvid.io.write import write_dicom_series
from tests.jobs.conftest import Cli

SECRETS = {
    "PatientName": "ZORNWALD^HEDELINDE",
    "PatientID": "MRN-4471983-Q",
    "PatientBirthDate": "19470313",
    "PatientAddress": "Quittenweg 77",
    "OtherPatientIDs": "VSNR-60130347",
    "IssuerOfPatientID": "KASSE-QX9",
    "PatientTelephoneNumbers": "0049-555-7741",
    "AccessionNumber": "ACC7719204",
    "StudyID": "STDY99123",
    "InstitutionName": "Klinikum Querfurt-Sued",
    "InstitutionalDepartmentName": "Roentgen Haus Q",
    "ReferringPhysicianName": "QUACKSILVER^OTTO",
    "PerformingPhysicianName": "WEXELBLATT^IDA",
    "OperatorsName": "OPERATRIX^JO",
    "StudyDescription": "Kopf von Frau Zornwald",
    "SeriesDescription": "Zornwald axial 5mm",
    "ImageComments": "vergleiche Zornwald 2019",
    "RequestedProcedureDescription": "CCT Zornwald",
    "StationName": "QCTSTATION4",
    "DeviceSerialNumber": "SN-QQ-55512",
    "StudyDate": "20190428",
    "SeriesTime": "134455",
}
ROOT_UID = "1.2.826.0.1.3680043.10.771.9931"
"""Begins every UID that is planted; medvid's own writer uses another root."""

WORDS = (*SECRETS.values(), "ZORNWALD", "HEDELINDE", "Zornwald", "QUACKSILVER", ROOT_UID)
SLICES = 5
CONFIG = """\
name: private
data:
  manifest: labelled.csv
  sampler: {name: centered, frames: 3}
  batch_size: 8
  workers: 0
  on_bad: quarantine
  splits: {folds: 2, validation: 0}
transforms:
  both: [{name: window, windows: soft_tissue}]
model: {name: slicewise, width: 4, depths: [1]}
train: {epochs: 1, select: last, optimizer: {name: adamw, lr: 1e-2}}
evaluate: {resamples: 50}
"""
STUDY = "context={windows: [1, 3], seeds: 2, positions: centre, controls: [repeat]}"


def plant(folder: Path, case: int) -> None:
    """Fills the tags of every file of a series; each patient has the words and a number."""
    for number, file in enumerate(sorted(folder.iterdir())):
        image = pydicom.dcmread(file)
        for keyword, word in SECRETS.items():
            own = word if word.isdigit() else f"{word}{case}"
            setattr(image, keyword, own)
        image.StudyInstanceUID = f"{ROOT_UID}.1.{case}"
        image.SeriesInstanceUID = f"{ROOT_UID}.2.{case}"
        image.FrameOfReferenceUID = f"{ROOT_UID}.3.{case}"
        image.SOPInstanceUID = f"{ROOT_UID}.4.{case}.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        referenced = Dataset()
        referenced.ReferencedSOPInstanceUID = f"{ROOT_UID}.5.{case}"
        image.ReferencedImageSequence = [referenced]
        block = image.private_block(0x0009, "ZORNWALD PRIVATE", create=True)
        block.add_new(1, "LO", f"Zornwald{case}")
        image.save_as(file)


def make_series(folder: Path, case: int) -> Path:
    rng = np.random.default_rng(case)
    volume = rng.normal(80 if case % 2 else 20, 10, (SLICES, 16, 16)).astype(np.int16)
    write_dicom_series(folder, volume, spacing=(5.0, 1.0, 1.0), patient_id=str(case))
    plant(folder, case)
    return folder


def spoil(folder: Path) -> None:
    """Adds series and files that fail, each at another place of the reader."""
    files = sorted(make_series(folder / "gap", 90).iterdir())
    files[2].unlink()
    files = sorted(make_series(folder / "cut", 91).iterdir())
    files[1].write_bytes(files[1].read_bytes()[:-200])
    files = sorted(make_series(folder / "header", 92).iterdir())
    files[1].write_bytes(files[1].read_bytes()[:600])
    for number, (name, keyword, text) in enumerate(
        (
            ("position", "ImagePositionPatient", "Zornwald\\ZORNWALD\\3"),
            ("syntax", "TransferSyntaxUID", f"{ROOT_UID}.6"),
            ("photometric", "PhotometricInterpretation", "ZORNWALD"),
            ("slope", "RescaleSlope", "Zornwald"),
        )
    ):
        image_files = sorted(make_series(folder / name, 93 + number).iterdir())
        replace_text(image_files, keyword, text)
    packed = sorted(make_series(folder / "packed", 97).iterdir())
    for file in packed:
        image = pydicom.dcmread(file)
        image.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
        image.PixelData = pydicom.encaps.encapsulate([b"ZORNWALD" * 8 + b"\xff\xd9"])
        image["PixelData"].VR = "OB"
        image["PixelData"].is_undefined_length = True
        image.save_as(file)
    (folder / "letter.dcm").write_text("Brief an Frau Zornwald", encoding="utf-8")
    (folder / "volume.nii").write_bytes(b"Zornwald" * 50)


def replace_text(files: list[Path], keyword: str, text: str) -> None:
    for file in files:
        with pydicom.config.disable_value_validation():
            image = pydicom.dcmread(file)
            if keyword == "TransferSyntaxUID":
                # As long as the true one, so that the file is still laid out as it says.
                own = str(image.file_meta.TransferSyntaxUID).encode()
                raw = file.read_bytes()
                file.write_bytes(raw.replace(own, text.encode()[-len(own) :], 1))
                continue
            element = image[keyword]
            value = text.encode() + b" " * (len(text) % 2)
            raw_tag = element.tag
            del image[raw_tag]
            image[raw_tag] = pydicom.dataelem.RawDataElement(
                raw_tag, element.VR, len(value), value, 0, False, True
            )
            image.save_as(file)


def unpack(content: bytes) -> Iterator[bytes]:
    """Yields bytes and everything packed into them."""
    yield content
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from unpack(archive.read(name))
    if content[:2] == b"\x1f\x8b":
        yield from unpack(gzip.decompress(content))
    for found in re.finditer(rb"base64,([A-Za-z0-9+/=]+)", content):
        yield from unpack(base64.b64decode(found[1]))
    if content[:4] == b"\x89PNG":
        for chunk in re.finditer(rb"(?:zTXt|iTXt)[^\0]*\0.", content):
            yield zlib.decompressobj().decompress(content[chunk.end() :])


def list_forms(words: tuple[str, ...]) -> list[bytes]:
    """Returns what must not be found: the words, in UTF-16, and plain hashes of the numbers."""
    forms = [form for word in words for form in (word.encode(), word.encode("utf-16-le"))]
    for case in range(12):
        for known in (f"{SECRETS['PatientID']}{case}", SECRETS["PatientID"]):
            forms += [
                hashlib.new(kind, known.encode()).hexdigest()[:12].encode()
                for kind in ("md5", "sha1", "sha256")
            ]
    return forms


def find_leaks(content: bytes) -> list[bytes]:
    forms = list_forms(WORDS)
    return [form for part in unpack(content) for form in forms if form in part]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve patients' series and a folder of what fails, in `export`; all else is output."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "settings"))
    for case in range(12):
        make_series(tmp_path / f"export/s{case:02d}", case)
    spoil(tmp_path / "export/bad")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work/private.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def refuse_leaks(folder: Path, said: str) -> int:
    """Asserts that neither files nor words hold a secret; returns the number of files."""
    assert find_leaks(said.encode()) == []
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert find_leaks(str(path.relative_to(folder)).encode()) == [], path
        assert find_leaks(path.read_bytes()) == [], path
    return len(files)


def test_the_search_finds_what_is_planted(project: Path) -> None:
    files = list((project / "export/s00").iterdir())
    assert len(files) == SLICES
    for file in files:
        assert len(find_leaks(file.read_bytes())) >= len(SECRETS)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", gzip.compress(b"Frau ZORNWALD"))
    assert find_leaks(packed.getvalue()) == [b"ZORNWALD"]
    assert find_leaks(b"src=base64," + base64.b64encode(b"Zornwald")) == [b"Zornwald"]


def test_a_scan_names_no_patient_and_fails_in_sentences(run_cli: Cli, project: Path) -> None:
    said = ""
    for words in (
        ("scan", "../export", "-o", "found.csv"),
        ("scan", "../export", "--json"),
        ("scan", "../export", "--pixels"),
        ("scan", "../export/bad"),
    ):
        answer = run_cli(*words)
        assert answer.code == 0, answer.err
        said += answer.out + answer.err
    for code in (
        *("missing_slices", "truncated", "no_pixel_data", "no_position", "syntax_unsupported"),
        *("photometric", "rescale_invalid", "pixels_damaged", "not_dicom", "no_nifti"),
    ):
        assert code in said
    assert patient_token(f"{SECRETS['PatientID']}3") in (project / "work/found.csv").read_text()
    assert "Traceback" not in said
    assert refuse_leaks(project / "work", said) >= 3


@pytest.mark.slow
def test_no_output_of_a_whole_run_names_a_patient(run_cli: Cli, project: Path) -> None:
    work = project / "work"
    said = ""

    def call(*words: object, code: int = 0) -> None:
        nonlocal said
        answer = run_cli(*words)
        said += answer.out + answer.err
        assert answer.code == code, answer.err

    call("scan", "../export", "-o", "found.csv")
    rows = (work / "found.csv").read_text(encoding="utf-8").splitlines()
    header, cases = rows[0], [row for row in rows[1:] if "/s" in row]
    assert len(cases) == 12
    number = [int(re.search(r"/s(\d\d)", row)[1]) for row in cases]  # type: ignore[index]
    bad = ",".join(["bad", "p-bad", str(project / "export/bad/gap")])
    bad += "," * (header.count(",") - 2)
    labelled = [f"{row},l{n % 2}" for row, n in zip(cases, number, strict=True)]
    text = "\n".join([f"{header},label", *labelled, f"{bad},l1"])
    (work / "all.csv").write_text(text + "\n", encoding="utf-8")
    call("manifest", "table", "all.csv", "-o", "labelled.csv")
    call("check", "private.yaml")
    call("check", "private.yaml", "data.on_bad=stop", code=3)
    call("train", "private.yaml", "name=a")
    call("train", "private.yaml", "name=b", "seed=1")
    call("train", "private.yaml", "data.on_bad=stop", code=3)
    run_a, run_b = sorted((work / "runs").iterdir())
    call("predict", run_a, "../export", "--store", "kept", code=3)
    call("predict", run_a, "labelled.csv", "-o", "again.csv", code=3)
    call("test", run_a, "--manifest", "labelled.csv")
    call("compare", run_a, run_b, "-o", "compared")
    call("predict", run_a, "../export/bad/cut", code=3)
    call("report", run_a, "--gallery", "2")
    call("context", "private.yaml", "name=study", STUDY, "--jobs", "1")
    (study,) = (work / "runs").glob("study*")
    assert (study / "report.html").exists()
    assert list(study.rglob("predictions/*.csv"))
    assert "Traceback" not in said
    assert {path.name for path in run_a.iterdir()} >= {
        "manifest.csv",
        "refused.csv",
        "report.html",
        "predictions_oof.csv",
        "metrics.json",
    }
    assert list(work.rglob("*.ckpt"))
    assert list(work.rglob("*.raw"))
    assert refuse_leaks(work, said) > 30
