"""Windows a second: the memory-mapped cache against Lance and HDF5 as stable-worldmodel reads them, and against minari.

The same episodes, shuffled windows, batches of 128, into tensors in memory.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import contest as clock
from benchmarks.contest import Contender, contest
from benchmarks.peers import minari, stable_worldmodel
from benchmarks.peers.stable_worldmodel import PREFETCH
from benchmarks.shapes import Lewm
from benchmarks.tables import Table
from steersman.core import ActionSpec, Episode, ObservationSpec, Recording, Signature
from steersman.data import CacheWriter, Dataset, write

BAR = 3.0
FRAMES, BATCH = 4, Lewm.batch


def run(quick: bool) -> list[Table]:
    return [_images(quick), _vectors(quick)]


def _images(quick: bool) -> Table:
    """Bars, at each size of image: at least 3× Lance, against its better number of workers; at least as fast as minari
    with all episodes kept in memory."""
    rows, verdicts = [], {}
    for pixels in (64, 224):
        episodes = _episodes(pixels, count=20 if quick else 60, steps=100)
        found = _compared("pixels", FRAMES, episodes, 5 if quick else 20, quick)
        rows += [{"image": f"{pixels}×{pixels}", **row} for row in found]
        verdicts[f"cache against Lance, {pixels} px"] = (_against(found, "Lance"), BAR)
        verdicts[f"cache against minari in memory, {pixels} px"] = (_against(found, "minari, all kept"), 1.0)
    return Table(
        f"Reading: shuffled windows of {FRAMES} frames, batches of {BATCH}", rows,
        ["Smooth synthetic frames with noise; Lance stores JPEG (quality 95, its default), the others raw pixels.",
         *NOTES], verdicts,
    )


def _vectors(quick: bool) -> Table:
    """Bar: at least as fast as every other reader."""
    random = np.random.default_rng(0)
    count = 40 if quick else 200
    observed = np.cumsum(random.normal(size=(count, 500, 17)), 1).astype(np.float32)
    acted = random.uniform(-1, 1, (count, 500, 6)).astype(np.float32)
    episodes = list(zip(observed, acted, strict=True))
    rows = _compared("state", 16, episodes, 5 if quick else 20, quick)
    peers = ("minari", "stable-worldmodel")
    verdicts = {f"cache against {name}, vectors": (_against(rows, name), 1.0) for name in peers}
    return Table(
        f"Reading: shuffled windows of 16 rows of 17 numbers, {count} episodes of 500 rows, batches of {BATCH}",
        rows, ["minari reads whole episodes: the windows are cut from them.", *NOTES], verdicts,
    )


NOTES = [
    "The page cache is warm for all. stable-worldmodel through torch's DataLoader as in its training script, here and "
    "(where elapsed time is measured) with 2 workers.",
]


def _compared(
    key: str, frames: int, episodes: list[tuple[np.ndarray, np.ndarray]], calls: int, quick: bool
) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        timings = contest(_contenders(Path(folder), key, frames, episodes, calls), 2 if quick else 5)
        sizes = {path.name: _bytes(path) for path in Path(folder).iterdir()}
    stored = {"steersman": "cache", "minari": "log-v0"}
    return [
        {
            "reader": name, "windows/s": timing.rate, "range, s": timing.spread,
            "steersman is × faster": timings["steersman"].rate / timing.rate,
            "MB on disk": sizes[stored.get(name.split(",")[0], f"log.{'lance' if 'Lance' in name else 'h5'}")] / 1e6,
        }
        for name, timing in timings.items()
    ]


def _against(rows: list[dict[str, object]], name: str) -> float:
    """How many times faster than the fastest reader whose name holds `name`."""
    return min((float(str(row["steersman is × faster"])) for row in rows if name in str(row["reader"])), default=0.0)


class Taking:
    """Takes `calls` batches; before that, untimed, `ahead` batches that workers may have prepared meanwhile."""

    def __init__(self, source: Iterator[int], calls: int, ahead: int) -> None:
        self.source, self.calls, self.ahead = source, calls, ahead

    def settle(self) -> None:
        for _ in range(self.ahead):
            next(self.source)

    def __call__(self) -> int:
        return sum(next(self.source) for _ in range(self.calls))


def _contenders(
    folder: Path, key: str, frames: int, episodes: list[tuple[np.ndarray, np.ndarray]], calls: int
) -> list[Contender]:
    """Every reader that is installed, each with the same episodes in its own format."""
    first, actions = episodes[0]
    shape = first.shape[1:]
    signature = Signature(
        {key: ObservationSpec("image" if len(shape) == 3 else "vector", shape)},
        ActionSpec("continuous", (-1.0,) * actions.shape[1], (1.0,) * actions.shape[1]),
    )
    with CacheWriter(folder / "cache", signature) as writer:
        for observed, acted in episodes:
            writer.append(Episode({key: torch.from_numpy(observed)}, torch.from_numpy(acted[:-1])))
        writer.finish("benchmark")

    def drawn() -> Iterator[int]:
        dataset, generator = Dataset.open(folder / "cache"), torch.Generator().manual_seed(0)
        while True:
            yield len(dataset.windows(*dataset.draw(BATCH, frames - 1, generator), frames - 1))

    def taking(batches: Callable[[], Iterator[int]], ahead: int = 0) -> Callable[[], Callable[[], object]]:
        return lambda: Taking(batches(), calls, ahead)

    units = float(BATCH * calls)
    found = [Contender("steersman", taking(drawn), units)]
    if importlib.util.find_spec("stable_worldmodel"):
        workers = (0, 2) if clock.elapsed() else (0,)
        for suffix, title in (("lance", "Lance"), ("h5", "HDF5")):
            path = folder / f"log.{suffix}"
            stable_worldmodel.write(path, episodes, key)
            for count in workers:
                read = partial(stable_worldmodel.batches, path, frames, BATCH, count)
                name = f"stable-worldmodel, {title}" + (f", {count} workers" if count else "")
                found.append(Contender(name, taking(read, 2 * PREFETCH * count), units))
    if importlib.util.find_spec("minari"):
        log = folder / "log-v0"
        write(log, signature, (Recording(observations={key: o}, actions=a[:-1]) for o, a in episodes), format="minari")
        for kept in (False, True):
            read = partial(minari.batches, log, key, frames, BATCH, kept)
            name = f"minari, {'all kept in memory' if kept else 'its own reader'}"
            found.append(Contender(name, taking(read), units))
    return found


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
