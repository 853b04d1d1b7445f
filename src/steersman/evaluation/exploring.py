"""Guarded curiosity: episodes in which an agent goes where its ensemble disagrees, inside the limits that it is given.

Knows the agent, trials and guardrails, no world. Shapes: B episodes, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import ColumnGoal, Episode, Guardrail, Imagined, Task, UsageError
from steersman.cost import DisagreementCost
from steersman.evaluation.measured_limits import over_columns
from steersman.evaluation.protocol import Seen, follow, in_steps, steps_of
from steersman.evaluation.success import Tally
from steersman.runs import Run
from steersman.runs.experience import FOLDER, ExperienceReader
from steersman.worlds import Trials

CURIOSITY = "curiosity"


@dataclass(frozen=True)
class Explored:
    """What came of B episodes of exploration.

    steps       actions of the world, over all episodes
    violated    (B,) bool: what the world forbids was done (False where it forbids nothing)
    forbids     whether anything is forbidden there
    infeasible  decisions for which no plan met every guardrail
    decisions   in all
    paths       (B, T+1, P) places, where the world has such
    """

    steps: int
    violated: Tensor
    forbids: bool
    infeasible: int
    decisions: int
    paths: Tensor | None


def require_ensemble(agent: Agent) -> None:
    """
    Raises:
        UsageError: the world model is a single one, which cannot disagree.
    """
    if len(agent.world_model.singles()) < 2:
        raise UsageError("a run with an ensemble, whose members can disagree", "a single world model",
                         "train one with `steersman train … --recipe vectors --members 5`, or --set "
                         "agent.world_model.members=5")


def curious(agent: Agent, guardrails: Sequence[Guardrail] = ()) -> Task:
    """The task to go where the ensemble disagrees, inside guardrails. The agent gets the term "curiosity" if it has
    none.

        energy = - Σ_t disagreement of the imagined step t                 (Sekar et al. 2020)

    Raises:
        UsageError: no ensemble.
    """
    require_ensemble(agent)
    if all(cost.name != CURIOSITY for cost in agent.costs):
        agent.add_cost(DisagreementCost(curious=True))
    return Task(ColumnGoal({}), weights={CURIOSITY: 1.0}, guardrails=tuple(guardrails), name="explore")


def explore(
    agent: Agent, trials: Trials, limit: int, guardrails: Sequence[Guardrail] = (), *, seed: int = 0,
    task: Task | None = None, watch: Callable[[Seen], None] | None = None,
) -> Explored:
    """Let the agent explore in all episodes of `trials` side by side, for at most `limit` actions each; goals of the
    world do not end them. Where the agent records experience, every step is added to it.

    task  what is asked for instead of curiosity; its guardrails count then

    Raises:
        UsageError: no ensemble (without a task). MismatchError: trials of another world than the agent's.
    """
    trials.signature.require(agent.signature.world, "the world to explore", "the run")
    tally = Tally(in_steps(trials, agent, limit), limit, until="end")
    decisions = [0]

    def counted(seen: Seen) -> None:
        decisions[0] += len(seen.rows)
        if watch is not None:
            watch(seen)

    _, infeasible = follow(agent, tally, curious(agent, guardrails) if task is None else task, seed, counted)
    return Explored(int(steps_of(tally).sum()), tally.violated, trials.bad() is not None, infeasible, decisions[0],
                    tally.paths())


def reached(agent: Agent, trials: Trials, limit: int, guardrails: Sequence[Guardrail] = (), *, seed: int = 0) -> int:
    """In how many of `trials` the agent reaches the goal that the world sets, within `limit` actions.

    Raises:
        UsageError: the world sets no goals.
    """
    tally = Tally(in_steps(trials, agent, limit), limit)
    follow(agent, tally, Task(trials.goals(), guardrails=tuple(guardrails)), seed)
    return int(tally.success.sum())


def broken_moments(run: Run, since: int, guardrails: Sequence[Guardrail]) -> int:
    """Moments of a run's experience, from number `since` on, in which a limit is broken by the columns that were
    observed: without its margin, and beginnings of episodes not counted. Guardrails on something else are left out.
    """
    reader = ExperienceReader(run.path / FOLDER)
    spec = reader.signature.observations.get("vector")
    names = () if spec is None else spec.columns
    judges = []
    for rail in guardrails:
        try:
            judges.append(over_columns(rail.bare(), names))
        except UsageError:
            continue
    count = 0
    for recording in reader.recordings(since) if judges else ():
        episode = Episode.of(recording)
        states = episode.observations["vector"][None, None]
        margins = [judge.margin(Imagined(states), episode.actions[None, None]) for judge in judges]
        count += int((torch.stack(margins).amax(0) > 0).sum())
    return count
