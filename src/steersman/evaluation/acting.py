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

from steersman.agent.flight.recorder import pooled
from steersman.agent.nearing import notice
from steersman.core import Observation, ObservationGoal, Plan, Surprise, Task, UsageError
from steersman.core.records import rows
from steersman.evaluation.deciding import Decides, PolicyFunction, deciding, rows_between, set_to
from steersman.evaluation.experiencing import Experiencing
from steersman.evaluation.protocol import in_steps
from steersman.evaluation.success import Tally, drifted
from steersman.runs.artefacts import Decision
from steersman.worlds import GymnasiumTrials, make_world

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
    agent: Decides | PolicyFunction,
    env: str,
    task: Task,
    *,
    episodes: int = 20,
    seed: int = 0,
    longest: int = LONGEST,
    watch: Callable[[int, int, int], None] | None = None,
) -> Acted:
    """Let `agent` act in N = `episodes` copies of the environment `env` until each ends.

    agent  an agent, or any function (observation, goal) -> actions, see `FunctionPolicy`
    watch  called after every decision with the steps of the longest episode so far, episodes done, episodes in all

    Raises:
        MismatchError: the environment does not look like the agent's training data.
        UsageError: an environment that Gymnasium cannot make.
    """
    worlds, seeds = [make_world(env) for _ in range(episodes)], [start_seed(seed, i) for i in range(episodes)]
    try:
        agent = deciding(agent, worlds[0].signature)
        set_to(agent, task)
        agent.signature.world.require(worlds[0].signature, "the agent", env)
        played = GymnasiumTrials(worlds, seeds)
        trials = in_steps(played, agent, longest)
        limit = -(-longest // rows_between(agent))
        start, tally, story = trials.observe(), Tally(trials, limit), _Story(agent, episodes)
        agent.reset(seeds)
        experiencing, whole = Experiencing(agent, trials), rows_between(agent) == agent.signature.pace.step
        since: Tensor | None = None
        while bool(tally.on.any()):
            plan = agent.act(trials.observe(), task, since=since)
            story.decided(plan, tally.on, tally.time)
            done = plan.actions[:, : max(1, agent.commits(task))]
            since = done if whole else None
            for k, actions in enumerate(done.unbind(1)):
                moving = tally.on
                tally.step(actions)
                experiencing.stepped(actions, moving)
                if bool(moving[0]):
                    story.stepped(k, trials.observe())
            if watch is not None:
                watch(max(played.lengths), int((~tally.on).sum()), episodes)
        final = {name: values.tolist() for name, values in _columns(agent, trials.observe()).items()}
        returns, lengths, alone = played.returns.tolist(), played.lengths, _alone(agent, start, task)
        again = GymnasiumTrials(worlds, seeds)
        drifted(again, longest, torch.Generator().manual_seed(seed))
        return Acted(returns, again.returns.tolist(), lengths, alone, story.infeasible, story.decisions, story.actual,
                     story.imagined, final, story.lost, story.notice)
    finally:
        for world in worlds:
            world.close()


def own_goal(env: str, episodes: int, seed: int) -> ObservationGoal:
    """The goals that the world itself sets in these episodes, as the pictures that it gives of them.

    Raises:
        UsageError: the world sets none.
    """
    world = make_world(env)
    try:
        infos = [world.env.reset(seed=start_seed(seed, i))[1] for i in range(episodes)]
    finally:
        world.close()
    if not all("goal_image" in info for info in infos):
        fix = "give --goal: numbers (1,0,0), columns (speed=0), a file, or a moment of the log (log:3:40)"
        raise UsageError(f"a goal for {env}", "none, and the world sets none of its own", fix)
    name = next(name for name, spec in world.signature.observations.items() if spec.kind == "image")
    return ObservationGoal({name: torch.stack([torch.as_tensor(info["goal_image"]) for info in infos])})


def _columns(agent: Decides, observation: Observation) -> dict[str, Tensor]:
    """Every vector column (N,) by its name, in the order of the signature's names."""
    from steersman.cost import column_names

    vectors = [value for _, value in sorted(observation.items()) if value.dim() == 2]
    return dict(zip(column_names(agent.signature), torch.cat(vectors, 1).unbind(1), strict=True)) if vectors else {}


class _Story:
    """The course of episode 0, and counts over all."""

    def __init__(self, agent: Decides, episodes: int) -> None:
        self.agent, self.infeasible, self.lost, self.notice = agent, 0, [0] * episodes, ""
        self.decisions: list[Decision] = []
        self.actual: dict[str, list[float]] = {}
        self.imagined: dict[str, list[float | None]] = {}
        self._expected: Mapping[str, list[float]] = {}

    def decided(self, plan: Plan, on: Tensor, step: int) -> None:
        self.infeasible += int((on & ~plan.feasible).sum())
        for i in on.nonzero()[:, 0].tolist():
            if said := notice(plan.reason[i]):
                self.lost[i], self.notice = self.lost[i] + 1, said
        readout = self.agent.readout
        if readout is not None:
            values = readout.read(plan.imagined.states[:1, 0, 1:], plan.imagined.context)[0]
            self._expected = {name: values[:, i].tolist() for i, name in enumerate(readout.columns)}
        if bool(on[0]):
            self.decisions.append(decision_of(plan, 0, 0, step, self.agent.surprise))

    def stepped(self, k: int, observation: Observation) -> None:
        for name, values in _columns(self.agent, observation).items():
            expected = self._expected.get(name, ())
            self.actual.setdefault(name, []).append(float(values[0]))
            self.imagined.setdefault(name, []).append(expected[k] if k < len(expected) else None)


def decision_of(
    plan: Plan, problem: int, episode: int, step: int, surprise: Surprise | None = None
) -> Decision:
    """One problem of a plan, for people."""
    return Decision(
        episode=episode, step=step, action=tuple(plan.actions[problem, 0].tolist()), seconds=plan.seconds,
        energy={name: float(value[problem].sum()) for name, value in plan.energy.items()},
        calls=int(plan.calls[problem]), kept=int(plan.kept[problem]), feasible=bool(plan.feasible[problem]),
        vetoed={name: int(value[problem]) for name, value in plan.vetoed.items()},
        reason=plan.reason[problem] if plan.reason else "",
        surprise=None if surprise is None else pooled(surprise)[problem],
    )


def _alone(agent: Decides, starts: Observation, task: Task) -> float:
    """Milliseconds of a decision when there is one observation only, as on a machine that is being controlled."""
    recorder, agent.recorder = agent.recorder, None  # these are no decisions of an episode
    agent.reset(0)
    goal = task.goal
    if isinstance(goal, ObservationGoal) and next(iter(goal.observation.values())).dim() in (2, 4):
        starts, task = rows(starts, slice(1)), replace(task, goal=goal.rows(slice(1)))  # one goal for each episode
    if not isinstance(task.settings.attend, str):
        task = replace(task, settings=replace(task.settings, attend=task.settings.attend[0]))
    times: list[float] = []
    for i in range(_ALONE):
        plan = agent.act({name: value[i % len(value)] for name, value in starts.items()}, task)
        times.append(1000 * plan.seconds)
    agent.reset()
    agent.recorder = recorder
    return statistics.median(times[2:])
