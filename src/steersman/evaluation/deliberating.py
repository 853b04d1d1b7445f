"""A gate of deliberation, calibrated by practice: what its signals are like where the agent acts by that gate.

Knows agents, trials and gates; no world. Shapes: B episodes, n moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from steersman.actor.deliberation.deliberate import SHARE
from steersman.actor.deliberation.gate import Gate, gate_of
from steersman.actor.deliberation.signals import SIGNALS
from steersman.agent import Agent
from steersman.core import PlanningError, Task, UsageError
from steersman.evaluation.practising import Begin, told_goal
from steersman.evaluation.protocol import Seen, follow
from steersman.evaluation.success import Tally
from steersman.worlds import Trials

_MANY = 1 << 30  # calls of a budget that no planner spends


def calibrate_gate(
    agent: Agent, begin: Begin, task: Task, *, told: Sequence[str] = (), signals: Sequence[str] | None = None,
    worth: Mapping[str, float] | None = None, episodes: int = 48, longest: int = 200, lives: int = 2,
    vetoed: float = 1.0, seed: int = 0,
) -> Gate:
    """Practise `lives` lives of `episodes` episodes with the mean share that the task's `deliberation` asks for: the
    first with a fixed budget, each further one with the gate that the one before gave. The last one's gate is the
    agent's afterwards, and is returned; it serves every share, this one best. `agent.fitted.gates.store_gate` keeps it
    with a run.

    task     with a `skill` to act by and a share as `deliberation`
    told     columns of the goal that differ from episode to episode, as the trials set them
    signals  names; None: all that this agent can read in this task
    worth    name -> weight, see `Gate`
    vetoed   least share where a guardrail refuses habit's way; 0: the declared fallback acts instead

    Raises:
        UsageError: a task without `deliberation`, sizes below 1, or a signal that there is not.
        PlanningError: a signal that the agent lacks. ConfigError: no skill, or fewer than 20 moments.
    """
    share = task.settings.deliberation
    if share is None or min(episodes, longest, lives) < 1:
        raise UsageError("a task that says `deliberation`, and episodes, longest and lives >= 1",
                         f"{share}, {episodes}, {longest}, {lives}",
                         "say the mean share of calls that is wanted, for instance 0.25")
    before = agent.gate
    try:
        calls = _full(agent, begin(8, seed), task, told, seed)
        names = _readable(agent, begin(1, seed), task, told, seed) if signals is None else tuple(signals)
        gate = Gate(calls=calls, signals=dict.fromkeys(names, (0.0, 0.0)), vetoed=vetoed)
        for life in range(lives):
            agent.gate, begun = gate, 7919 * (seed + 1) + life
            values = _practised(agent, begin(episodes, begun), task, told, names, longest, begun)
            gate = gate_of(values, calls, worth=worth, vetoed=vetoed)
    except BaseException:
        agent.gate = before
        raise
    agent.gate = gate
    return gate


def _practised(
    agent: Agent, trials: Trials, task: Task, told: Sequence[str], names: Sequence[str], longest: int, seed: int
) -> dict[str, Tensor]:
    """Name -> (n,) of each signal at every decision."""
    rows: dict[str, list[Tensor]] = {name: [] for name in names}

    def look(seen: Seen) -> None:
        for name, values in rows.items():
            values.append(seen.plan.signals[name])

    follow(agent, Tally(trials, longest), told_goal(task, told, trials)[0], seed, look)
    return {name: torch.cat(values) for name, values in rows.items()}


def _once(agent: Agent, trials: Trials, task: Task, told: Sequence[str], seed: int) -> Tensor:
    """(B,): what one decision of each episode spends, as a share."""
    agent.reset(seed)
    plan = agent.act(trials.observe(), told_goal(task, told, trials)[0])
    agent.reset()
    return plan.signals[SHARE]


def _full(agent: Agent, trials: Trials, task: Task, told: Sequence[str], seed: int) -> int:
    """Predictor calls of a decision that is not limited."""
    agent.gate = Gate(calls=_MANY)
    everything = replace(task, settings=replace(task.settings, deliberation=1.0))
    return max(1, round(float(_once(agent, trials, everything, told, seed).max()) * _MANY))


def _readable(agent: Agent, trials: Trials, task: Task, told: Sequence[str], seed: int) -> tuple[str, ...]:
    """Names of the signals that this agent can read in this task."""
    found = []
    for name in SIGNALS:
        agent.gate = Gate(calls=_MANY, signals={name: (0.0, 0.0)})
        try:
            _once(agent, trials, task, told, seed)
        except PlanningError:
            continue
        found.append(name)
    return tuple(found)
