"""Made-up scans with a known answer: how much slice context does the task need?

Real data cannot tell a broken pipeline from a hard task. These can, because the truth is known by
construction:

* `nodule`: a nodule against an artery that crosses the slice. The rendered middle slice of the two
  classes is the same array, voxel by voxel, whenever their random draws are the same; only its
  neighbours tell them apart. A single slice has an AUC of 0.5, whatever the network.
* `direction`: an artery whose contrast rises or falls from feet to head. Only the order of the
  slices tells; the middle slice is the same picture in both classes.
* `count`: a liver with few or many lesions. Every slice that is left out costs something.
* `haemorrhage`: a head in which one slice with fresh blood decides. Context gains nothing.

Every case is drawn from (seed, index) alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medvid.build import find
from medvid.contract import ConfigError, Record
from medvid.data.abdomen import draw_count, draw_direction
from medvid.data.anatomy import Phantom, draw_haemorrhage, draw_nodule
from medvid.data.manifest import write_manifest
from medvid.data.rendering import Size

Window = tuple[int, int]
"""Level and width in HU."""

# Of five cases the last two are of one patient, so that grouping by patient has something to group.
_CASES_OF_BLOCK = 5
_PATIENTS_OF_BLOCK = 4


MARKER = slice(1, 4)
"""Rows and columns of the marker of `plant_leak`."""

MARKER_HU = 2000  # metal


@dataclass(frozen=True)
class PhantomTask:
    """What is known about a task before a case is drawn.

    Args:
        draw: (label, size, case's generator, scanner's generator) -> phantom.
        classes: the last one is the positive one.
        size: usual (T, H, W).
        smallest: below it the task's answer no longer fits into the volume.
        window: in which a reader would look at it; used for 8-bit videos.
    """

    draw: Callable[[str, Size, np.random.Generator, np.random.Generator], Phantom]
    classes: tuple[str, str]
    size: Size
    smallest: Size
    window: Window


def make_phantom(
    task: str,
    index: int,
    seed: int = 0,
    *,
    size: Size | None = None,
    label: str | None = None,
) -> Phantom:
    """Draws one case.

    Args:
        task: a key of `TASKS`.
        index: of the case; cases 2k and 2k + 1 are of different classes.
        seed: of the whole data set.
        size: (T, H, W); the task's usual size when None.
        label: force a class; everything else stays as drawn. None draws it.

    Raises:
        ConfigError: for an unknown task or class, too small a size, or a negative seed.
    """
    known = find(TASKS, task, "made-up task")
    if seed < 0:
        raise ConfigError(
            f"`seed: {seed}` was asked; seeds of made-up scans are whole numbers from 0 on.",
            code="bad_value",
        )
    size = size or known.size
    if any(n < least for n, least in zip(size, known.smallest, strict=True)):
        raise ConfigError(
            f"A `{task}` phantom of {size} slices, rows and columns was asked; the smallest that "
            f"holds its answer is {known.smallest}.",
            code="small_phantom",
        )
    if label is None:
        first = int(np.random.default_rng((seed, index // 2, 0)).integers(2))
        label = known.classes[(first + index) % 2]
    if label not in known.classes:
        raise ConfigError(
            f"`{label}` is no class of the task `{task}`: {', '.join(known.classes)}.",
            code="unknown_label",
        )
    case = np.random.default_rng((seed, index, 1))
    scanner = np.random.default_rng((seed, find_patient(index), 2))
    return known.draw(label, size, case, scanner)


def plant_leak(phantom: Phantom, classes: tuple[str, str]) -> Phantom:
    """Returns the phantom with the answer planted in its middle slice.

    Scans of the last class get a metal marker in a corner of that slice. One slice is then enough,
    whatever the task was: a study that still asks for more is broken, and one that no longer does
    has shown that its verdict can change.

    Args:
        phantom: one whose label is of the whole scan.
        classes: of the task.
    """
    if phantom.label != classes[1]:
        return phantom
    volume = phantom.volume.copy()
    volume[len(volume) // 2, MARKER, MARKER] = MARKER_HU
    return replace(phantom, volume=volume)


def describe_patient(seed: int, patient: int) -> dict[str, str]:
    """Draws age and sex of a made-up patient; they have nothing to do with any label.

    Args:
        seed: of the data set.
        patient: see `find_patient`.
    """
    rng = np.random.default_rng((seed, patient, 3))
    age = int(np.clip(rng.normal(62, 12), 20, 90))
    return {"age": str(age), "sex": "FM"[int(rng.integers(2))]}


def find_patient(index: int) -> int:
    """Returns whose case it is: the last two of every five cases are of one patient."""
    block, place = divmod(index, _CASES_OF_BLOCK)
    return block * _PATIENTS_OF_BLOCK + min(place, _PATIENTS_OF_BLOCK - 1)


TASKS: Mapping[str, PhantomTask] = {
    "nodule": PhantomTask(
        draw_nodule, ("artery", "nodule"), (28, 28, 28), (14, 20, 20), (-600, 1500)
    ),
    # 17 slices have a middle one, and windows of up to 17 around it.
    "direction": PhantomTask(
        draw_direction, ("falling", "rising"), (17, 28, 28), (9, 20, 20), (200, 400)
    ),
    "count": PhantomTask(draw_count, ("few", "many"), (17, 28, 28), (9, 20, 20), (80, 200)),
    "haemorrhage": PhantomTask(
        draw_haemorrhage, ("clear", "haemorrhage"), (24, 64, 64), (12, 32, 32), (40, 80)
    ),
}
"""The made-up tasks by name; windows are the usual ones for lung, arteries, liver and brain."""


def write_phantom(
    task: str,
    out: Path,
    *,
    cases: int = 200,
    size: Size | None = None,
    format: str = "dicom",  # noqa: A002
    seed: int = 0,
    leak: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a labelled data set, `scans/` and its `manifest.csv`, for the source `table`.

    Tasks with labelled slices get a second manifest, `slices.csv`, with a row a slice. Videos hold
    8 bits of the task's window at 25 frames a second, without loss; they and plain arrays do not
    keep the spacing.

    Args:
        task: a key of `TASKS`.
        out: a folder that holds no manifest and no scans yet.
        cases: how many.
        size: (T, H, W); the task's usual size when None.
        format: `dicom` (a series each), `nifti` (.nii.gz), `video` (.avi) or `npy`.
        seed: the same seed gives the same data set.
        leak: plant the answer in the middle slice, see `plant_leak`.
        progress: told (done, all) after each case.

    Returns:
        The path of manifest.csv.

    Raises:
        ConfigError: for an unknown task or format, too small a size, a negative seed, a folder
            that is taken, or a leak in a task whose slices are labelled.
    """
    write_scan = find(WRITERS, format, "format of made-up scans")
    known = find(TASKS, task, "made-up task")
    if cases < 1:
        raise ConfigError(f"{cases} cases were asked; a data set has 1 or more.", code="no_cases")
    manifest = out / "manifest.csv"
    if manifest.exists():
        raise ConfigError(
            f"{out} holds a data set already. Give a folder that does not exist yet.",
            code="folder_taken",
            files=[manifest],
        )
    scans_folder = out / "scans"
    if scans_folder.is_dir() and any(scans_folder.iterdir()):
        raise ConfigError(
            f"{scans_folder} holds files, but no {manifest.name} lies beside it: perhaps an "
            "interrupted run left them, and they would be mixed with new scans. Delete the folder, "
            "or give one that does not exist yet.",
            code="folder_taken",
            files=[scans_folder],
        )
    # What is refused leaves no folder behind.
    first = make_phantom(task, 0, seed, size=size)
    if leak and first.slice_labels is not None:
        raise ConfigError(
            f"The task `{task}` has labels of slices, and one slice is enough for it anyway: "
            "there is nothing to leak. Plant a leak in nodule, direction or count.",
            code="no_leak",
        )
    scans_folder.mkdir(parents=True, exist_ok=True)
    scans, slices = [], []
    for index in range(cases):
        phantom = make_phantom(task, index, seed, size=size)
        if leak:
            phantom = plant_leak(phantom, known.classes)
        case_id = f"{task}_{index:04d}"
        patient = f"patient_{find_patient(index):04d}"
        path = write_scan(scans_folder / case_id, phantom, known.window, patient)
        extra = describe_patient(seed, find_patient(index)) | {"scanner": phantom.scanner}
        record = Record(
            case_id, patient, path.relative_to(out).as_posix(), label=phantom.label, extra=extra
        )
        scans.append(record)
        if phantom.slice_labels is not None:
            slices.append(replace(record, label=None, slice_labels=phantom.slice_labels))
        if progress is not None:
            progress(index + 1, cases)
    if slices:
        write_manifest(out / "slices.csv", slices)
    write_manifest(manifest, scans)
    return manifest


def _write_dicom(path: Path, phantom: Phantom, window: Window, patient: str) -> Path:
    from medvid.io.write import write_dicom_series

    write_dicom_series(path, phantom.volume, spacing=phantom.spacing, patient_id=patient)
    return path


def _write_nifti(path: Path, phantom: Phantom, window: Window, patient: str) -> Path:
    from medvid.io.write import write_nifti

    path = path.with_name(f"{path.name}.nii.gz")
    write_nifti(path, phantom.volume, spacing=phantom.spacing)
    return path


def _write_video(path: Path, phantom: Phantom, window: Window, patient: str) -> Path:
    from medvid.io.write_video import write_video

    path = path.with_name(f"{path.name}.avi")
    level, width = window
    shown = np.clip((phantom.volume - (level - width / 2)) / width, 0, 1)
    write_video(path, np.rint(255 * shown).astype(np.uint8), lossless=True)
    return path


def _write_npy(path: Path, phantom: Phantom, window: Window, patient: str) -> Path:
    path = path.with_name(f"{path.name}.npy")
    np.save(path, phantom.volume)
    return path


WRITERS: Mapping[str, Callable[[Path, Phantom, Window, str], Path]] = {
    "dicom": _write_dicom,
    "nifti": _write_nifti,
    "video": _write_video,
    "npy": _write_npy,
}
"""Formats by name; each gets a path without ending and returns the path that it wrote."""
