"""Episodes of an agent in any Gymnasium environment, side by side, beside the random policy on the same starts.

Knows the agent, the world behind its signature, and a task; the reward is for the table only, the agent never sees it.

Shapes: N episodes, A action size.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.agent.nearing import notice
from steersman.core import Observation, ObservationGoal, Plan, Task, UsageError
from steersman.runs.artefacts import Decision
from steersman.worlds import GymnasiumWorld, TwoRooms, make_world, uniform

OURS = "two-rooms"
"""The world of our own that has no Gymnasium id."""
LONGEST = 1000
"""Steps after which an episode of a world without an end of its own is cut."""
_ALONE = 12  # decisions that are timed one at a time


@dataclass(frozen=True)
class Acted:
    """N episodes.

    returns, random_returns   summed rewards, of the agent and of uniform random actions from the same starts
    lengths       steps of each episode
    ms_per_act    wall-clock milliseconds of one decision for one observation, median
    infeasible    decisions for which no plan met every guardrail, over all episodes
    decisions     those of episode 0
    actual        column -> values of episode 0, one per step (vector observations)
    imagined      column -> what was expected of the same steps when they were decided on (None: not known)
    final         column -> values of each episode's last observation
    lost          decisions of each episode in which nothing imagined came nearer to the goal (`agent.nearing`), and
                  `notice`, what was said then
    """

    returns: list[float]
    random_returns: list[float]
    lengths: list[int]
    ms_per_act: float
    infeasible: int
    decisions: list[Decision] = field(default_factory=list)
    actual: dict[str, list[float]] = field(default_factory=dict)
    imagined: dict[str, list[float | None]] = field(default_factory=dict)
    final: dict[str, list[float]] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    notice: str = ""


def start_seed(seed: int, episode: int) -> int:
    """The environment's seed for an episode: far from the small seeds that logs are recorded with."""
    return 1_000_003 * (seed + 1) + episode


def act_in(
    agent: Agent,
    env: str,
    task: Task,
    *,
    episodes: int = 20,
    seed: int = 0,
    longest: int = LONGEST,
    watch: Callable[[int, int, int], None] | None = None,
) -> Acted:
    """Let `agent` act in N = `episodes` copies of the environment `env` (or "two-rooms") until each ends.

    watch  called after every decision with the steps of the longest episode so far, episodes done, episodes in all

    Raises:
        MismatchError: the environment does not look like the agent's training data.
        UsageError: an environment that Gymnasium cannot make.
    """
    worlds = [_world(env) for _ in range(episodes)]
    try:
        agent.signature.require(worlds[0].signature, "the agent", env)
        lanes = _Lanes(worlds, seed, longest)
        story = _Story(agent, episodes)
        agent.reset([start_seed(seed, i) for i in range(episodes)])
        since: Tensor | None = None
        while not all(lanes.over):
            plan = agent.act(lanes.batch(), task, since=since)
            story.decided(plan, lanes)
            steps = min(max(1, agent.commits(task)), plan.actions.shape[1])
            since = plan.actions[:, :steps]
            for k in range(steps):
                lanes.step(plan.actions[:, k])
                story.stepped(plan, k, lanes)
            if watch is not None:
                watch(max(lanes.lengths), sum(lanes.over), episodes)
        final = {name: [row[i] for row in lanes.rows()] for i, name in enumerate(story.columns)}
        alone = _alone(agent, lanes.starts, task)
        returns, lengths = list(lanes.returns), list(lanes.lengths)
        return Acted(returns, _random(worlds, seed, longest), lengths, alone, story.infeasible, story.decisions,
                     story.actual, story.imagined, final, story.lost, story.notice)
    finally:
        for world in worlds:
            world.close()


def own_goal(env: str, episodes: int, seed: int) -> ObservationGoal:
    """The goals that the world itself sets in these episodes, as the pictures that it gives of them.

    Raises:
        UsageError: the world sets none.
    """
    world = _world(env)
    try:
        infos = [world.env.reset(seed=start_seed(seed, i))[1] for i in range(episodes)]
    finally:
        world.close()
    if not all("goal_image" in info for info in infos):
        fix = "give --goal: numbers (1,0,0), columns (speed=0), a file, or a moment of the log (log:3:40)"
        raise UsageError(f"a goal for {env}", "none, and the world sets none of its own", fix)
    name = next(name for name, spec in world.signature.observations.items() if spec.kind == "image")
    return ObservationGoal({name: torch.stack([torch.as_tensor(info["goal_image"]) for info in infos])})


def _world(env: str) -> GymnasiumWorld:
    return GymnasiumWorld(TwoRooms()) if env == OURS else make_world(env)


class _Lanes:
    """N worlds, each until its own end."""

    def __init__(self, worlds: list[GymnasiumWorld], seed: int, longest: int) -> None:
        self.worlds, self.longest = worlds, longest
        self.now: list[Observation] = [world.reset(start_seed(seed, i)) for i, world in enumerate(worlds)]
        self.starts = list(self.now)
        self.returns, self.lengths = [0.0] * len(worlds), [0] * len(worlds)
        self.over = [False] * len(worlds)

    def batch(self) -> dict[str, Tensor]:
        """The observations of now, name -> (N, …); an episode that is over stays at its last."""
        return {name: torch.stack([o[name] for o in self.now]) for name in self.now[0]}

    def rows(self) -> list[list[float]]:
        """Every vector column of now, in the order of the signature's names; one row per episode."""
        vectors = [name for name, value in sorted(self.now[0].items()) if value.dim() == 1]
        return [[float(x) for name in vectors for x in o[name]] for o in self.now]

    def step(self, actions: Tensor) -> None:
        for i, world in enumerate(self.worlds):
            if self.over[i]:
                continue
            moment = world.step(actions[i])
            self.now[i] = moment.observation
            self.returns[i] += moment.reward
            self.lengths[i] += 1
            self.over[i] = moment.over or self.lengths[i] >= self.longest


class _Story:
    """What is kept of episode 0, and counts over all."""

    def __init__(self, agent: Agent, episodes: int) -> None:
        from steersman.cost import column_names

        self.columns = column_names(agent.signature)
        self.readout = agent.readout
        self.infeasible, self.lost, self.notice = 0, [0] * episodes, ""
        self.decisions: list[Decision] = []
        self.actual: dict[str, list[float]] = {name: [] for name in self.columns}
        self.imagined: dict[str, list[float | None]] = {name: [] for name in self.columns}

    def decided(self, plan: Plan, lanes: _Lanes) -> None:
        self.infeasible += sum(not ok and not over for ok, over in zip(plan.feasible.tolist(), lanes.over, strict=True))
        for i, reason in enumerate(plan.reason):
            if not lanes.over[i] and (said := notice(reason)):
                self.lost[i], self.notice = self.lost[i] + 1, said
        self._expected: Mapping[str, list[float]] = {}
        if self.readout is not None:
            values = self.readout.read(plan.imagined.states[:1, 0, 1:], plan.imagined.context)[0]
            self._expected = {name: values[:, i].tolist() for i, name in enumerate(self.readout.columns)}
        if not lanes.over[0]:
            self.decisions.append(decision_of(plan, 0, 0, lanes.lengths[0]))

    def stepped(self, plan: Plan, k: int, lanes: _Lanes) -> None:
        if not self.columns or lanes.lengths[0] == len(self.actual[self.columns[0]]):
            return  # episode 0 is over
        for name, value in zip(self.columns, lanes.rows()[0], strict=True):
            expected = self._expected.get(name, ())
            self.actual[name].append(value)
            self.imagined[name].append(expected[k] if k < len(expected) else None)


def decision_of(plan: Plan, problem: int, episode: int, step: int) -> Decision:
    """One problem of a plan, for people."""
    return Decision(
        episode=episode, step=step, action=tuple(plan.actions[problem, 0].tolist()), seconds=plan.seconds,
        energy={name: float(value[problem].sum()) for name, value in plan.energy.items()},
        calls=int(plan.calls[problem]), kept=int(plan.kept[problem]), feasible=bool(plan.feasible[problem]),
        vetoed={name: int(value[problem]) for name, value in plan.vetoed.items()},
        reason=plan.reason[problem] if plan.reason else "",
    )


def _alone(agent: Agent, starts: list[Observation], task: Task) -> float:
    """Milliseconds of a decision when there is one observation only, as on a machine that is being controlled."""
    recorder, agent.recorder = agent.recorder, None  # these are no decisions of an episode
    agent.reset(0)
    goal = task.goal
    if isinstance(goal, ObservationGoal) and next(iter(goal.observation.values())).dim() in (2, 4):
        starts, task = starts[:1], replace(task, goal=goal.map(lambda x: x[:1]))  # one goal for each episode
    times: list[float] = []
    for i in range(_ALONE):
        plan = agent.act(starts[i % len(starts)], task)
        times.append(1000 * plan.seconds)
    agent.reset()
    agent.recorder = recorder
    return statistics.median(times[2:])


def _random(worlds: list[GymnasiumWorld], seed: int, longest: int) -> list[float]:
    """Returns of uniform random actions from the same starts."""
    lanes = _Lanes(worlds, seed, longest)
    behaviour = uniform(worlds[0].signature.action)
    generator = torch.Generator().manual_seed(seed)
    while not all(lanes.over):
        lanes.step(behaviour(lanes.batch(), generator))
    return lanes.returns
