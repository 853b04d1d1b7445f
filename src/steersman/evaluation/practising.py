"""Practice: act with the present critic, remember what it cost, fit the critic again. Rounds of it make a short look
enough (generalised policy iteration, Sutton & Barto 2018, 4.6, with Monte-Carlo returns).

Knows agents, critics and trials; no world and no planner. Shapes: B episodes, T steps, n moments, D latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.agent.critic import Triplets, critic_for, intrinsic_costs, require_rememberable
from steersman.core import ColumnGoal, Task, UsageError
from steersman.core.records import join
from steersman.cost import CriticFit, IntrinsicCritic
from steersman.evaluation.success import Tally
from steersman.worlds import Trials

Begin = Callable[[int, int], Trials]
"""Episodes and a seed -> trials in which they begin (`World.begin`)."""


@dataclass(frozen=True)
class Round:
    """One round: how many episodes were acted, in how many steps of the world, what a moment cost on average, and what
    the critic that was fitted afterwards explains."""

    episodes: int
    steps: int
    cost: float
    fit: CriticFit


def practise(
    agent: Agent, begin: Begin, task: Task, *, told: Sequence[str] = (), rounds: int = 3, episodes: int = 48,
    longest: int = 200, astray: int = 0, remember: int = 1, config: IntrinsicCritic.Config | None = None,
    seed: int = 0, watch: Callable[[int, int], None] | None = None,
) -> list[Round]:
    """Rounds of acting and fitting; the agent's critic afterwards is the last one, `agent.critic`.

    begin     trials of the world; their goals take the place of the task's for the columns `told`
    task      goal, weights and horizon with which the agent acts and is judged; it weighs "critic" as what it foresees.
              In a first round without a critic it acts without
    told      columns of the goal that differ from episode to episode
    episodes  of each round, of at most `longest` steps
    astray    an episode begins with a random number of random actions, this many at most, so that the critic also sees
              what lies beside the way; they are not remembered
    remember  rounds whose moments the critic is fitted to: 1 forgets what worse critics did
    watch     called with steps done in this round, and their limit

    Nothing of perception or world model changes. Guardrails of the task hold while practising.

    Raises:
        UsageError: a task that does not weigh the critic, sizes below 1, an agent that carries a history.
        DataError: episodes that are too few or too short to fit to.
    """
    require_rememberable(agent)
    name = IntrinsicCritic.name
    if not task.weights.get(name):
        raise UsageError(f"a task that weighs {name!r}", f"{dict(task.weights)}", "weigh it as the cost that it foresees")
    if min(rounds, episodes, longest, remember) < 1 or astray < 0:
        raise UsageError("rounds, episodes, longest and remember >= 1, astray >= 0",
                         f"{rounds}, {episodes}, {longest}, {remember}, {astray}", "correct the sizes")
    critic = agent.additions.costs.get(name)
    told, known = tuple(told), isinstance(critic, IntrinsicCritic)
    if not isinstance(critic, IntrinsicCritic):
        critic = critic_for(agent, replace(task, goal=_goal(begin, task, told, seed)), told, config)
    lives: list[Triplets] = []
    done: list[Round] = []
    for number in range(rounds):
        acting = task if known else replace(task, weights={k: v for k, v in task.weights.items() if k != name})
        life = lived(agent, begin(episodes, _seed(seed, number)), acting, told, longest, astray,
                     _seed(seed, number), watch)
        lives = [*lives, replace(life, episode=life.episode + number * episodes)][-remember:]
        every = join(lives)
        fit = every.fit(critic, seed + number)
        if not known:
            agent.add_cost(critic)
            known = True
        felt = life.time > 0
        done.append(Round(episodes, int(felt.sum()), float(life.costs[felt].mean()), fit))
    return done


def lived(
    agent: Agent, trials: Trials, task: Task, told: Sequence[str], longest: int, astray: int, seed: int,
    watch: Callable[[int, int], None] | None = None,
) -> Triplets:
    """Act in trials until each is over -> what is remembered of them. Arguments as in `practise`."""
    generator, b = torch.Generator().manual_seed(seed), len(trials)
    tally, drift = Tally(trials, longest), trials.drift(generator)
    wandering = torch.randint(astray + 1, (b,), generator=generator)
    task, target = _told(task, told, trials)
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
    costs[who, when] = intrinsic_costs(agent, task.rows(who, b), states[who, when - 1], actions[who, when - 1],
                                       states[who, when])
    kept = there & (time >= wandering[:, None])
    each = None if target is None else target[:, None].expand(-1, moments, -1)[kept]
    return Triplets((time - wandering[:, None])[kept], episode[kept], states[kept], costs[kept], ended[kept], each)


def _told(task: Task, told: Sequence[str], trials: Trials) -> tuple[Task, Tensor | None]:
    """The task towards the trials' own goals, and the targets (B, G) of the columns `told`."""
    if not told:
        return task, None
    own = trials.goals()
    given = own.targets if isinstance(own, ColumnGoal) else {}
    missing = sorted(set(told) - set(given))
    if missing:
        raise UsageError(f"trials with goals on {', '.join(told)}", f"none on {', '.join(missing)}",
                         "tell the critic columns that this world sets")
    target = torch.stack([torch.as_tensor(given[name]).float().expand(len(trials)) for name in told], -1)
    scale = task.goal.scale if isinstance(task.goal, ColumnGoal) else own.scale  # type: ignore[union-attr]
    aims = {**(task.goal.targets if isinstance(task.goal, ColumnGoal) else {}),
            **dict(zip(told, target.unbind(-1), strict=True))}
    return replace(task, goal=ColumnGoal(aims, scale)), target


def _goal(begin: Begin, task: Task, told: Sequence[str], seed: int) -> object:
    return _told(task, told, begin(1, _seed(seed, 0)))[0].goal if told else task.goal


def _seed(seed: int, number: int) -> int:
    return 7919 * (seed + 1) + number
