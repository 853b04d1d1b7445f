"""Levels of abstraction, trained from the lowest up: each is a run over what the finished one below it encodes.

What a level is, and how it is asked, says `world_model.hierarchy`. Shapes: T rows of an episode, D latent size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.agent import load_parts
from steersman.core import ConfigError, DataError, Episode, Pace, StorageError
from steersman.data import CacheWriter, Dataset
from steersman.runs import Run
from steersman.training.config import TrainConfig
from steersman.training.loop import create_run, train
from steersman.world_model.hierarchy import (
    BELOW,
    Abstraction,
    Hierarchy,
    measured_stride,
    signature_above,
    windows,
)

_FILE = "abstraction.json"
_MEASURED = 32  # films that a stride is measured on


class AbstractionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one level of abstraction is trained.

    train   its parts, objectives and steps. Its `window` is in this level's own steps. The first level's pace is its
            own; of the others the pace is set by the stride
    stride  steps of the level below in one of its own; 0: measured (`measured_stride`), at most `longest`. The first
            level's is its pace's step, and this is left at 1
    window  states of the level below that it sees at once; not of the first level
    """

    train: TrainConfig
    stride: int = 1
    window: int = 4
    longest: int = 16

    def __post_init__(self) -> None:
        if self.stride < 0 or min(self.window, self.longest) < 1:
            raise ConfigError("stride >= 0, window >= 1, longest >= 1", f"{self.stride}, {self.window}, {self.longest}",
                              "0 has the stride measured")
        if self.train.agent.world_model is None:
            raise ConfigError("a world model at every level", "none", "give `train.agent.world_model`")


@dataclass(frozen=True)
class Ascended:
    """What training left.

    hierarchy  the levels, in evaluation mode
    seconds    CPU-seconds of each level: training, and encoding the log for it
    """

    hierarchy: Hierarchy
    seconds: tuple[float, ...]


def ascend(
    levels: Sequence[AbstractionConfig], dataset: Dataset, folder: Path | str, *, upon: Hierarchy | None = None,
    progress: Callable[..., None] | None = None,
) -> Ascended:
    """Train levels of abstraction from the lowest up, each with the ones below it at rest, into `folder`: runs
    `level-1`, `level-2`, …, and the logs of what they see, `log-2`, …. Nothing of a level reaches the one below.

    The dataset is of rows, not paced; `open_hierarchy` reads the folder again.

    upon      finished levels that these stand on; they stay in their own folder, and the first of `levels` is then the
              level above them. None: the first one sees the log
    progress  as in `train`

    Raises:
        ConfigError: no level, a paced dataset.
        DataError: episodes shorter than what a level's window and stride need, in words.
        DivergedError, StorageError: as training does.
    """
    if not levels or not dataset.pace.plain:
        raise ConfigError("at least one level, and a log in rows", f"{len(levels)} levels, {dataset.pace.words()}",
                          "pass the log as it was recorded")
    folder, log = Path(folder), dataset
    found = [] if upon is None else [upon.level(i) for i in range(1, len(upon) + 1)]
    for lower, upper in pairwise(found):
        log = _lifted(lower, log, upper.window, upper.apart, folder / f"log-{found.index(upper) + 1}")
    spent = []
    for number, config in enumerate(levels, len(found) + 1):
        began = time.process_time()
        stride = _first(config) if not found else None
        if stride is None:
            lower = found[-1]
            steps = config.stride or _measured(lower, log, config.longest)
            stride = Stride(every=steps * lower.every, window=config.window, apart=lower.every)
            _require_long(number, log, config, stride)
            log = _lifted(lower, log, stride.window, stride.apart, folder / f"log-{number}")
        pace = config.train.pace if number == 1 else Pace(step=stride.every)
        settings = msgspec.structs.replace(config.train, pace=pace)
        place = folder / f"level-{number}"
        with create_run(place, settings, log, recipe=f"abstraction/level-{number}") as run:
            train(settings, log, run, progress=progress)
            run.write_json(_FILE, stride)
        found.append(_opened(place))
        spent.append(time.process_time() - began)
    return Ascended(Hierarchy(found).eval(), tuple(spent))


class Stride(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`abstraction.json` of a level's run; see `Abstraction`."""

    every: int
    window: int
    apart: int


def open_hierarchy(folder: Path | str, upon: Hierarchy | None = None) -> Hierarchy:
    """The levels that `ascend` left in `folder`, on top of those that they were trained upon, to be asked only.

    Raises:
        ConfigError: they do not stand on these.
        StorageError: there are none.
        RunError, CheckpointError: a level is missing, damaged or foreign.
    """
    places = sorted(Path(folder).glob("level-*"), key=lambda path: int(path.name.removeprefix("level-")))
    if not places:
        raise StorageError(f"levels of abstraction in {folder}", "none", "train some with `training.ascend`")
    below = [] if upon is None else [upon.level(i) for i in range(1, len(upon) + 1)]
    return Hierarchy([*below, *(_opened(place) for place in places)]).eval()


def _opened(place: Path) -> Abstraction:
    run = Run.open(place)
    stride = msgspec.json.decode((place / _FILE).read_bytes(), type=Stride)
    loaded = load_parts(run)
    model = loaded.parts.world_model
    assert model is not None
    made = Abstraction(loaded.parts.perception, model, loaded.signature, every=stride.every, window=stride.window,
                       apart=stride.apart)
    return made.eval().requires_grad_(False)


def _first(config: AbstractionConfig) -> Stride:
    """Of the level that sees the log: as its pace says."""
    pace = config.train.pace
    if isinstance(pace, str) or config.stride != 1:
        raise ConfigError("a stated pace, and stride=1, at the first level", f"{pace!r}, {config.stride}",
                          "say in `train.pace` how many rows a step lasts, and how many pictures a moment shows")
    return Stride(every=pace.step, window=1, apart=1)


def _require_long(number: int, log: Dataset, config: AbstractionConfig, stride: Stride) -> None:
    rows = (stride.window - 1) * stride.apart + config.train.window * stride.every
    longest = int(log.lengths.max())
    if longest < rows:
        raise DataError(
            f"episodes of at least {rows} steps for level {number}: windows of {stride.window} states {stride.apart} "
            f"rows apart, then {config.train.window} steps of {stride.every} rows", f"the longest has {longest} left",
            "shorten the stride, the windows, or `train.window`, or record longer episodes")


@torch.no_grad()
def _states(lower: Abstraction, log: Any, index: int) -> Tensor:
    """(1, T, D): states of `lower` at every row of an episode of `log`, which is what it sees, row by row."""
    seen = log.episode(index).observations
    return lower.encode({name: x[None] for name, x in seen.items()}).float()


def _rowwise(lower: Abstraction, log: Dataset) -> Dataset:
    """The log that `lower` was trained on, with a moment at every row."""
    pace = lower.signature.pace
    return log.paced(Pace(frames=pace.frames, apart=pace.apart))


def _measured(lower: Abstraction, log: Dataset, longest: int) -> int:
    rows = _rowwise(lower, log)
    length = int(rows.lengths.max())
    whole = [i for i in range(len(rows)) if int(rows.lengths[i]) == length][-_MEASURED:]
    return measured_stride(lower, torch.cat([_states(lower, rows, i) for i in whole]), longest)


def _lifted(lower: Abstraction, log: Dataset, window: int, apart: int, place: Path) -> Dataset:
    """The log of the level above: at each row, a window of what `lower` encodes."""
    rows = _rowwise(lower, log)

    def episodes() -> Iterator[Episode]:
        for i in range(len(rows)):
            if int(rows.lengths[i]) >= (window - 1) * apart:
                seen = windows(_states(lower, rows, i), window, apart)[0]
                yield Episode({BELOW: seen}, torch.zeros(len(seen) - 1, 0))

    with CacheWriter(place, signature_above(lower.size, window), origin=f"what {log.index.origin} looks like from "
                     "one level of abstraction higher") as writer:
        writer.append(episodes())
        writer.finish()
    return Dataset.open(place)
