"""What every adapter keeps to, tried on its own made-up copy."""

from contextlib import suppress
from inspect import signature
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medvid.contract import Adapter, MedvidError, Record
from medvid.io import open_stack
from medvid.sources import list_adapters, load_adapter

Copy = tuple[ModuleType, Path]


def read_classes(module: ModuleType, root: Path) -> tuple[str, ...]:
    return tuple(module.CLASSES) if hasattr(module, "CLASSES") else tuple(module.classes(root))


def list_names(record: Record) -> set[str]:
    by_slice = [*(record.slice_labels or {}).values(), *(record.placed_labels or {}).values()]
    labels = [record.label, *by_slice]
    words = {label for label in labels if isinstance(label, str)}
    return words | {
        name for label in labels if label and not isinstance(label, str) for name in label
    }


@pytest.fixture(params=list_adapters())
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Copy:
    module = load_adapter(request.param)
    root = tmp_path / "größe mit Leerzeichen"
    module.imitate(root)
    return module, root


def test_the_room_is_not_empty() -> None:
    assert len(list_adapters()) >= 4


def test_it_follows_the_protocol(copy: Copy) -> None:
    assert isinstance(copy[0], Adapter)


def test_its_docstring_says_where_from_how_on_disk_and_the_command(copy: Copy) -> None:
    name = copy[0].__name__.rpartition(".")[2]
    text = copy[0].__doc__ or ""
    for part in ("Where from:", "On disk:", f"Command: `medvid manifest {name} "):
        assert part in text


def damage(content: bytes) -> list[bytes]:
    """What becomes of tables and lists in mail, spreadsheets and full disks."""
    half = content[: len(content) // 2]
    wide = content.decode(errors="replace").encode("utf-16")
    number = b"9" * 5000
    lines = content.splitlines()
    return [
        *(half, content + b"\xfc\n", wide, wide[:-1], content + b"\0"),
        *(half + b'"' + content * 2, content + b'"' + b"x,y\n" * 40_000),
        *(content + lines[-1][:1] + number, content + number + b" " + number, lines[-1][:1]),
        *(content.replace(b"1", number), content.replace(b"1", b"1_0"), content[:0]),
    ]


def test_damaged_tables_and_lists_are_read_or_refused_in_a_sentence(copy: Copy) -> None:
    module, root = copy
    single = {"workers": 1} if "workers" in signature(module.records).parameters else {}
    endings = (".csv", ".tsv", ".txt", ".json", ".xml")
    for file in sorted(path for path in root.rglob("*") if path.suffix in endings):
        content = file.read_bytes()
        for damaged in damage(content):
            file.write_bytes(damaged)
            with suppress(MedvidError):
                read_classes(module, root)
            with suppress(MedvidError):
                list(module.records(root, **single))
        file.write_bytes(content)


def test_every_record_opens(copy: Copy) -> None:
    for record in copy[0].records(copy[1]):
        stack = open_stack(record.path, series=record.series)
        assert np.ptp(stack.read([0, stack.num_frames - 1])) > 0


def test_case_ids_are_unique(copy: Copy) -> None:
    names = [record.case_id for record in copy[0].records(copy[1])]
    assert len(names) == len(set(names)) > 1


def test_labels_are_exactly_the_classes(copy: Copy) -> None:
    found = set().union(*(list_names(record) for record in copy[0].records(copy[1])))
    assert found == set(read_classes(*copy))
    assert len(found) > 1


def test_two_readings_give_the_same_order(copy: Copy) -> None:
    assert list(copy[0].records(copy[1])) == list(copy[0].records(copy[1]))


def test_paths_hold_when_the_working_folder_changes(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(copy[1].parent)
    records = list(copy[0].records(Path(copy[1].name)))
    monkeypatch.chdir(tmp_path)
    assert all(Path(record.path).exists() for record in records)


def test_patients_and_cases_are_named(copy: Copy) -> None:
    assert all(record.case_id and record.patient_id for record in copy[0].records(copy[1]))
