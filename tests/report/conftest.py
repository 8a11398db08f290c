"""A made-up study on disk, as `medvid context` leaves it, and a check that a page stands alone."""

import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

VOID = ("meta", "img", "link", "input", "br")

STRENGTH = {"w1": 0.35, "w3": 1.5, "w5": 2.6, "w9": 3.2, "w17": 3.3}
"""Distance of the classes in the made-up latent score of every window."""

CONTROLS = {
    "repeat": (0.35, "copies of the middle slice", "as the smallest window"),
    "shuffle": (2.5, "the slices of the window in random order", "no more than the widest window"),
    "reverse": (3.2, "the window upside down", "as the widest window"),
    "far": (0.5, "slices from elsewhere in the case", "as the smallest window"),
    "position": (0.1, "where the slice lies, no pixels", "no better than a guess"),
    "permuted_labels": (0.0, "the widest window, labels shuffled", "AUC 0.5 within its interval"),
}

NETWORKS = {
    "net_slicewise": (1.2, 46_000, 31_000_000),
    "net_lstm": (2.4, 310_000, 120_000_000),
    "net_c3d": (3.1, 1_480_000, 2_400_000_000),
    "net_actionvlad": (2.2, 212_000, 96_000_000),
}


class Checker(HTMLParser):
    """Counts what opens and closes, and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [str(v) for k, v in attrs if k in ("src", "href")]
        self.ids += [str(v) for k, v in attrs if k == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @property
    def pictures(self) -> list[str]:
        return [source for source in self.fetched if not source.startswith("#")]


Check = Callable[[str], Checker]


def check_page(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    bare = re.sub(r"data:[^\"]*", "", page)
    assert "http" not in bare
    assert "//" not in re.sub(r"\s//.*", "", bare).replace("</", "")
    assert "url(" not in bare
    assert "@import" not in bare
    assert all(source.startswith("data:image/svg+xml;base64,") for source in checker.pictures)
    assert len(set(checker.ids)) == len(checker.ids)
    links = [source[1:] for source in checker.fetched if source.startswith("#")]
    assert set(links) <= set(checker.ids)
    return checker


@pytest.fixture
def check() -> Check:
    """Returns the function that asserts that a page stands alone and is well-formed."""
    return check_page


class Maker:
    """Draws the predictions of made-up arms on the same cases."""

    def __init__(self, cases: int, seeds: int) -> None:
        self.rng = np.random.default_rng(5)
        self.n = cases
        self.seeds = seeds
        self.truth = np.arange(cases) % 3 == 0
        self.shared = self.rng.normal(size=cases)

    def predict(self, strength: float) -> NDArray[np.float64]:
        """Returns (seeds, cases) probabilities."""
        noise = self.rng.normal(size=(self.seeds, self.n))
        latent = strength * (self.truth - 0.5) + 0.8 * self.shared + 0.6 * noise
        chances: NDArray[np.float64] = 1 / (1 + np.exp(-1.3 * latent + 0.4))
        return chances

    def measure(self, chances: NDArray[np.float64]) -> tuple[dict[str, Any], list[float]]:
        aucs = [float(roc_auc_score(self.truth, one)) for one in chances]
        auc = float(np.mean(aucs))
        positives = self.truth.sum()
        error = np.sqrt(auc * (1 - auc) * (1 / positives + 1 / (self.n - positives))) * 0.75
        brier = float(((chances - self.truth) ** 2).mean())
        loss = float(-np.log(np.where(self.truth, chances, 1 - chances)).mean())

        def entry(value: float, half: float) -> dict[str, Any]:
            limits = {"low": value - half, "high": min(1.0, value + half)}
            return {"value": value, **limits, "n": self.n, "method": "paired bootstrap"}

        metrics = {"auc": entry(auc, 1.96 * error)}
        return metrics | {"log_loss": entry(loss, 0.05), "brier": entry(brier, 0.02)}, aucs

    def tabulate(self, chances: NDArray[np.float64]) -> pd.DataFrame:
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "case_id": [f"case_{k:03}" for k in range(self.n)],
                        "patient_id": [f"SECRET{k // 2}" for k in range(self.n)],
                        "fold": np.arange(self.n) // 2 % 5,
                        "seed": seed,
                        "label": np.where(self.truth, "nodule", "vessel"),
                        "prob_vessel": 1 - one,
                        "prob_nodule": one,
                    }
                )
                for seed, one in enumerate(chances)
            ]
        )


def make_arms(maker: Maker, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes predictions/ and returns the arms of result.json and their probabilities."""
    wanted: dict[str, tuple[float, dict[str, Any]]] = {}
    for name, strength in STRENGTH.items():
        window = int(name[1:])
        title = f"{window} slice{'s' * (window > 1)}"
        says = f"the middle slice and {window - 1} neighbours" if window > 1 else "the middle slice"
        wanted[name] = strength, {
            "kind": "window", "title": title, "window": window, "says": says,
        }  # fmt: skip
    for name, (strength, says, _) in CONTROLS.items():
        title = name.replace("_", " ")
        wanted[name] = strength, {"kind": "control", "title": title, "control": name, "says": says}
    for name, (strength, parameters, flops) in NETWORKS.items():
        wanted[name] = strength, {
            "kind": "network", "title": name[4:], "model": name[4:], "parameters": parameters,
            "flops": flops, "says": "whole clips of 17 slices",
        }  # fmt: skip
    for base in ("w1", "w5"):
        for share in (25, 50):
            wanted[f"{base}_share{share}"] = (
                STRENGTH[base] * (0.55 + share / 120),
                {
                    "kind": "learning",
                    "title": f"{base}, {share} %",
                    "share": share / 100,
                    "says": f"{share} % of the patients trained on",
                },
            )
    arms: dict[str, Any] = {}
    chances: dict[str, NDArray[np.float64]] = {}
    (folder / "predictions").mkdir(parents=True)
    for name, (strength, own) in wanted.items():
        same = {"repeat": "w1"}.get(name)
        drawn = chances[same] if same else maker.predict(strength)
        chances[name] = drawn
        metrics, aucs = maker.measure(drawn)
        arms[name] = {
            "window": None, "window_mm": None, "control": None, "share": None, "same_as": same,
            "model": "c3d_study", "metrics": metrics, "auc_within_folds": metrics["auc"]["value"],
            "auc_by_seed": [{"seed": s, "auc": auc} for s, auc in enumerate(aucs)],
            "parameters": 1_482_000, "flops": 2_410_000_000, "seconds_per_epoch": 3.41,
            "steps": 640, "cells": 15, **own,
        }  # fmt: skip
        if same is None:
            maker.tabulate(drawn).to_csv(folder / "predictions" / f"{name}.csv", index=False)
    return arms, chances


def compare_arms(arms: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = [(name, "w1") for name in STRENGTH if name != "w1"]
    pairs += [(name, "w17") for name in CONTROLS if name != "repeat"]
    rows = []
    for a, b in pairs:
        first, second = (arms[n]["metrics"]["auc"]["value"] for n in (a, b))
        difference, half = first - second, 0.035
        word = "helps" if difference > half else "equivalent" if abs(difference) < 0.02 else ""
        word = word or ("costs" if difference < -half else "inconclusive at n = 240")
        p = 0.0004 if abs(difference) > half else 0.31
        rows.append(
            {
                "a": a,
                "b": b,
                "metric": "auc",
                "difference": difference,
                "low": difference - half,
                "high": difference + half,
                "p": p,
                "p_adjusted": min(1.0, 3 * p),
                "verdict": word,
                "sentence": f"{arms[a]['title']} against {arms[b]['title']}: {word}.",
                "delong": {"difference": difference, "p": p, "method": "DeLong"}
                if a == "w5"
                else None,
            }
        )
    return rows


def make_cases(folder: Path, names: list[str], *, heat: bool = True) -> None:
    """Writes the pictures of the slice player: a blob that moves through the slices."""
    folder.mkdir()
    index = []
    for number, name in enumerate(names):
        t, h, w = 17, 64, 64
        place = np.stack(np.meshgrid(np.arange(t), np.arange(h), np.arange(w), indexing="ij"))
        centre = np.array([8 + number % 3, 30 + number, 34 - number])[:, None, None, None]
        distance = (((place - centre) / np.array([2.5, 7, 7])[:, None, None, None]) ** 2).sum(0)
        rng = np.random.default_rng(number)
        frames = 60 + 150 * np.exp(-distance) + rng.normal(0, 9, distance.shape)
        frames += 45 * (np.hypot(place[1] - 32, place[2] - 32) > 28)
        arrays = {"frames": np.clip(frames, 0, 255).astype(np.uint8)}
        if heat:
            arrays["heat"] = (255 * np.exp(-distance / 3)).astype(np.uint8)[:, ::2, ::2]
        np.savez_compressed(folder / f"case_{number:03}.npz", **arrays)
        scores: list[float | None] = np.exp(
            -((np.arange(t) - centre[0, 0, 0, 0]) ** 2) / 6
        ).tolist()
        scores[0] = None
        index.append(
            {
                "case_id": name,
                "label": "nodule",
                "prob": 0.931,
                "group": ("flipped", "false_positive", "confident")[number % 3],
                "file": f"case_{number:03}.npz",
                "scores": {"title": "attention", "values": scores},
            }
        )
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def write_run_files(folder: Path, cases: int) -> None:
    """Writes manifest.csv, splits.json, refused.csv and what else a run leaves."""
    rng = np.random.default_rng(1)
    patients = np.arange(cases) // 2
    age = rng.normal(62, 11, cases // 2 + 1).round().astype(int)
    sex = np.where(rng.random(cases // 2 + 1) < 0.55, "female", "male")
    pd.DataFrame(
        {
            "case_id": [f"case_{k:03}" for k in range(cases)],
            "patient_id": [f"SECRET{k}" for k in patients],
            "path": [f"/data/SECRET{k}" for k in patients],
            "label": np.where(np.arange(cases) % 3 == 0, "nodule", "vessel"),
            "age": age[patients],
            "sex": sex[patients],
            "scanner": np.array(["A", "B", "C"])[patients % 3],
            "study_uid": [f"1.2.3.SECRET{k}" for k in range(cases)],
        }
    ).to_csv(folder / "manifest.csv", index=False)
    fold = patients % 5
    names = np.array([f"case_{k:03}" for k in range(cases)])
    splits = [
        {
            "fold": k, "repeat": 0, "val": names[fold == (k + 1) % 5].tolist(),
            "train": names[(fold != k) & (fold != (k + 1) % 5)].tolist(),
            "test": names[fold == k].tolist(),
        }
        for k in range(5)
    ]  # fmt: skip
    (folder / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    (folder / "refused.csv").write_text(
        "case_id,patient_id,path,code,reason\n"
        + "".join(f"x{k},SECRETx,/a,missing_slices,Two slices are missing.\n" for k in range(7))
        + "y,SECRETy,/b,no_label,It has no label.\n",
        encoding="utf-8",
    )
    environment = {"medvid": "0.1.0", "python": "3.12.3", "packages": {"torch": "2.13.0"}}
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    (folder / "command.txt").write_text("medvid context nodule.yaml\n", encoding="utf-8")


def make_study(folder: Path, *, cases: int = 240, seeds: int = 3, pictures: int = 6) -> Path:
    """Writes the folder of a finished study."""
    folder.mkdir(parents=True)
    maker = Maker(cases, seeds)
    arms, chances = make_arms(maker, folder)
    write_run_files(folder, cases)
    settings = "name: nodule\ndata:\n  manifest: manifest.csv\nmodel: {name: c3d_study}\n"
    (folder / "study.yaml").write_text(settings, encoding="utf-8")
    narrow, wide = chances["w1"].mean(0), chances["w17"].mean(0)
    order = np.argsort(-np.abs(wide - narrow))[:20]
    flipped = [
        {
            "case_id": f"case_{k:03}", "label": "nodule" if maker.truth[k] else "vessel",
            "narrow": float(narrow[k]), "wide": float(wide[k]),
        }
        for k in order
    ]  # fmt: skip
    seen = arms["w5"]["metrics"]["auc"]
    answer = (
        "Nodule against vessel needs 5 slices (5 mm): AUC "
        f"{seen['value']:.3f} (95% interval {seen['low']:.3f} to {seen['high']:.3f}) is not "
        "inferior to the best (17 slices) by a margin of 0.02; one slice is no better than a guess."
    )
    verdicts = [
        {
            "arm": name, "expected": expected, "met": True if name != "shuffle" else None,
            "sentence": f"{name.replace('_', ' ')}: {arms[name]['metrics']['auc']['value']:.3f}.",
        }
        for name, (_, _, expected) in CONTROLS.items()
    ]  # fmt: skip
    shares = {"w1": 0.0, "w3": 0.02, "w5": 0.66, "w9": 0.3, "w17": 0.02}
    result = {
        "kind": "study", "name": "nodule", "version": 1, "task": "scan", "positions": "every",
        "hash": hashlib.sha256(settings.encode()).hexdigest(), "registered": "2025-03-04T09:12:44",
        "deviations": ["Seed 2 of arm far was trained again after a power cut."],
        "positive": "nodule", "classes": ["vessel", "nodule"], "n_cases": cases,
        "n_predictions": cases, "n_patients": cases // 2,
        "n_per_class": {"vessel": int((~maker.truth).sum()), "nodule": int(maker.truth.sum())},
        "folds": 5, "seeds": list(range(seeds)), "level": 0.95, "resamples": 2000, "margin": 0.02,
        "metric": "auc", "network": "c3d_study", "length": 17, "step_mm": 1.25, "arms": arms,
        "curve": list(STRENGTH), "controls": list(CONTROLS), "networks": list(NETWORKS),
        "learning": [name for name in arms if "_share" in name],
        "answer": {
            "sentence": answer, "arm": "w5", "window": 5, "window_mm": 5.0, "best": "w17",
            "margin": 0.02,
            "distribution": [
                {"arm": n, "window": int(n[1:]), "share": share} for n, share in shares.items()
            ],
        },
        "comparisons": compare_arms(arms), "control_verdicts": verdicts,
        "learning_note": "The curve of 5 slices still rises: more patients may favour context.",
        "planned": {
            "interval_width": 0.064, "correlation": 0.8, "auc": 0.88,
            "sentence": "Before training, 120 patients allowed an interval of width .064.",
        },
        "subgroups": [
            {
                "column": "sex", "value": value, "n": n, "arm": "w5",
                "auc": {"value": 0.93, "low": 0.88, "high": 0.97, "n": n, "method": "bootstrap"},
            }
            for value, n in (("female", 131), ("male", 109))
        ],
        "flipped": flipped,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    if pictures:
        make_cases(folder / "cases", [str(one["case_id"]) for one in flipped[:pictures]])
    return folder


@pytest.fixture(scope="session")
def made_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study, made once; copy it before changing it."""
    return make_study(tmp_path_factory.mktemp("made") / "nodule study")
