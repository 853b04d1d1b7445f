"""Are training and reading as fast as before? For changes that are meant to cost nothing.

    git worktree add /tmp/before REVISION
    uv run python scripts/same_speed.py /tmp/before . --rounds 7

Each round measures both trees, in alternating order, each in a process of its own on one thread: processor time, so
that what else the machine does counts little. Printed: medians, their ratio, and how far single rounds are apart, which
is what a ratio has to be held against.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS = {
    "train vectors": "ms a step", "train two rooms": "ms a step", "read vectors": "ms a batch",
    "read 64 px": "ms a batch", "read 224 px": "ms a batch", "episode of vectors": "ms for 200",
    "episode of 64 px": "ms for 60",
}


def measure() -> dict[str, float]:
    """Milliseconds of processor time, medians, of the tree that PYTHONPATH names."""
    import msgspec
    import torch

    from steersman.recipes import two_rooms, vectors

    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config = vectors.recipe(steps=250, held_out=0.0)
        numbers = log(place / "vectors", 200, 100, 0)
        found["train vectors"] = step(msgspec.structs.replace(config, precision="fp32", prefetch=False), numbers, 50)
        rooms = two_rooms.log(place / "rooms", episodes=60)
        config = two_rooms.recipe(steps=16)
        found["train two rooms"] = step(msgspec.structs.replace(config, prefetch=False), rooms, 4)
        small, large = log(place / "small", 60, 100, 64), log(place / "large", 12, 60, 224)
        for name, dataset, count in (("vectors", numbers, 15), ("64 px", small, 3), ("224 px", large, 3)):
            found[f"read {name}"] = reading(dataset, count)
        for name, dataset in (("vectors", numbers), ("64 px", small)):
            found[f"episode of {name}"] = clocked(lambda dataset=dataset: list(dataset.episodes()), 9)
    return found


def log(path: Path, episodes: int, steps: int, pixels: int) -> Any:
    """Random numbers (0 pixels: 17 columns), or random pictures."""
    import torch

    from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
    from steersman.data import CacheWriter, Dataset

    shape = (pixels, pixels, 3) if pixels else (17,)
    seen = ObservationSpec("image" if pixels else "vector", shape)
    signature = Signature({"seen": seen}, ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)))
    draw = torch.Generator().manual_seed(0)
    with CacheWriter(path, signature) as writer:
        for _ in range(episodes):
            size = (steps + 1, *shape)
            what = (torch.randint(0, 256, size, generator=draw, dtype=torch.uint8) if pixels
                    else torch.randn(size, generator=draw))
            writer.append(Episode({"seen": what}, torch.rand(steps, 2, generator=draw) * 2 - 1))
        writer.finish()
    return Dataset.open(path)


def step(config: Any, dataset: Any, skip: int) -> float:
    from steersman import training

    times: list[float] = []
    training.train(config, dataset, None, progress=lambda progress: times.append(time.process_time()))
    return 1000 * statistics.median(b - a for a, b in zip(times[skip:], times[skip + 1 :], strict=False))


def reading(dataset: Any, length: int) -> float:
    import torch

    draw = torch.Generator().manual_seed(1)
    return clocked(lambda: dataset.windows(*dataset.draw(128, length, draw), length), 60)


def clocked(call: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return 1000 * statistics.median(found[times // 5 :])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the tree before")
    parser.add_argument("after", type=Path, help="a checkout of the tree after")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(measure()))
        return 0
    trees = (arguments.before.absolute(), arguments.after.absolute())
    times: dict[Path, list[dict[str, float]]] = {tree: [] for tree in trees}
    for number in range(arguments.rounds):
        for tree in trees if number % 2 == 0 else reversed(trees):
            done = subprocess.run(
                [sys.executable, __file__, ".", ".", "--inside"], check=True, capture_output=True, text=True,
                env=os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"})
            times[tree].append(json.loads(done.stdout.splitlines()[-1]))
    for row, unit in ROWS.items():
        before, after = ([one[row] for one in times[tree]] for tree in trees)
        ratio = statistics.median(after) / statistics.median(before)
        print(f"{row:20} {statistics.median(before):9.3f} -> {statistics.median(after):9.3f} {unit:11} × {ratio:.3f}"
              f"   (before {min(before):.3f} to {max(before):.3f}, after {min(after):.3f} to {max(after):.3f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
