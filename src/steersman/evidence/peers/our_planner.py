"""Our planner and our read-out on anybody's perception and world model.

Shapes: B problems, n steps carried out, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor import ICEM
from steersman.agent import Agent, AgentConfig
from steersman.agent.distance import Moments, fit_distance
from steersman.core import (
    ColumnGoal,
    Observation,
    ObservationGoal,
    Perception,
    PlannerConfig,
    Readout,
    Signature,
    Task,
    WorldModel,
)
from steersman.evidence.peers.policy import GoalPolicy
from steersman.perception import KernelReadout
from steersman.worlds import Labelled

PLANNER = ICEM.Config(samples=128, iterations=4, horizon=10)
"""Ours, as most recipes have it; a horizon that rivals' predictors can afford."""


@dataclass(frozen=True)
class _Seeing:
    """A perception that is here already, in the form in which a configuration names parts."""

    part: Perception

    def build(self, signature: Signature) -> Perception:
        return self.part


class OurPlanner(GoalPolicy):
    """Plans towards the goal's picture: by distance in the latent; with a read-out, by the columns that are read off
    the goal's latent; with a log, by a temporal distance that is fitted to it. Every decision starts anew from one
    moment.

    log  in the moments of the signature; without a read-out
    """

    def __init__(self, signature: Signature, perception: Perception, world_model: WorldModel,
                 readout: Readout | None = None, planner: PlannerConfig = PLANNER, execute: int = 1,
                 seed: int = 0, log: Moments | None = None) -> None:
        self.signature, self.readout, self.execute, self.seed, self.calls = signature, readout, execute, seed, 0
        config = AgentConfig(perception=_Seeing(perception), planner=planner)
        self.agent = Agent(config, signature, perception, world_model, readout=readout)
        self.weights = {"goal": 1.0}
        if log is not None:
            distance, _ = fit_distance(self.agent, log, seed)
            self.agent.add_cost(distance)
            self.weights = {"goal": 0.0, distance.name: 1.0}

    @torch.no_grad()
    def act(self, observation: Observation, goal: Observation) -> Tensor:
        self.agent.reset((self.seed * 1_000_003 + self.calls) % 2**31)
        self.calls += 1
        plan = self.agent.act(observation, Task(self._goal(goal), weights=self.weights))
        return plan.actions[:, : self.execute]

    def _goal(self, goal: Observation) -> ObservationGoal | ColumnGoal:
        if self.readout is None:
            return ObservationGoal(goal)
        read = self.readout.read(self.agent.encode(goal).state)
        return ColumnGoal(dict(zip(self.readout.columns, read.unbind(-1), strict=True)))


@torch.no_grad()
def read_out(perception: Perception, labelled: Labelled, seed: int = 0) -> Readout:
    """A kernel read-out fitted to the labelled frames: the last moment of each."""
    last = {name: value[:, -1:] for name, value in labelled.observations.items()}
    states = torch.cat([perception.encode({name: value[i : i + 256] for name, value in last.items()}).state[:, 0]
                        for i in range(0, len(labelled.values), 256)])
    readout = KernelReadout.Config().build(labelled.columns, perception.latent_shape)
    readout.fit(states, labelled.values, seed)
    return readout
