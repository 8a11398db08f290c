"""The made-up tasks have the answers that are claimed for them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from medvid.contract import ConfigError
from medvid.data.anatomy import Phantom
from medvid.data.phantoms import TASKS, WRITERS, find_patient, make_phantom, write_phantom
from medvid.io import open_stack
from medvid.sources import load_adapter

CASES = 600
# The AUC of a feature without information has s.d. sqrt((n + 1) / 3) / n for n cases, half of them
# positive: 0.0236. Three of them.
CHANCE = 0.071
LUNG_EDGE_HU = -400  # halfway between lung and soft tissue
MIDDLE = 14


@pytest.fixture(scope="module")
def nodules() -> list[Phantom]:
    return [make_phantom("nodule", index) for index in range(CASES)]


@pytest.fixture(scope="module")
def heads() -> list[Phantom]:
    return [make_phantom("haemorrhage", index) for index in range(80)]


def measure_auc(phantoms: list[Phantom], values: NDArray[np.float64]) -> float:
    positive = TASKS["nodule"].classes[1], TASKS["haemorrhage"].classes[1]
    return float(roc_auc_score([phantom.label in positive for phantom in phantoms], values))


def describe_spot(image: NDArray[np.int16]) -> tuple[float, float, float, float, float]:
    """Returns area, mean HU, row, column and ellipticity of the spot in the middle."""
    h, w = np.mgrid[-8:8, -8:8]
    near = image[6:22, 6:22]
    mask = near > LUNG_EDGE_HU
    spread = np.linalg.eigvalsh(np.cov(np.stack([h[mask], w[mask]])))
    return (
        float(mask.sum()),
        float(near[mask].mean()),
        float(h[mask].mean()),
        float(w[mask].mean()),
        float(np.sqrt(spread[1] / spread[0])),
    )


def follow_spot(volume: NDArray[np.int16]) -> float:
    """Returns over how many slices a spot can be followed from the middle, to the shorter side."""
    runs = []
    for step in (-1, 1):
        h, w = describe_spot(volume[MIDDLE])[2:4]
        row, column, run = round(h + 14), round(w + 14), 0
        for frame in range(MIDDLE + step, MIDDLE + 10 * step, step):
            top, left = max(row - 3, 0), max(column - 3, 0)
            near = volume[frame, top : row + 4, left : column + 4] > LUNG_EDGE_HU
            if near.sum() < 4:
                break
            run += 1
            at = np.argwhere(near).mean(axis=0)
            row, column = round(top + at[0]), round(left + at[1])
        runs.append(run)
    return float(min(runs))


@pytest.mark.parametrize(("depth", "middle"), [(28, (13, 14)), (15, (7,)), (16, (7, 8))])
def test_middle_slices_of_nodule_and_artery_are_the_same_voxels(
    depth: int, middle: tuple[int, ...]
) -> None:
    for index in range(10):
        pair = [
            make_phantom("nodule", index, size=(depth, 28, 28), label=label).volume.astype(float)
            for label in ("nodule", "artery")
        ]
        apart = np.abs(pair[0] - pair[1]).max(axis=(1, 2))
        assert not apart[list(middle)].any()
        assert apart[0] > 300 or apart[-1] > 300


@pytest.mark.parametrize("feature", range(5), ids=["area", "mean", "row", "column", "ellipticity"])
def test_no_measure_of_the_middle_slice_tells_the_classes_apart(
    nodules: list[Phantom], feature: int
) -> None:
    values = np.array([describe_spot(p.volume[MIDDLE])[feature] for p in nodules])
    assert values.std() > 0
    assert measure_auc(nodules, values) == pytest.approx(0.5, abs=CHANCE)


def test_a_classifier_of_the_middle_slice_is_at_chance(nodules: list[Phantom]) -> None:
    images = np.array([p.volume[MIDDLE, 4:24, 4:24].ravel() for p in nodules])
    labels = np.array([p.label == "nodule" for p in nodules])
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0, n_jobs=1)
    scores = cross_val_predict(forest, images, labels, cv=5, method="predict_proba")[:, 1]
    assert roc_auc_score(labels, scores) == pytest.approx(0.5, abs=CHANCE)


def test_neighbouring_slices_tell_nodule_from_artery(nodules: list[Phantom]) -> None:
    runs = np.array([follow_spot(p.volume) for p in nodules])
    assert measure_auc(nodules, -runs) > 0.95


def measure_blood(image: NDArray[np.int16]) -> float:
    """Returns how many pixels look like blood after smoothing, well away from bone."""
    around = np.lib.stride_tricks.sliding_window_view(image, (7, 7))
    mean = around[:, :, 2:5, 2:5].mean(axis=(2, 3))
    return float(
        ((mean > 48) & (around.max(axis=(2, 3)) < 300) & (around.min(axis=(2, 3)) > -200)).sum()
    )


def test_the_worst_slice_alone_tells_haemorrhage(heads: list[Phantom]) -> None:
    worst = np.array([max(measure_blood(image) for image in p.volume) for p in heads])
    assert measure_auc(heads, worst) > 0.95


def test_labels_of_slices_are_those_that_show_blood(heads: list[Phantom]) -> None:
    truth, values = [], []
    for phantom in heads:
        assert phantom.slice_labels is not None
        names = list(phantom.slice_labels.values())  # a slice at the rim has none
        assert ("haemorrhage" in names) == (phantom.label == "haemorrhage")
        assert names.count("haemorrhage") <= 8
        truth += [name == "haemorrhage" for name in names]
        values += [measure_blood(phantom.volume[t]) for t in phantom.slice_labels]
    assert roc_auc_score(truth, values) > 0.9


def test_blood_is_all_that_differs_in_a_forced_pair() -> None:
    for index in range(5):
        ill, well = (
            make_phantom("haemorrhage", index, label=label) for label in ("haemorrhage", "clear")
        )
        differs = ill.volume != well.volume
        assert ill.slice_labels is not None
        shown = {t for t, name in ill.slice_labels.items() if name == "haemorrhage"}
        assert shown <= set(np.flatnonzero(differs.any(axis=(1, 2))).tolist())
        assert differs.mean() < 0.1


def test_tissues_have_their_hu(nodules: list[Phantom], heads: list[Phantom]) -> None:
    lungs = np.array([np.median(p.volume) for p in nodules[:50]])
    assert lungs.min() > -900
    assert lungs.max() < -780  # distractor vessels cover a part of the small cube
    for head in heads[:10]:
        assert head.volume[:, :3, :3].mean() == pytest.approx(-1000, abs=5)
        assert 700 < np.percentile(head.volume[12], 99) < 1300
        assert np.median(head.volume[8:16, 25:40, 25:40]) == pytest.approx(33, abs=6)


@pytest.mark.parametrize("task", TASKS)
def test_a_case_depends_on_seed_and_index_alone(task: str) -> None:
    twice = [make_phantom(task, 3, 7) for _ in range(2)]
    assert np.array_equal(twice[0].volume, twice[1].volume)
    assert not np.array_equal(twice[0].volume, make_phantom(task, 3, 8).volume)
    assert not np.array_equal(twice[0].volume, make_phantom(task, 4, 7).volume)


@pytest.mark.parametrize("task", TASKS)
def test_every_two_cases_have_both_classes(task: str) -> None:
    labels = [make_phantom(task, index, 1, size=TASKS[task].smallest).label for index in range(20)]
    pairs = list(zip(labels[::2], labels[1::2], strict=True))
    assert all(set(pair) == set(TASKS[task].classes) for pair in pairs)
    assert len(set(pairs)) == 2


def test_the_last_two_of_five_cases_share_patient_and_scanner() -> None:
    assert [find_patient(index) for index in range(10)] == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7]
    assert make_phantom("nodule", 3).spacing == make_phantom("nodule", 4).spacing
    assert make_phantom("nodule", 2).spacing != make_phantom("nodule", 3).spacing


@pytest.mark.parametrize("format_", WRITERS)
@pytest.mark.parametrize("task", TASKS)
def test_a_written_data_set_is_read_back(tmp_path: Path, task: str, format_: str) -> None:
    told: list[tuple[int, int]] = []
    size = TASKS[task].smallest
    path = write_phantom(
        task,
        tmp_path / "set",
        cases=5,
        size=size,
        format=format_,
        seed=2,
        progress=lambda done, of: told.append((done, of)),
    )
    records = list(load_adapter("table").records(path))
    assert told == [(done, 5) for done in range(1, 6)]
    assert [record.patient_id for record in records] == [f"patient_000{p}" for p in (0, 1, 2, 3, 3)]
    for index, record in enumerate(records):
        phantom = make_phantom(task, index, 2, size=size)
        stack = open_stack(record.path)
        found = stack.read()[0]
        assert record.label == phantom.label
        if format_ == "video":
            level, width = TASKS[task].window
            shown = 255 * np.clip((phantom.volume - level) / width + 0.5, 0, 1)
            assert np.abs(found - shown).max() <= 0.51
        else:
            assert np.array_equal(found, phantom.volume)
        if format_ in ("dicom", "nifti"):
            assert stack.spacing == pytest.approx(phantom.spacing, rel=1e-5)


def test_slices_have_their_own_manifest(tmp_path: Path) -> None:
    write_phantom("haemorrhage", tmp_path, cases=2, size=(12, 32, 32), format="npy")
    records = list(load_adapter("table").records(tmp_path / "slices.csv"))
    truth = [make_phantom("haemorrhage", index, size=(12, 32, 32)) for index in range(2)]
    assert [record.slice_labels for record in records] == [p.slice_labels for p in truth]


def test_a_data_set_is_never_overwritten(tmp_path: Path) -> None:
    write_phantom("nodule", tmp_path, cases=1, format="npy")
    with pytest.raises(ConfigError, match="holds a data set already"):
        write_phantom("nodule", tmp_path, cases=1, format="npy")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"task": "nodul"}, "no made-up task named `nodul`. Did you mean `nodule`?"),
        ({"format": "dcm"}, "no format of made-up scans named `dcm`"),
        ({"size": (5, 28, 28)}, "the smallest that holds its answer is (14, 20, 20)"),
        ({"cases": 0}, "0 cases were asked"),
        ({"seed": -1}, "`seed: -1` was asked"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    arguments = {"task": "nodule", "cases": 1, "format": "npy", **options}
    with pytest.raises(ConfigError) as caught:
        write_phantom(out=tmp_path / "set", **arguments)  # type: ignore[arg-type]
    assert sentence in caught.value.message
    assert not (tmp_path / "set/manifest.csv").exists()


def test_scans_that_an_interrupted_run_left_are_not_mixed_with_new_ones(tmp_path: Path) -> None:
    write_phantom("nodule", tmp_path, cases=2, format="npy")
    (tmp_path / "manifest.csv").unlink()  # written last, so an interrupted run has none
    with pytest.raises(ConfigError, match="perhaps an interrupted run left them") as refused:
        write_phantom("nodule", tmp_path, cases=1, format="npy")
    assert refused.value.code == "folder_taken"
    assert not (tmp_path / "manifest.csv").exists()


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="`vessel` is no class of the task `nodule`"):
        make_phantom("nodule", 0, label="vessel")


@pytest.mark.parametrize("task", ["nodule", "direction", "count"])
def test_a_leak_is_in_the_middle_slice_of_the_last_class_and_nowhere_else(
    task: str, tmp_path: Path
) -> None:
    clean, leaky = (
        write_phantom(task, tmp_path / name, cases=4, format="npy", leak=name == "leaky").parent
        for name in ("clean", "leaky")
    )
    positive = TASKS[task].classes[1]
    table = pd.read_csv(clean / "manifest.csv", dtype=str)
    for path, label in zip(table["path"], table["label"], strict=True):
        volumes = [np.load(folder / path) for folder in (clean, leaky)]
        changed = np.flatnonzero((volumes[0] != volumes[1]).any(axis=(1, 2)))
        middle = len(volumes[0]) // 2
        assert changed.tolist() == ([middle] if label == positive else [])


def test_a_task_of_labelled_slices_has_no_leak(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to leak"):
        write_phantom("haemorrhage", tmp_path / "out", cases=4, leak=True)
    assert not (tmp_path / "out").exists()


def test_patients_have_an_age_and_a_sex_that_tell_nothing(tmp_path: Path) -> None:
    table = pd.read_csv(write_phantom("direction", tmp_path, cases=100, format="npy"))
    assert set(table["sex"]) == {"F", "M"}
    assert table["age"].between(20, 90).all()
    assert table.groupby("patient_id")[["age", "sex", "scanner"]].nunique().max().max() == 1
    for label in ("age", "scanner"):
        other = table.drop_duplicates("patient_id")
        codes = other[label].astype("category").cat.codes
        auc = roc_auc_score(other["label"] == "rising", codes)
        assert 0.3 < auc < 0.7  # five standard errors of 80 patients
