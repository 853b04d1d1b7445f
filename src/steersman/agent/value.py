"""What it costs from a state on, learned by temporal differences from the log that a run was trained on.

Shapes: n steps of the log, A action size, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from steersman.agent.agent import Agent
from steersman.agent.distance import latents
from steersman.core import UsageError
from steersman.cost import TDValue
from steersman.data import Dataset

Stage = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Columns after each step, name -> (n,), and actions (n, A) -> what each step costs (n,)."""
_TOGETHER = 4096  # steps whose actions are read at a time


def fit_value(
    agent: Agent, log: Dataset, stage: Stage, *, over: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    config: TDValue.Config | None = None, seed: int = 0,
) -> tuple[TDValue, float]:
    """A value fitted to all steps of a log -> (it, the root of the mean δ²). `agent.add_cost(value)`, a weight in the
    task and `store_additions` keep it: a short horizon then sees what comes after it.

    stage  what a step costs, in the unit of the cost that the task weighs
    over   columns after each step -> which of them end an episode for good (n,) bool; None: none do

    Formula, defaults and source: `cost.TDValue`. Its value is that of the log's own actions for an expectile of 1/2;
    0.1 leans to the best that the log shows.

    Raises:
        UsageError: an agent without a read-out of columns, or whose state is more than its last observation.
        DataError: costs of another shape, or not finite.
    """
    if agent.readout is None or agent.config.history > 1:
        raise UsageError("an agent that reads columns, whose state is its last observation",
                         "no read-out" if agent.readout is None else f"a history of {agent.config.history}",
                         "train with a read-out and without a history")
    lengths = log.lengths
    episode = torch.arange(len(lengths)).repeat_interleave(lengths)
    row = torch.arange(len(episode)) - (lengths.cumsum(0) - lengths)[episode]
    here, after = latents(agent, log, episode, row), latents(agent, log, episode, row + 1)
    pieces = zip(episode.split(_TOGETHER), row.split(_TOGETHER), strict=True)
    actions = torch.cat([log.windows(e, r, 1).actions[:, 0] for e, r in pieces])
    with torch.no_grad():
        read = agent.readout.read(after)
    columns = dict(zip(agent.readout.columns, read.unbind(-1), strict=True))
    value = (config or TDValue.Config()).build(agent.perception.latent_shape)
    ended = None if over is None else over(columns)
    return value, value.fit(here, stage(columns, actions), after, ended, seed=seed)
