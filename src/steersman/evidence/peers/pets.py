"""A PETS-style agent of this library's parts: an ensemble, every future by one of its members, CEM.

Chua, Calandra, McAllister & Levine 2018. Members are deterministic here (their DE-TS∞): the worlds of `steersman
evidence control` are, and what is left to doubt is what the log does not show. The cost is the world's own, known, as
published. Knows no way to train: the model is an ensemble that a recipe trained.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from steersman.actor import CEM
from steersman.agent import Agent
from steersman.core import ConfigError, Risk, Task
from steersman.evidence.control_worlds import ControlWorld, StageCost
from steersman.world_model import TrajectorySampling


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """members of the ensemble and futures of each candidate (5 and 20 there); samples, iterations, elites and horizon
    of CEM (400, 5, 40 and 25 there); execute: actions of a plan carried out before the next decision (1 there)."""

    members: int = 5
    futures: int = 5
    samples: int = 32
    iterations: int = 2
    elites: int = 6
    horizon: int = 25
    execute: int = 1

    def __post_init__(self) -> None:
        if self.members < 2 or self.futures < 1:
            raise ConfigError("members >= 2 and futures >= 1", f"{self}", "5 of each are usual")

    @property
    def planner(self) -> CEM.Config:
        """CEM, its next decision beginning from the last one's mean."""
        return CEM.Config(samples=self.samples, iterations=self.iterations, elites=self.elites, horizon=self.horizon,
                          execute=self.execute, spread=1.0, floor=0.05, momentum=0.1)


def agent(run: Path, world: ControlWorld, config: Config) -> Agent:
    """The agent of a run that trained an ensemble, planning as PETS does; its tasks weigh "stage"."""
    learned = Agent.load(run)
    assert learned.readout is not None
    made = Agent(learned.config, learned.signature, learned.perception, TrajectorySampling(learned.world_model),
                 readout=learned.readout, planner=config.planner.build())
    made.add_cost(StageCost(world, learned.readout))
    return made


def task(world: ControlWorld, config: Config) -> Task:
    """The world's own cost, its mean over the futures of a candidate."""
    return world.task({StageCost.name: 1.0}, risk=Risk(scenarios=config.futures))
