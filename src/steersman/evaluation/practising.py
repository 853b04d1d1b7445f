"""Practice: act with the present critic, remember what it cost, fit the critic again. Rounds of it make a short look
enough (generalised policy iteration, Sutton & Barto 2018, 4.6, with Monte-Carlo returns).

Knows agents, critics and trials; no world and no planner. Shapes: B episodes, T steps, n moments, D latent size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.agent.critic import Triplets, critic_for, intrinsic_costs, require_rememberable, rows_of
from steersman.core import ColumnGoal, Task, UsageError
from steersman.core.records import join
from steersman.cost import CriticFit, IntrinsicCritic
from steersman.evaluation.success import Tally
from steersman.worlds import Trials

Begin = Callable[[int, int], Trials]
"""Episodes and a seed -> trials in which they begin (`World.begin`)."""


@dataclass(frozen=True)
class Round:
    """One life.

    episodes, steps  that were acted, steps of the world
    cost             what a moment cost on average
    fit              what the critic that it was acted with explains; None: without one
    """

    episodes: int
    steps: int
    cost: float
    fit: CriticFit | None


def practise(
    agent: Agent, begin: Begin, task: Task, *, told: Sequence[str] = (), rounds: int = 3, episodes: int = 48,
    longest: int = 200, astray: int = 0, remember: int = 2, first: int | None = None,
    config: IntrinsicCritic.Config | None = None, seed: int = 0, watch: Callable[[int, int], None] | None = None,
) -> list[Round]:
    """Rounds of acting, fitting, and acting again: `rounds` fits between `rounds` + 1 lives, told in turn. Of all
    critics that were acted with, the one that cost least a moment is the agent's afterwards: `agent.critic`.

    begin     trials of the world; where columns are `told`, their goals take the place of the task's
    task      goal, weights and horizon with which the agent acts and is judged; it weighs "critic" as what it foresees
    told      columns of the goal that differ from episode to episode
    episodes  of each life, of at most `longest` steps
    astray    an episode begins with a random number of random actions, this many at most, so that the critic also sees
              what lies beside the way; they are not remembered
    first     steps that a first life without a critic looks ahead, None: the task's; from a long look a critic learns
              what good behaviour costs, and a short look with that critic does no worse, as far as it is right
    remember  lives whose moments a critic is fitted to; of older ones worse critics are the authors
    watch     called with steps done in this life, and their limit

    The first life is acted without a critic where the agent has none, else with its own, whose fit is not known any
    more. Nothing of perception or world model changes. Guardrails of the task hold while practising.

    Raises:
        UsageError: a task that does not weigh the critic, sizes below 1, an agent that carries a history.
        DataError: episodes that are too few or too short to fit to.
    """
    require_rememberable(agent)
    name = IntrinsicCritic.name
    if not task.weights.get(name):
        raise UsageError(f"a task that weighs {name!r}", f"{dict(task.weights)}",
                         "weigh it as the cost that it foresees")
    if min(rounds, episodes, longest, remember) < 1 or astray < 0:
        raise UsageError("rounds, episodes, longest and remember >= 1, astray >= 0",
                         f"{rounds}, {episodes}, {longest}, {remember}, {astray}", "correct the sizes")
    critic = agent.additions.costs.get(name)
    known = isinstance(critic, IntrinsicCritic)
    if not isinstance(critic, IntrinsicCritic):
        critic = critic_for(agent, told_goal(task, told, begin(1, _seed(seed, 0)))[0], told, config)
    lives, done, fit = list[Triplets](), list[Round](), None
    best, least = copy.deepcopy(critic.state_dict()), math.inf
    for number in range(rounds + 1):
        acting = task if known else replace(task, weights={k: v for k, v in task.weights.items() if k != name},
                                            horizon=first or task.horizon)
        begun = _seed(seed, number)
        life = lived(agent, begin(episodes, begun), acting, told, longest, astray, begun, watch)
        felt = life.time > 0
        done.append(Round(episodes, int(felt.sum()), float(life.costs[felt].mean()), fit))
        if known and done[-1].cost < least:
            best, least = copy.deepcopy(critic.state_dict()), done[-1].cost
        if number == rounds:
            break
        lives = [*lives, replace(life, episode=life.episode + number * episodes)][-remember:]
        fit = join(lives).fit(critic, seed + number)
        if not known:
            agent.add_cost(critic)
            known = True
    critic.load_state_dict(best)
    return done


def kept_round(rounds: Sequence[Round]) -> Round:
    """The one whose critic was kept."""
    return min((one for one in rounds if one.fit is not None), key=lambda one: one.cost)


def lived(
    agent: Agent, trials: Trials, task: Task, told: Sequence[str], longest: int, astray: int, seed: int,
    watch: Callable[[int, int], None] | None = None,
) -> Triplets:
    """Act in trials until each is over -> what is remembered of them. Arguments as in `practise`."""
    generator, b = torch.Generator().manual_seed(seed), len(trials)
    tally, drift = Tally(trials, longest), trials.drift(generator)
    wandering = torch.randint(astray + 1, (b,), generator=generator)
    task, target = told_goal(task, told, trials)
    agent.reset([1_000_003 * (seed + 1) + i for i in range(b)])
    states, actions, there = [agent.encode(trials.observe()).state.clone()], list[Tensor](), [torch.ones(b).bool()]
    ended = [torch.zeros(b, dtype=torch.bool)]
    while bool(tally.on.any()):
        stray, on = tally.time < wandering, tally.on
        action = agent.act(trials.observe(), task).action
        action = torch.where(stray[:, None], drift().to(action), action).clone()
        tally.step(action)
        states.append(agent.encode(trials.observe()).state.clone())
        actions.append(action)
        there.append(on)
        ended.append(on & tally.success & (not trials.sustained))
        if watch is not None:
            watch(tally.time, longest)
    return _remembered(agent, task, told, target, wandering, torch.stack(states, 1), torch.stack(actions, 1),
                       torch.stack(there, 1), torch.stack(ended, 1))


def _remembered(
    agent: Agent, task: Task, told: Sequence[str], target: Tensor | None, wandering: Tensor, states: Tensor,
    actions: Tensor, there: Tensor, ended: Tensor,
) -> Triplets:
    """states (B, T+1, D), actions (B, T, A), there and ended (B, T+1) -> moments that were there, after wandering."""
    b, moments = there.shape
    episode = torch.arange(b)[:, None].expand(-1, moments)
    time = torch.arange(moments).expand(b, -1)
    costs, led = torch.zeros(b, moments), there.clone()
    led[:, 0] = False
    who, when = led.nonzero().unbind(1)
    costs[who, when] = intrinsic_costs(agent, rows_of(task, who, b), states[who, when - 1], actions[who, when - 1],
                                       states[who, when])
    kept = there & (time >= wandering[:, None])
    each = None if target is None else target[:, None].expand(-1, moments, -1)[kept]
    return Triplets((time - wandering[:, None])[kept], episode[kept], states[kept], costs[kept], ended[kept], each)


def told_goal(task: Task, told: Sequence[str], trials: Trials) -> tuple[Task, Tensor | None]:
    """The task towards the trials' own goals, and the targets (B, G) of the columns `told`."""
    if not told:
        return task, None
    own = trials.goals()
    given = own.targets if isinstance(own, ColumnGoal) else {}
    missing = sorted(set(told) - set(given))
    if missing or not isinstance(own, ColumnGoal):
        raise UsageError(f"trials with goals on {', '.join(told)}", f"none on {', '.join(missing)}",
                         "tell the critic columns that this world sets")
    target = torch.stack([torch.as_tensor(given[name]).float().expand(len(trials)) for name in told], -1)
    asked = task.goal if isinstance(task.goal, ColumnGoal) else ColumnGoal({}, own.scale)
    aims = {**asked.targets, **dict(zip(told, target.unbind(-1), strict=True))}
    return replace(task, goal=replace(asked, targets=aims)), target


def _seed(seed: int, number: int) -> int:
    return 7919 * (seed + 1) + number
