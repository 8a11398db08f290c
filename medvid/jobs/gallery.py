"""The pictures of a report's slice player: some cases as the network saw them, and where it looked.

They are made on request only: they hold pixels of patients.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from medvid.contract import DataError, VideoModel
from medvid.jobs.cell import read_study
from medvid.jobs.data_section import read_records, resolve_data
from medvid.jobs.messages import show_progress
from medvid.jobs.network import data_of, load_network
from medvid.jobs.picks import Pick, pick_from_run, pick_from_study
from medvid.jobs.resume import recall_config
from medvid.report.html import check_finished
from medvid.train.explain import make_heat_map, score_slices
from medvid.train.runfolder import RunFolder, write_json

SHOWN_TAILS = (0.5, 99.5)
"""Per cent of the clip's values that become black and white."""


def make_gallery(folder: Path, number: int, console: Console | None = None) -> int:
    """Writes `cases/`: frames, scores slice by slice and heat maps of some cases.

    Args:
        folder: a finished run or a study, of one class a case.
        number: cases at most.
        console: where progress is shown.

    Returns:
        How many cases were made.

    Raises:
        DataError: when the scans or the networks are not there any more, nothing is finished, or
            a case has several findings.
    """
    check_finished(folder)
    study = (folder / "study.json").is_file()
    picks = pick_from_study(folder, number) if study else pick_from_run(folder, number)
    config = read_study(folder) if study else recall_config(RunFolder(folder))
    records = {record.case_id: record for record in read_records(resolve_data(config))[0]}
    store = config["data"]["store"]
    beside = folder / "cases.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    index = []
    with show_progress(console, "looking at cases") as progress:
        for place, pick in enumerate(picks):
            if not pick.checkpoint.is_file():
                raise DataError(
                    f"{pick.checkpoint} is not there any more, so nobody can say where the network "
                    "looked. A gallery needs the networks of the run.",
                    code="no_checkpoint",
                    files=[pick.checkpoint],
                )
            arrays, entry = _look_at(pick, records[pick.case_id], store)
            name = f"case_{place:03d}.npz"
            np.savez_compressed(beside / name, **arrays)
            index.append({**entry, "file": name})
            progress(place + 1, len(picks))
    write_json(beside / "index.json", index)
    shutil.rmtree(folder / "cases", ignore_errors=True)
    beside.rename(folder / "cases")
    return len(index)


def _look_at(pick: Pick, record: Any, store: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arrays of a case, and its entry in index.json."""
    network, meta = load_network(pick.checkpoint)
    data = data_of(meta, [record], store)
    dataset = data.dataset([record.case_id], training=False, seed=0)
    places = (k for k, item in enumerate(dataset.items) if item.frame == pick.frame)
    place = next(places, None)  # None: every slice of a clip is scored in one pass
    clip, mask, window = _choose_clip(dataset[place or 0], pick.frame)
    dense = data.task == "slice" and place is None
    classes: Sequence[str] = meta["classes"]
    column = classes.index(pick.of)
    arrays: dict[str, Any] = {"frames": _to_grey(clip[0])}
    title, scores, heat = "", None, None
    if tuple(cast("VideoModel", network).modalities) == ("clip",):  # others are not explained
        title, scores = score_slices(network, clip, mask, column, dense=dense)
        heat = None if dense else make_heat_map(network, clip, mask, column)
    if heat is not None:
        arrays["heat"] = (255 * heat).round().to(torch.uint8).numpy()
    return arrays, {
        "case_id": pick.case_id,
        **({} if pick.frame is None else {"frame": pick.frame}),
        "label": pick.label,
        "prob": pick.prob,
        "of": pick.of,
        "group": pick.group,
        **({"arm": pick.arm} if pick.arm else {}),
        "frames": window.tolist(),
        **({} if scores is None else {"scores": {"title": title, "values": scores}}),
    }


def _choose_clip(
    sample: dict[str, Any], frame: int | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns clip, mask and window of a sample; of several clips the one around the frame.

    Where no frame is asked for it is the middle clip.
    """
    clip, mask, window = sample["clip"], sample["mask"], sample["window"]
    if clip.ndim == 4:
        return clip, mask, window
    chosen = len(clip) // 2
    if frame is not None:
        # The farther a slice lies from the edge of its clip, the more of its neighbours are seen.
        t = window.shape[1]
        depth = torch.tensor([min(k, t - 1 - k) for k in range(t)])
        shown = (window == frame) & mask
        chosen = int(torch.where(shown, depth, -1).amax(dim=1).argmax())
    return clip[chosen], mask[chosen], window[chosen]


def _to_grey(frames: torch.Tensor) -> NDArray[np.uint8]:
    values = frames.numpy()
    low, high = np.percentile(values, SHOWN_TAILS)
    shown = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1)
    return np.asarray(np.rint(255 * shown), dtype=np.uint8)
