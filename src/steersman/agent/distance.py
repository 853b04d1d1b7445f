"""How many steps it takes from one state of a run to another, learned from the log that the run was trained on.

Shapes: n moments of the log, D latent size.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from steersman.agent.agent import Agent
from steersman.core import Goal, Observation, ObservationGoal
from steersman.cost import TemporalDistance

_TOGETHER = 512  # moments that are encoded at a time


class Moments(Protocol):
    """A log as the agent sees it."""

    lengths: Tensor

    def frames(self, episode: Tensor, row: Tensor) -> Observation:
        """Moments (n, …) of these episodes at these rows."""


def latents(agent: Agent, log: Moments, episode: Tensor, row: Tensor) -> Tensor:
    """(n, …): the latents of moments of a log."""
    pieces = zip(episode.split(_TOGETHER), row.split(_TOGETHER), strict=True)
    states = [agent.encode(log.frames(e, r)).state for e, r in pieces]
    return torch.cat(states).clone() if states else torch.zeros(0, *agent.perception.latent_shape)


def fit_distance(
    agent: Agent, log: Moments, seed: int = 0, over: Literal["steps", "last"] = "steps"
) -> tuple[TemporalDistance, float]:
    """A temporal distance fitted to all moments of a log -> (it, what a step counts as, 1 at best). With a read-out it
    also takes goals on its columns. `agent.add_cost(distance)`, a weight in the task and `store_additions` keep it.

    over  "last": only the end of what is imagined counts, for use beside a goal on columns

    Distance between latents says how alike two states look to the encoder; sitting still half-way may cost less than
    going round. This says how far it is to go, which is what a goal that is a picture asks.

    Formula, defaults and source: `cost.TemporalDistance`.

    Raises:
        DataError: a log without two moments on end.
    """
    lengths = log.lengths + 1
    episode = torch.arange(len(lengths)).repeat_interleave(lengths)
    row = torch.arange(len(episode)) - (lengths.cumsum(0) - lengths)[episode]
    states, readout = latents(agent, log, episode, row), agent.readout
    values = None if readout is None else readout.read(states)
    config = (TemporalDistance.Config(over=over) if readout is None else
              TemporalDistance.Located(over=over, columns=readout.columns))
    distance = config.build(agent.perception.latent_shape)
    return distance, distance.fit(states, episode, values=values, seed=seed)


def weights_towards(agent: Agent, goal: Goal) -> dict[str, float]:
    """How plans weigh an agent's terms where nobody says: a goal that is a picture by the temporal distance alone, if
    one that counts every step was fitted and kept; every other goal by how alike it is.

    Likeness to a picture saturates a few steps away and does not know which way leads there (`fit_distance`). Columns
    are exact near the goal, and a distance to them knows the log's nearest moments only.
    """
    name = TemporalDistance.name
    kept = any(getattr(cost, "name", "") == name and not cost.terminal for cost in agent.costs)
    shown = goal.observation if isinstance(goal, ObservationGoal) else {}
    if kept and any(agent.signature.observations[key].kind == "image" for key in shown
                    if key in agent.signature.observations):
        return {"goal": 0.0, name: 1.0}
    return {"goal": 1.0}
