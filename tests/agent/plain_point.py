"""A point in the plane that moves as it is pushed, seen as it is, in an agent whose model is exact: nothing learned."""

from __future__ import annotations

import msgspec
import torch
from torch import nn

from steersman.actor import CEM
from steersman.agent import Agent, AgentConfig
from steersman.agent.building.further import FurtherBoxes
from steersman.core import (
    ActionSpec,
    Belief,
    FittedPolicy,
    Imagined,
    Latent,
    ObservationSpec,
    Perception,
    Readout,
    Signature,
    WorldModel,
)
from steersman.perception import VectorEncoder
from steersman.world_model import ResidualModel

SIGNATURE = Signature({"vector": ObservationSpec("vector", (2,), ("x", "y"))},
                      ActionSpec("continuous", low=(-1.0, -1.0), high=(1.0, 1.0)))
PLANNER = CEM.Config(samples=48, iterations=3, elites=6, horizon=4)


class Plain(Perception):
    """The state is the observation."""

    latent_shape = (2,)

    def encode(self, observation, task=None):
        return Latent(observation["vector"])


class Pushed(WorldModel):
    """s' = s + a / 10, exactly."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        path = 0.1 * actions.cumsum(2)
        start = belief.state[:, None, None].expand(-1, actions.shape[1], 1, -1)
        return Imagined(torch.cat([start, start + path], 2))


class Columns(Readout):
    """The columns are the state."""

    columns = ("x", "y")

    def read(self, states, context=None):
        return states


class Always(FittedPolicy):
    """One action, wherever one is."""

    config = None
    latent_shape = (2,)

    def __init__(self, *action):
        super().__init__()
        self.action = nn.Parameter(torch.tensor(action), requires_grad=False)

    def propose(self, belief, task):
        return self.action.expand(len(belief), 1, 2)


def agent(planner=PLANNER, configurator=None):
    """A new one; configurator: its Config."""
    config = AgentConfig(perception=VectorEncoder.Config(), world_model=ResidualModel.Config(), planner=planner,
                         configurator=configurator)
    further = FurtherBoxes(configurator=None if configurator is None else configurator.build(SIGNATURE))
    return Agent(config, SIGNATURE, Plain(), Pushed(), readout=Columns(), further=further)


def walk(acting, task, start, steps, seeds=0):
    """Let it act from `start` (B, 2): places (B, steps+1, 2), and the plans."""
    acting.reset(seeds)
    place = torch.as_tensor(start, dtype=torch.float32)
    places, plans = [place], []
    for _ in range(steps):
        plans.append(acting.act({"vector": place}, task))
        place = place + 0.1 * plans[-1].action
        places.append(place)
    return torch.stack(places, 1), plans


def changed(config, **fields):
    """A configuration with other fields."""
    return msgspec.structs.replace(config, **fields)
