"""Windows a second: the memory-mapped cache against Lance and HDF5 as stable-worldmodel reads them.

The same episodes, shuffled windows of 4 frames, batches of 128, into tensors in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.contest import Contender, contest
from benchmarks.peers import stable_worldmodel
from benchmarks.peers.stable_worldmodel import PREFETCH
from benchmarks.shapes import Lewm
from benchmarks.tables import Table
from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset

BAR = 3.0
FRAMES, BATCH = 4, Lewm.batch


def run(quick: bool) -> Table:
    """Bar: at least 3× Lance, at each size of image, against Lance's better number of workers."""
    rows, verdicts = [], {}
    for pixels in (64, 224):
        episodes = _episodes(pixels, count=20 if quick else 60, steps=100)
        with tempfile.TemporaryDirectory() as folder:
            timings = contest(_contenders(Path(folder), episodes, 5 if quick else 20), 2 if quick else 5)
            sizes = {path.name: _bytes(path) for path in Path(folder).iterdir()}
        ours = timings["steersman"].rate
        for name, timing in timings.items():
            stored = "cache" if name == "steersman" else f"log.{'lance' if 'Lance' in name else 'h5'}"
            rows.append({
                "image": f"{pixels}×{pixels}", "reader": name, "windows/s": timing.rate,
                "steersman is × faster": ours / timing.rate, "MB on disk": sizes[stored] / 1e6,
            })
        best = max(t.rate for name, t in timings.items() if "Lance" in name)
        verdicts[f"cache against Lance, {pixels} px"] = (ours / best, BAR)
    return Table(
        f"Reading: shuffled windows of {FRAMES} frames, batches of {BATCH}", rows,
        [
            "Smooth synthetic frames with noise; Lance stores JPEG (quality 95, its default), HDF5 and the cache raw "
            "pixels. The page cache is warm for all.",
            "stable-worldmodel through torch's DataLoader as in its training script, here and with 2 workers.",
        ],
        verdicts,
    )


class Taking:
    """Takes `calls` batches; before that, untimed, `ahead` batches that workers may have prepared meanwhile."""

    def __init__(self, source: Iterator[int], calls: int, ahead: int) -> None:
        self.source, self.calls, self.ahead = source, calls, ahead

    def settle(self) -> None:
        for _ in range(self.ahead):
            next(self.source)

    def __call__(self) -> int:
        return sum(next(self.source) for _ in range(self.calls))


def _contenders(folder: Path, episodes: list[tuple[np.ndarray, np.ndarray]], calls: int) -> list[Contender]:
    pixels = episodes[0][0].shape[1]
    signature = Signature(
        {"pixels": ObservationSpec("image", (pixels, pixels, 3))},
        ActionSpec("continuous", (-1.0,) * 2, (1.0,) * 2),
    )
    with CacheWriter(folder / "cache", signature) as writer:
        for frames, actions in episodes:
            writer.append(Episode({"pixels": torch.from_numpy(frames)}, torch.from_numpy(actions[:-1])))
        writer.finish("benchmark")
    for suffix in ("lance", "h5"):
        stable_worldmodel.write(folder / f"log.{suffix}", episodes)

    def drawn() -> Iterator[int]:
        dataset, generator = Dataset.open(folder / "cache"), torch.Generator().manual_seed(0)
        while True:
            yield len(dataset.windows(*dataset.draw(BATCH, FRAMES - 1, generator), FRAMES - 1))

    def taking(batches: Callable[[], Iterator[int]], ahead: int = 0) -> Callable[[], Callable[[], object]]:
        return lambda: Taking(batches(), calls, ahead)

    def peer(suffix: str, workers: int) -> Callable[[], Callable[[], object]]:
        path = folder / f"log.{suffix}"
        return taking(lambda: stable_worldmodel.batches(path, FRAMES, BATCH, workers), 2 * PREFETCH * workers)

    units = float(BATCH * calls)
    return [
        Contender("steersman", taking(drawn), units),
        Contender("stable-worldmodel, Lance", peer("lance", 0), units),
        Contender("stable-worldmodel, Lance, 2 workers", peer("lance", 2), units),
        Contender("stable-worldmodel, HDF5", peer("h5", 0), units),
        Contender("stable-worldmodel, HDF5, 2 workers", peer("h5", 2), units),
    ]


def _episodes(pixels: int, count: int, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """A blob that wanders over a shaded floor with sensor noise: frames (T, H, W, 3) uint8, actions (T, 2)."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:pixels, 0:pixels].astype(np.float32) / pixels
    episodes = []
    for _ in range(count):
        actions = random.uniform(-1, 1, (steps, 2)).astype(np.float32)
        where = np.clip(0.5 + 0.05 * np.cumsum(actions, 0), 0.1, 0.9)
        blob = np.exp(-((rows - where[:, 0, None, None]) ** 2 + (columns - where[:, 1, None, None]) ** 2) / 0.01)
        floor = 60 + 80 * rows[..., None] * random.uniform(0.5, 1, 3).astype(np.float32)
        frames = floor + 110 * blob[..., None] + random.normal(0, 4, (steps, pixels, pixels, 1))
        episodes.append((np.clip(frames, 0, 255).astype(np.uint8), actions))
    return episodes


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
