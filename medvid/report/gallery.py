"""The cases of the slice player: `cases/` turned into pictures that lie in the page."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from medvid.contract import DataError
from medvid.report.results import read_pictures

MOST_CASES = 16
"""Players on a page; more scroll badly and weigh much."""

MOST_FRAMES = 96
"""Frames of a case; of more, evenly spaced ones are shown."""

LARGEST = 128
"""Pixels along the longer side of a frame; a page is no viewer."""

HEAT_LARGEST = 32
"""Pixels along the longer side of a heat map, which is smooth anyway."""

MOST_BYTES = 12 * 2**20
"""Of all pictures of a page; mail gateways often stop at 20 to 25 MB, and base64 adds a third."""

QUALITY = 85  # JPEG's; 4:2:0 does not matter to grey

HEAT_ALPHA = 150  # of 255, at the hottest place: the anatomy below stays visible

GROUPS = {
    "flipped": "flipped by the context",
    "false_positive": "false positive",
    "false_negative": "false negative",
    "error": "called wrong",
    "confident": "right and confident",
}
"""Words for the groups of index.json, in the order of the page."""

NONE_MADE = (
    "No pictures: they come from the scans and are left out by default, since a page is easily "
    "passed on. `medvid report RUN --gallery 12` takes them in."
)

NONE_OF_FINDINGS = (
    "No errors and no pictures of single cases: a case has several findings here, and each of them "
    "may be right or wrong."
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Gallery:
    """What the template shows.

    Args:
        cases: title, group, score title, size and first slice of every player.
        data: the pictures and scores as JSON, safe inside a script element.
        note: a sentence on what is shown, or why there is nothing.
        heat: whether any case has a heat map.
    """

    cases: tuple[dict[str, Any], ...] = ()
    data: str = "[]"
    note: str = NONE_MADE
    heat: bool = False


def read_gallery(
    run: Path,
    positive: str = "",
    told: Mapping[tuple[str, int], str] | None = None,
    *,
    findings: bool = False,
) -> Gallery:
    """Reads `cases/index.json` and the arrays beside it.

    Args:
        run: the folder of a run or a study.
        positive: the class whose probability stands beside a case; the index names it where it
            differs from case to case.
        told: what stands beside a flipped case instead, by case and frame (-1 for all of it).
        findings: a case has several findings; then pictures are not made.

    Raises:
        DataError: when the index is damaged, or an array that it names is missing or no uint8
            (T, H, W).
    """
    listed = read_pictures(run)
    if not listed:
        return Gallery(note=NONE_OF_FINDINGS if findings else NONE_MADE)
    order = list(GROUPS)
    ranked = sorted(listed, key=lambda one: _rank(order, one["group"]))
    cases: list[dict[str, Any]] = []
    data: list[dict[str, Any]] = []
    weight = 0
    for entry in ranked[:MOST_CASES]:
        shown, pictures = _make_case(run / "cases" / entry["file"], entry, positive, told or {})
        weight += len(pictures["sprite"]) + len(pictures["heat"] or "")
        if weight > MOST_BYTES:
            break
        cases.append(shown)
        data.append(pictures)
    left = len(listed) - len(cases)
    note = "Frames as the network saw them. Click the arrows, the bars or the slider, or use the "
    note += "arrow keys. Scores and heat show what moved this network, not what the finding is."
    if any(case["thinned"] for case in cases):
        note += f" Of cases with more than {MOST_FRAMES} slices, evenly spaced ones are shown."
    if left:
        note += f" {left} more of cases/ are left out, to keep the page light."
    return Gallery(tuple(cases), _encode(data), note, any(one["heat"] for one in data))


def _rank(order: Sequence[str], group: str) -> int:
    return order.index(group) if group in order else len(order)


def _make_case(
    path: Path, entry: Mapping[str, Any], positive: str, told: Mapping[tuple[str, int], str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    frames, heat = _read_arrays(path)
    total = len(frames)
    kept = np.unique(np.linspace(0, total - 1, min(total, MOST_FRAMES)).round().astype(int))
    scores = entry.get("scores") or {}
    given = scores.get("values")
    values = None if given is None else [_plain(given[k]) for k in kept]
    if values is not None and all(value is None for value in values):
        values = None
    numbers = entry.get("frames") or list(range(total))
    size = _shrink(frames.shape[1:], LARGEST)
    columns = max(1, math.isqrt(len(kept)))
    frame = -1 if entry.get("frame") is None else int(entry["frame"])
    title = entry["case_id"] + ("" if frame < 0 else f", slice {frame}")
    named = entry.get("of") or positive  # the pictures of an earlier version name no class
    of = f"probability of {named} " if named else "probability "
    seen = f" in {entry['arm']}" if entry.get("arm") else ""
    said = f"{of}{entry['prob']:.3f}{seen}"
    if entry["group"] == "flipped":
        said = told.get((entry["case_id"], frame), said)
    shown = {
        "title": title,
        "group": GROUPS.get(entry["group"], entry["group"]),
        "said": f"true class {entry['label']}, {said}",
        "width": size[1],
        "height": size[0],
        "frames": len(kept),
        "start": _choose_start([int(numbers[k]) for k in kept], values, frame),
        "scores": values is not None,
        "score_title": scores.get("title", ""),
        "thinned": len(kept) < total,
    }
    pictures = {
        "title": title,
        "columns": columns,
        "rows": math.ceil(len(kept) / columns),
        "numbers": [int(numbers[k]) for k in kept],
        "scores": values,
        "score_title": scores.get("title", ""),
        "sprite": _make_sprite(frames[kept], size, columns),
        "heat": None if heat is None else _make_heat(heat[kept], columns),
    }
    return shown, pictures


def _choose_start(numbers: Sequence[int], values: Sequence[float | None] | None, frame: int) -> int:
    """Returns where a player starts: at the labelled slice, the strongest one, or the middle."""
    if frame in numbers:
        return numbers.index(frame)
    known = {k: abs(value) for k, value in enumerate(values or []) if value is not None}
    return max(known, key=lambda k: known[k]) if known else len(numbers) // 2


def _read_arrays(path: Path) -> tuple[Pixels, Pixels | None]:
    try:
        with np.load(path, allow_pickle=False) as held:
            frames = held["frames"]
            heat = held["heat"] if "heat" in held.files else None
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as frames of a case: {error}. Make the pictures again with "
            "`medvid report RUN --gallery 12`, or delete the folder cases/.",
            code="no_frames",
            files=[path],
        ) from None
    for array in (frames, heat):
        if array is not None and (array.ndim != 3 or array.dtype != np.uint8 or not array.size):
            raise DataError(
                f"{path} holds {array.dtype} of shape {array.shape}; frames and heat are uint8 "
                "(T, H, W).",
                code="no_frames",
                files=[path],
            )
    return frames, heat


def _shrink(size: Sequence[int], largest: int) -> tuple[int, int]:
    scale = min(1.0, largest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _make_sprite(frames: Pixels, size: tuple[int, int], columns: int) -> str:
    """Lays the frames side by side, row by row, into one JPEG."""
    rows = math.ceil(len(frames) / columns)
    sheet = Image.new("L", (columns * size[1], rows * size[0]))
    for number, frame in enumerate(frames):
        picture = Image.fromarray(frame)
        if picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        sheet.paste(picture, (number % columns * size[1], number // columns * size[0]))
    return _to_url(sheet, "JPEG", quality=QUALITY)


def _make_heat(heat: Pixels, columns: int) -> str:
    """Lays heat maps into one PNG: orange, the more opaque the hotter."""
    size = _shrink(heat.shape[1:], HEAT_LARGEST)
    rows = math.ceil(len(heat) / columns)
    sheet = Image.new("L", (columns * size[1], rows * size[0]))
    for number, one in enumerate(heat):
        picture = Image.fromarray(one).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        sheet.paste(picture, (number % columns * size[1], number // columns * size[0]))
    # 16 steps of opacity are as many as an eye tells apart here, and pack four times as well
    values = np.asarray(sheet).astype(np.float64) / 255
    alpha = (np.round(values * 15) / 15 * HEAT_ALPHA).astype(np.uint8)
    colour = np.broadcast_to(np.array([255, 120, 0], np.uint8), (*alpha.shape, 3))
    return _to_url(Image.fromarray(np.dstack([colour, alpha])), "PNG", optimize=True)


def _to_url(picture: Image.Image, kind: str, **options: Any) -> str:
    held = io.BytesIO()
    picture.save(held, kind, **options)
    code = base64.b64encode(held.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{code}"


def _plain(value: float | int | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _encode(data: Sequence[Mapping[str, Any]]) -> Markup:
    """Returns JSON that ends no script element, whatever a case is called."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
