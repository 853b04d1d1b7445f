"""Logs: how fast the doctor looks at a million rows and how much memory that takes; how fast formats become others."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.contest import Contender, contest, elapsed, say
from benchmarks.tables import Table
from steersman import data
from steersman.core import ActionSpec, ObservationSpec, Recording, Signature
from steersman.evidence.doctor_worlds import pendulum

LIMIT = 60.0
"""Seconds that the doctor may take for a million rows."""
_EXAMINE = """
import json, sys, time
from pathlib import Path
from steersman.data.doctor import examination, examine

def peak():  # of this program; what getrusage says is inherited from the one that started it
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

before, wall, cpu = peak(), time.perf_counter(), time.process_time()
report = examine(sys.argv[1], limits=None)
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rows": report.rows,
    "peak": peak(), "before": before, "alarms": len(report.alarms)}))
"""


def run(quick: bool) -> list[Table]:
    return [_doctor(quick), _converting("vectors", quick), _converting("images", quick)]


# The doctor ------------------------------------------------------------------------------------------------------


def _doctor(quick: bool) -> Table:
    """A process for each look, so that its peak memory is its own."""
    rows = 1_000_000
    signature, recordings = _vectors(rows)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("log.csv", "log.parquet") if quick else ("log.csv", "log.parquet", "log.h5", "log.npz"):
            path = data.write(Path(folder) / name, signature, iter(recordings))
            looks = []
            for _ in range(1 if quick else 3):
                command = [sys.executable, "-c", _EXAMINE, str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                looks.append(json.loads(done.stdout))
                say(f"  examined {name}: {looks[-1]}")
            seconds = statistics.median(look["wall" if elapsed() else "cpu"] for look in looks)
            found.append({
                "log": name, "rows": looks[0]["rows"], "seconds": seconds, "rows/s": looks[0]["rows"] / seconds,
                "peak MB": max(look["peak"] for look in looks),
                "of it before it began": max(look["before"] for look in looks),
                "MB of the file": path.stat().st_size / 1e6, "alarms": looks[0]["alarms"],
            })
    slowest = max(float(str(row["seconds"])) for row in found)
    return Table(
        f"The doctor: {rows:,} rows of a pendulum, {len(recordings):,} episodes", found,
        ["Everything: reading, checks of every column, held-out regressions, horizons. One process a look; median."],
        {f"{rows:,} rows: times within {LIMIT:g} s": (LIMIT / slowest, 1.0)},
    )


# Converting ------------------------------------------------------------------------------------------------------


def _converting(kind: str, quick: bool) -> Table:
    """From each format that people bring to each that they need."""
    rows = 20_000 if quick else 200_000
    signature, recordings = _vectors(rows) if kind == "vectors" else _images(2_000 if quick else 10_000)
    pairs = [
        ("csv", "parquet"), ("parquet", "csv"), ("csv", "hdf5"), ("hdf5", "parquet"), ("npz", "parquet"),
        ("parquet", "npz"), ("parquet", "minari"), ("minari", "parquet"), ("parquet", "lerobot"), ("lerobot", "hdf5"),
    ]
    pairs = [pair for pair in pairs if kind == "vectors" or "csv" not in pair]
    if not importlib.util.find_spec("av"):
        pairs = [pair for pair in pairs if "lerobot" not in pair]
    count = sum(len(r) + 1 for r in recordings)
    size = sum(sum(x.nbytes for x in r.observations.values()) + r.actions.nbytes for r in recordings)
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for name in dict.fromkeys(source for source, _ in pairs):
            sources[name] = Path(folder) / _named("source", name)
            data.write(sources[name], signature, iter(recordings), format=name)
        contenders = [Contender(f"{a} → {b}", _turning(sources[a], Path(folder), b), float(count)) for a, b in pairs]
        timings = contest(contenders, 1 if quick else 3)
    where = "a process of its own" if elapsed() else "the same process, as of logs that are trusted"
    found = [
        {"conversion": name, "rows/s": timing.rate, "MB/s": size / timing.median / 1e6, "range, s": timing.spread}
        for name, timing in timings.items()
    ]
    return Table(
        f"Converting {count:,} rows, {kind}", found,
        [f"{size / 1e6:,.3g} MB as arrays; MB/s are of those. Reading in {where}, written whole or not at all; "
         "LeRobot's images are H.264."])


def _turning(source: Path, folder: Path, format: str) -> Callable[[], Callable[[], object]]:
    numbers = itertools.count()

    def convert() -> object:
        target = folder / _named(f"target{next(numbers)}", format)
        read = data.read(source) if elapsed() else data.read(source, limits=None)  # other processes' time is not seen
        done = data.convert(read, target, format)
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        return done

    return lambda: convert


def _named(stem: str, format: str) -> str:
    return stem + {"hdf5": ".h5", "minari": "-v0", "lerobot": ".lerobot"}.get(format, f".{format}")


def _vectors(rows: int) -> tuple[Signature, list[Recording]]:
    """Pendulums of 200 rows each."""
    c = pendulum(np.random.default_rng(0), rows // 200, 200)
    observed = np.stack([c["cos"], c["sin"], c["speed"]], 1).astype(np.float32).reshape(-1, 200, 3)
    acted = c["action"].astype(np.float32).reshape(-1, 200, 1)[:, :-1]
    signature = Signature(
        {"state": ObservationSpec("vector", (3,), ("cos", "sin", "speed"))}, ActionSpec("continuous", (-2.0,), (2.0,))
    )
    return signature, [
        Recording(observations={"state": o}, actions=a, times=np.arange(200) * 0.05)
        for o, a in zip(observed, acted, strict=True)
    ]


def _images(rows: int) -> tuple[Signature, list[Recording]]:
    """A lit blob that wanders, 64 × 64, 100 rows an episode."""
    def made() -> Iterator[Recording]:
        random = np.random.default_rng(0)
        grid = np.mgrid[:64, :64] / 64
        for _ in range(rows // 100):
            acted = random.uniform(-1, 1, (99, 2)).astype(np.float32)
            where = np.clip(0.5 + 0.03 * np.cumsum(np.vstack([np.zeros(2), acted]), 0), 0.1, 0.9)
            blob = np.exp(-((grid[None] - where[:, :, None, None]) ** 2).sum(1) / 0.01)
            frames = np.repeat((60 + 150 * blob)[..., None], 3, -1) + random.normal(0, 3, (100, 64, 64, 1))
            yield Recording(observations={"camera": np.clip(frames, 0, 255).astype(np.uint8)}, actions=acted,
                            times=np.arange(100) * 0.1)

    action = ActionSpec("continuous", (-1.0,) * 2, (1.0,) * 2)
    return Signature({"camera": ObservationSpec("image", (64, 64, 3))}, action), list(made())
