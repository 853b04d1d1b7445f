"""What a training will take, measured by a few steps of it: time, memory, disk. Learns nothing, writes nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from steersman.training.config import RolloutStage, TrainConfig
from steersman.training.loop import train
from steersman.training.session import Progress

_STEPS = 4
_BYTES_PER_PARAMETER = 12  # weights and AdamW's two moments, float32
_METRICS_PER_STEP = 600


@dataclass(frozen=True)
class Forecast:
    """What it will take on this machine, as busy as it is now.

    seconds         of the whole training
    step_seconds    of one step, for each rollout stage
    memory_bytes    largest resident size of this process so far
    disk_bytes      checkpoints and metrics (the cache of the log aside)
    parameters      numbers that are learned and act
    loss            of the first step: finite, so the parts and the data fit together
    """

    seconds: float
    step_seconds: tuple[float, ...]
    memory_bytes: int | None
    disk_bytes: int
    parameters: int
    loss: float


def forecast(config: TrainConfig, dataset: Any) -> Forecast:
    """Run a few steps of every rollout stage of `config` on `dataset` and extrapolate.

    Raises:
        ConfigError, DataError, DivergedError: what training itself would raise at its first step.
    """
    before, seconds, each = 0.0, 0.0, []
    losses: list[float] = []
    for stage in config.stages:
        whole = RolloutStage(until=1.0, starts=stage.starts, horizon=stage.horizon)
        trial = msgspec.structs.replace(config, steps=_STEPS, rollout=(whole,), warmup=0, gauge_every=0)
        times: list[float] = []

        def clock(progress: Progress, times: list[float] = times) -> None:
            times.append(time.perf_counter())
            losses.append(progress.loss)

        trained = train(trial, dataset, None, progress=clock)
        each.append(min(b - a for a, b in pairwise(times)))
        seconds += (stage.until - before) * config.steps * each[-1]
        before = stage.until
    parameters = sum(p.numel() for part in (trained.perception, trained.world_model) if part for p in part.parameters())
    disk = (config.keep + 1) * _BYTES_PER_PARAMETER * parameters + _METRICS_PER_STEP * config.steps
    return Forecast(seconds, tuple(each), _memory(), disk, parameters, losses[0])


def _memory() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
