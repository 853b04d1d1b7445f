"""An agent's critic, fitted to remembered episodes: triplets (time, state, intrinsic cost) of a log or of its own life.

Shapes: n moments, D latent size, A action size, G targets, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from steersman.actor.ground.verdict import terminal_terms, total_of, weighted_terms
from steersman.agent.agent import Agent
from steersman.agent.distance import latents
from steersman.agent.distilling import drawn_targets, towards
from steersman.core import (
    Belief,
    CallableGoal,
    ColumnGoal,
    Imagined,
    ObservationGoal,
    Task,
    TensorRecord,
    UsageError,
)
from steersman.cost import CriticFit, IntrinsicCritic, require_intrinsic
from steersman.data import Dataset

_TOGETHER = 4096  # moments that are judged at a time


@dataclass(frozen=True)
class Triplets(TensorRecord):
    """n remembered moments.

    time, episode  (n,) int64: when, and in which episode
    states         (n, D) latents of what was observed
    costs          (n,) intrinsic cost of the moment; 0 for an episode's first, which nothing led to
    ended          (n,) bool: the episode was over for good with it
    target         (n, G): what the told columns were to become, or None
    """

    time: Tensor
    episode: Tensor
    states: Tensor
    costs: Tensor
    ended: Tensor
    target: Tensor | None = None

    def __len__(self) -> int:
        return len(self.time)

    def fit(self, critic: IntrinsicCritic, seed: int = 0) -> CriticFit:
        """Fit a critic to them; raises as `IntrinsicCritic.fit`."""
        return critic.fit(self.time, self.episode, self.states, self.costs, target=self.target, ended=self.ended,
                          seed=seed)


def critic_for(
    agent: Agent, task: Task, told: Sequence[str] = (), config: IntrinsicCritic.Config | None = None
) -> IntrinsicCritic:
    """An unfitted critic for this agent and task: it is told the columns `told` of the goal, the others are its aim
    where the task weighs the goal.

    Raises:
        UsageError: columns that the goal does not name.
    """
    aims = _aims(agent, task)
    if not set(told) <= set(aims):
        raise UsageError(f"a goal on the columns {', '.join(told)}", f"one on {', '.join(aims) or 'no columns'}",
                         "name them in the goal")
    if not agent.problem(_any(agent), task).weights.get("goal"):  # what is foreseen asks for no goal
        aims = {name: aims[name] for name in told}
    aim = {name: float(torch.as_tensor(value).reshape(-1)[0]) for name, value in aims.items() if name not in told}
    config = msgspec.structs.replace(config or IntrinsicCritic.Config(), targets=tuple(told), aim=aim)
    return config.build(agent.perception.latent_shape)


def fit_critic(
    agent: Agent, log: Dataset, task: Task, *, told: Sequence[str] = (), config: IntrinsicCritic.Config | None = None,
    over: Callable[[Mapping[str, Tensor]], Tensor] | None = None, seed: int = 0,
) -> tuple[IntrinsicCritic, CriticFit]:
    """A critic fitted to the episodes of a log -> (it, what the fit gave). `agent.add_cost(critic)`, a weight in the
    task and `store_additions` keep it.

    log    the run's own, or what the agent experienced (`record_experience` leaves a log)
    task   its goal and weights say what a moment costs: the sum of its weighed terms, in the unit that plans add up.
           Terms that were fitted, or can be trained, are refused; a critic among them is left out
    told   columns of the goal whose targets the critic is told; where a log had no goal, each of its episodes counts as
           one towards the values that these columns have at another moment of it
    over   columns of each moment -> which of them end an episode for good (n,) bool; None: none do

    Returns say what whoever made the log came to. Of random actions that is what random actions earn: a first critic,
    which `evaluation.practise` makes better by acting with it.

    Raises:
        UsageError: an agent whose state is more than its last observation, exogenous inputs, or a goal without the
            columns `told`. ConfigError: a weighed term that was fitted. DataError: too few or too short episodes.
    """
    critic = critic_for(agent, task, told, config)
    found = triplets_of(agent, log, task, told=told, over=over, seed=seed)
    return critic, found.fit(critic, seed)


def triplets_of(
    agent: Agent, log: Dataset, task: Task, *, told: Sequence[str] = (),
    over: Callable[[Mapping[str, Tensor]], Tensor] | None = None, seed: int = 0,
) -> Triplets:
    """Every moment of a log, encoded and judged; arguments and errors as in `fit_critic`."""
    require_rememberable(agent)
    log = log if agent.signature.pace.plain else log.paced(agent.signature.pace)
    moments = log.lengths + 1
    episode = torch.arange(len(moments)).repeat_interleave(moments)
    row = torch.arange(len(episode)) - (moments.cumsum(0) - moments)[episode]
    states = latents(agent, log, episode, row)
    led = row > 0
    pieces = zip(episode[led].split(_TOGETHER), row[led].split(_TOGETHER), strict=True)
    actions = torch.cat([log.windows(e, r - 1, 1).actions[:, 0] for e, r in pieces])
    target = drawn_targets(agent, log, tuple(told), len(moments), seed)[episode] if told else None
    before, costs = led.nonzero()[:, 0] - 1, torch.zeros(len(states))
    costs[led] = intrinsic_costs(agent, towards(task, told, None if target is None else target[led]),
                                 states[before], actions, states[led])
    ended = torch.zeros(len(states), dtype=torch.bool)
    if over is not None:
        if agent.readout is None:
            raise UsageError("an agent that reads columns, to tell where an episode is over", "no read-out",
                             "train with a read-out, or leave `over` out")
        with torch.no_grad():
            ended = over(dict(zip(agent.readout.columns, agent.readout.read(states).unbind(-1), strict=True)))
    return Triplets(row, episode, states, costs, ended, target)


@torch.no_grad()
def intrinsic_costs(agent: Agent, task: Task, before: Tensor, actions: Tensor, states: Tensor) -> Tensor:
    """What moments cost by the task's weights, (n,): states (n, D), those before them, and the actions (n, A) between.
    Targets of the task's goal are one for all, or (n,).

    Raises:
        ConfigError: the task weighs a term that was fitted, or can be trained. PlanningError: it does not fit.
    """
    costs = []
    for piece in torch.arange(len(states)).split(_TOGETHER):
        problem = agent.problem(Belief(before[piece]), rows_of(task, piece, len(states)))
        names = [name for name, weight in problem.weights.items()
                 if weight and name not in terminal_terms(problem)]
        for cost in problem.costs:
            if cost.name in names:
                require_intrinsic(cost)
        seen = Imagined(torch.stack([before[piece], states[piece]], 1)[:, None])
        parts = weighted_terms(problem, seen, actions[piece][:, None, None], names)
        costs.append(total_of(parts, torch.zeros(len(piece), 1, 1))[:, 0, 0])
    return torch.cat(costs) if costs else torch.zeros(0)


def rows_of(task: Task, index: Tensor, count: int) -> Task:
    """The task for some of `count` moments; a goal that is code is one for all."""
    return task if isinstance(task.goal, CallableGoal) else task.rows(index, count)


def require_rememberable(agent: Agent) -> None:
    """
    Raises:
        UsageError: a state that is more than the last observation, or exogenous inputs.
    """
    if agent.config.history > 1 or agent.config.streaming:
        raise UsageError("an agent whose state is its last observation", "one that carries a history",
                         "train a model without a history")
    if agent.signature.exogenous:
        raise UsageError("an agent whose costs follow from its observations",
                         f"exogenous inputs {', '.join(agent.signature.exogenous)}", "plan without a critic")


def _aims(agent: Agent, task: Task) -> Mapping[str, float | Tensor]:
    """Columns of the goal, as the agent resolves it; empty where it is no columns."""
    goal = task.goal
    if isinstance(goal, ObservationGoal):
        goal = agent.problem(_any(agent), task).task.goal
    return goal.targets if isinstance(goal, ColumnGoal) else {}


def _any(agent: Agent) -> Belief:
    return Belief(torch.zeros(1, *agent.perception.latent_shape))
