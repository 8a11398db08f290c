"""MedMNIST3D: six sets of small volumes (organs, nodules, adrenal glands, ribs, vessels, synapses).

Where from: the Zenodo record of MedMNIST v2/v3, the files whose names hold `mnist3d`. Licence: CC
BY 4.0, synapsemnist3d's too. medvid downloads nothing, and does not need the package `medmnist`.

On disk: the files as downloaded, `<name>.npz` (28 x 28 x 28 voxels) or `<name>_64.npz` (64 x 64 x
64), in one folder; or give the path of one file. Each holds `train_images`, `train_labels` and the
same of `val` and `test`.

The official split is kept. A case is a row of an array, read from the .npz itself: `path` is the
file and `series` names the row, as `train_images[12]`. Voxels are 0 to 255. The files state no
spacing and no directions, and medvid makes none up: frames lie along the first axis of the volume,
whichever that is in the patient, and windows are counted in frames, not in mm. No patient is named
either, so every row is a patient of its own: cases of one patient, such as the organs of one scan,
must stay on the sides where the official split has them.

Command: `medvid manifest medmnist3d ROOT -o manifest.csv name=nodulemnist3d`
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.lib import format as npy

from medvid.contract import Record, SourceError
from medvid.io.arrays import name_item

Name = Literal[
    "organmnist3d",
    "nodulemnist3d",
    "adrenalmnist3d",
    "fracturemnist3d",
    "vesselmnist3d",
    "synapsemnist3d",
]
Size = Literal[28, 64]

LABELS: dict[str, tuple[str, ...]] = {
    "organmnist3d": (
        "liver",
        "kidney-right",
        "kidney-left",
        "femur-right",
        "femur-left",
        "bladder",
        "heart",
        "lung-right",
        "lung-left",
        "spleen",
        "pancreas",
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": (
        "buckle rib fracture",
        "nondisplaced rib fracture",
        "displaced rib fracture",
    ),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}
"""Classes in the order of the numbers that stand in the files."""

SPLITS = ("train", "val", "test")


def classes(root: Path) -> tuple[str, ...]:
    """Returns the classes of the only set that lies at `root`."""
    return LABELS[_find_file(root, None, None)[0]]


def records(root: Path, *, name: Name | None = None, size: Size | None = None) -> Iterator[Record]:
    """Yields the cases of a set, training first, in the order of the file.

    Args:
        root: the folder of the files, or one of them.
        name: which set; needed where several lie there.
        size: voxels along each edge, 28 or 64; None takes what is there, and 28 of both.

    Raises:
        SourceError: when the file is absent, or its arrays are not those of the set.
    """
    found, edge, path = _find_file(root, name, size)
    for split in SPLITS:
        labels, count = _read_split(path, edge, split)
        if len(labels) != count:
            _refuse(
                path,
                f"holds {count} volumes in `{split}_images` and {len(labels)} labels in "
                f"`{split}_labels`. Download it again.",
                "uneven_arrays",
            )
        for row, value in enumerate(labels):
            case = f"{path.stem}/{split}-{row}"
            yield Record(
                case_id=case,
                patient_id=case,
                path=str(path.absolute()),
                series=name_item(f"{split}_images", row),
                label=_name_class(path, found, split, row, value),
                split=split,
            )


def imitate(root: Path) -> None:
    """Writes nodulemnist3d in both sizes: four training cases, two of validation and of test."""
    root.mkdir(parents=True, exist_ok=True)
    for ending, edge in (("", 28), ("_64", 64)):
        arrays: dict[str, Any] = {}
        ramp = np.arange(edge, dtype=np.uint8)[None, :, None, None]
        middle = slice(edge // 4, edge // 2)
        for split, first, count in (("train", 0, 4), ("val", 4, 2), ("test", 6, 2)):
            # Cases and frames can be told by their grey value, malignant ones by a bright part.
            number = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None]
            volumes = np.broadcast_to(20 * number + ramp, (count, edge, edge, edge)).copy()
            labels = np.arange(count, dtype=np.uint8) % 2
            volumes[labels == 1, :, middle, middle] = 255
            arrays[f"{split}_images"] = volumes
            arrays[f"{split}_labels"] = labels[:, None]
        np.savez_compressed(root / f"nodulemnist3d{ending}.npz", **arrays)


def _find_file(root: Path, name: Name | None, size: Size | None) -> tuple[str, int, Path]:
    """Returns the name of a set, the edge of its volumes in voxels, and its file."""
    folder, only = (root.parent, root) if root.suffix == ".npz" else (root, None)
    there = [
        (known, edge, path)
        for known in LABELS
        for edge, path in ((28, folder / f"{known}.npz"), (64, folder / f"{known}_64.npz"))
        if path.is_file() and only in (None, path)
    ]
    if not there:
        _refuse(
            root,
            "is, or holds, none of the files of MedMNIST3D: <name>.npz or <name>_64.npz with one "
            f"of the names {', '.join(LABELS)}.",
            "no_file",
        )
    fitting = [one for one in there if name in (None, one[0]) and size in (None, one[1])]
    if not fitting:
        asked = f"{name or '<name>'}{'_64' if size == 64 else ''}.npz"
        named = ", ".join(path.name for _, _, path in there)
        _refuse(root, f"holds no {asked}. There are: {named}.", "no_file")
    names = list(dict.fromkeys(known for known, _, _ in fitting))
    if len(names) > 1:
        _refuse(
            root,
            f"holds several sets: {', '.join(names)}. Choose one with name={names[0]}.",
            "several_sets",
        )
    return fitting[0]


def _read_split(path: Path, edge: int, split: str) -> tuple[list[int], int]:
    """Returns the labels of a split, and the number of its volumes without unpacking them."""
    try:
        with zipfile.ZipFile(path) as archive:
            absent = [
                array
                for array in (f"{split}_images", f"{split}_labels")
                if f"{array}.npy" not in archive.namelist()
            ]
            if absent:
                _refuse(
                    path,
                    f"holds no array `{absent[0]}`. It should hold images and labels of "
                    f"{', '.join(SPLITS)}.",
                    "no_array",
                )
            with archive.open(f"{split}_labels.npy") as file:
                labels = np.asarray(npy.read_array(file, allow_pickle=False))
            shape, dtype = _read_shape(archive, f"{split}_images.npy")
    except (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile):
        _refuse(path, "is cut short or damaged. Download it again.", "truncated")
    _check_volumes(path, edge, split, shape, dtype)
    if labels.dtype.kind not in "iu" or labels.size != len(labels):
        _refuse(
            path,
            f"holds `{split}_labels` of the shape {labels.shape} and the type {labels.dtype}; a "
            "row should have one whole number, in an array of integers. Download it again.",
            "no_label",
        )
    return [int(value) for value in labels.reshape(-1)], shape[0]


def _check_volumes(
    path: Path, edge: int, split: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    if len(shape) != 4:
        _refuse(
            path,
            f"holds `{split}_images` of the shape {shape}, and MedMNIST3D's have four axes. The "
            "sets of pictures (2D) have no slices.",
            "not_3d",
        )
    if shape[1:] != (edge,) * 3 or dtype != np.uint8:
        _refuse(
            path,
            f"holds `{split}_images` of the shape {shape} and the type {dtype}, and by its name "
            f"should hold volumes of {edge} x {edge} x {edge} voxels of the type uint8. Download "
            "it again, or take them as a source of your own (`folders`, `table`).",
            "other_arrays",
        )


def _read_shape(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype


def _name_class(path: Path, name: str, split: str, row: int, value: int) -> str:
    known = LABELS[name]
    if not 0 <= value < len(known):
        _refuse(
            path,
            f"gives row {row} of `{split}_labels` the number {value}; {name} has the classes 0 to "
            f"{len(known) - 1}.",
            "no_label",
        )
    return known[value]


def _refuse(path: Path, what: str, code: str) -> NoReturn:
    raise SourceError(f"{path} {what}", code=code, files=[path])
