"""A random clip of 16 x 128 x 128 out of a prepared scan of 120 x 512 x 512.

Run: python benchmarks/bench_clips.py

medvid cuts it out of the store's memory map; MONAI's PersistentDataset loads the whole prepared
scan and crops. Both are prepared once before, and take turns; medians.
"""

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import PersistentDataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandSpatialCropd
from results import write_section

from medvid.contract import Record
from medvid.data.dataset import ClipDataset, list_items
from medvid.data.labels import LabelSpace
from medvid.data.sampling import Dense
from medvid.data.store import Store
from medvid.io.write import write_nifti

SHAPE = (120, 512, 512)
CLIPS = 100


def keep(sample: dict[str, Any], rng: np.random.Generator | None) -> dict[str, Any]:
    """Changes nothing: the cutting is what is measured."""
    return sample


def main() -> None:
    """Measures, prints, and writes the section of RESULTS.md."""
    warnings.simplefilter("ignore")
    volume = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        write_nifti(path, volume, spacing=(2.5, 0.7, 0.7))
        record, sampler = Record("c", "p", str(path), label="a"), Dense(16)
        dataset = ClipDataset(
            items=list_items([record], "scan", sampler),
            store=Store(Path(folder) / "store"),
            space=LabelSpace(("a", "b"), multilabel=False),
            task="scan",
            sampler=sampler,
            transform=keep,
            crop=(128, 128),
            training=True,
        )
        crop = RandSpatialCropd("image", roi_size=(128, 128, 16), random_size=False)
        load = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), crop])
        peer = PersistentDataset([{"image": str(path)}], load, cache_dir=Path(folder) / "monai")
        readers: dict[str, Callable[[int], Any]] = {
            "medvid ClipDataset": lambda epoch: dataset[(epoch, 0)]["clip"],
            "MONAI PersistentDataset + RandSpatialCropd": lambda epoch: peer[0]["image"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in readers}
        for epoch in range(CLIPS + 1):
            for name, read in readers.items():
                started = time.perf_counter()
                read(epoch)
                if epoch:  # the first one prepares
                    seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    own = medians["medvid ClipDataset"]
    write_section(
        "Random clip of 16 x 128 x 128 from a prepared scan of 120 x 512 x 512",
        ["reader", "ms", "times medvid"],
        [[name, f"{1000 * m:.2f}", f"{m / own:.0f}"] for name, m in medians.items()],
        "python benchmarks/bench_clips.py",
        f"Medians of {CLIPS} clips, taking turns; both prepared before, page cache warm.",
    )


if __name__ == "__main__":
    main()
