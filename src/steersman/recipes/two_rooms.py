"""Two rooms from pixels: the recipe behind `steersman demo`. General parts only; what each is for is in LOG.md.

The log that it learns from is `log`: random wandering, pictures and actions, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from steersman.actor import Search
from steersman.agent import AgentConfig
from steersman.data import CacheWriter, Dataset
from steersman.objectives import InverseDynamics, Motion, Prediction, TemporalSimilarity, VICReg
from steersman.perception import SceneEncoder
from steersman.training import RolloutStage, TrainConfig
from steersman.world_model import MapReader
from steersman.worlds import TwoRooms, wander
from steersman.worlds.two_rooms import SIGNATURE

EPISODES, STEPS = 4000, 32


def recipe(*, steps: int = 1500, batch_size: int = 24, seed: int = 0) -> TrainConfig:
    """Random wandering in two rooms, as pictures -> goals in the other room.

    steps       optimiser steps
    batch_size  windows of 16 steps per optimiser step
    seed        of the training
    """
    return TrainConfig(
        agent=AgentConfig(
            perception=SceneEncoder.Config(),
            world_model=MapReader.Config(),
            planner=Search.Config(),
        ),
        objectives=(
            Prediction.Config(weight=12),
            VICReg.Config(variance=16, within=16, covariance=4, std_within=0.5),
            TemporalSimilarity.Config(weight=0.5),
            InverseDynamics.Config(weight=4),
            Motion.Config(weight=3, predicted_weight=1),
        ),
        steps=steps,
        window=16,
        batch_size=batch_size,
        rollout=(RolloutStage(until=0.6, starts=4, horizon=4), RolloutStage(until=1.0, starts=2, horizon=8)),
        start_noise=0.5,
        lr=5e-3,
        weight_decay=1e-2,
        warmup=30,
        floor=0.02,
        clip=5,
        precision="auto",
        prioritise=True,
        probe=False,
        gauge_every=100,
        seed=seed,
    )


def log(
    path: Path,
    *,
    episodes: int = EPISODES,
    steps: int = STEPS,
    seed: int = 0,
    world: TwoRooms.Config | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Record random wandering into a training cache at `path`; 64×64 RGB, one layout per episode.

    The fingerprint is that of the arrays. `world` defaults to the layouts of the log.

    Raises:
        StorageError: the disk refused; nothing is left behind.
    """
    world = world or TwoRooms.Config()
    origin = f"wander({msgspec.json.encode(world).decode()}, episodes={episodes}, steps={steps}, seed={seed})"
    with CacheWriter(path, SIGNATURE, origin=origin) as writer:
        done = 0
        for chunk in wander(world, episodes, steps, seed):
            writer.append(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, episodes)
        writer.finish()
    return Dataset.open(path)
