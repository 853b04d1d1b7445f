"""Whether Reach answers: goals that can be reached are; of those that cannot it says why, in the right one of six ways.

Nine rooms, learned from a log of held pushes. Beside goals anywhere in the rooms there are goals outside the arena, a
guardrail before every way, fewer steps than the way takes, logs in which nobody ever passed the middle door (held
pushes and white noise), and rooms whose doors were moved after the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.actor import Reach, why_not
from steersman.actor.ground.primitives import rays
from steersman.actor.hierarchy.saying import CUT, NO_PUSH, NO_WAY, OUTSIDE, STALLED, TOO_FAR
from steersman.agent import Agent
from steersman.core import ColumnGoal, Planner, Task
from steersman.cost import OnColumns
from steersman.evaluation import PROTOCOLS, PlanningProtocol, evaluate
from steersman.evaluation.protocol import Seen
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.hierarchy import SEEDS, Sizes, learn_rooms, with_ways
from steersman.memory import build_ways
from steersman.runs.artefacts import Column, Figure, Row, Table
from steersman.worlds import NineRooms, snake
from steersman.worlds.nine_rooms import DOORS, SIDE

MIDDLE = 4  # the door that nobody passes in some logs


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tasks of one kind. answered: a way or a why; right: reached, or said the right why; wrong: said a why of a goal
    that can be reached."""

    kind: str
    tasks: int
    answered: int
    right: int
    wrong: int = 0


class Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one training seed."""

    asked: list[Asked]


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """Three times: learn the rooms as `hierarchy` does, ask."""
    return tuple(Cell("reach", ask, 150, s, sizes, needs=(Cell("learned", learn_rooms, 180, s, sizes),))
                 for s in range(seed, seed + SEEDS))


def ask(context: Context) -> Found:
    """Every kind of task."""
    sizes: Sizes = context.settings
    agent, count = with_ways(context.needs[0].folder), sizes.flat
    asked = [_anywhere(agent, count, context.seed), *_at_once(agent, sizes, context.seed),
             _moved(agent, min(count, 20), context.seed)]
    for one in asked:
        context.say(f"seed {context.seed}, {one.kind}: {one.right} of {one.tasks} right, {one.wrong} wrong")
    return Found(_figures(asked), Answers(asked))


def _anywhere(agent: Agent, count: int, seed: int) -> Asked:
    """Goals in any room: to be reached, and nothing said against it when they are set."""
    first: list[str] = []

    def watch(seen: Seen) -> None:
        if not first:
            first.extend(seen.plan.reason)

    found = evaluate(agent, PROTOCOLS["nine-rooms"], episodes=count, seed=seed, random=False, watch=watch)
    return Asked(kind="anywhere", tasks=count, answered=_answered(first), right=int(found.success.sum()),
                 wrong=sum(bool(why_not(reason)) for reason in first))


def _at_once(agent: Agent, sizes: Sizes, seed: int) -> list[Asked]:
    """What is to be said as soon as the goal is set."""
    count, readout = sizes.flat, agent.readout
    assert readout is not None
    long = NineRooms(away="long").begin(count, 77 + seed)
    outside = ColumnGoal({"x": long.state.goal[:, 0] + 3.2, "y": long.state.goal[:, 1]}, {"x": 1.0, "y": 1.0})
    across = _apart(count, seed)
    shut = OnColumns(readout, lambda y: (y["y"] - 1.5).abs().neg() + 0.3, name="the middle row is closed")
    own = agent.planner
    assert isinstance(own, Reach)
    quick = _with(agent, Reach(msgspec.structs.replace(own.config, allowed=20), own.memory()))
    held, white = (_never_through(agent, hold, sizes, seed) for hold in (8.0, 1.0))
    return [
        _said("outside the arena", OUTSIDE, agent, long.observe(), Task(outside)),
        _said("a guardrail before every way", CUT, agent, across.observe(), Task(across.goals(), guardrails=(shut,))),
        _said("fewer steps than it takes", TOO_FAR, quick, long.observe(), Task(long.goals())),
        _said("no way in the log", NO_WAY, held, across.observe(), Task(across.goals())),
        _said("no push in the log", NO_PUSH, white, across.observe(), Task(across.goals())),
    ]


def _said(kind: str, why: str, agent: Agent, observation: Any, task: Task) -> Asked:
    agent.reset(0)
    reasons = agent.act(observation, task).reason
    agent.reset(0)
    return Asked(kind=kind, tasks=len(reasons), answered=_answered(list(reasons)),
                 right=sum(why in reason for reason in reasons))


def _moved(agent: Agent, count: int, seed: int) -> Asked:
    """Doors other than those of the log: to be said once level 1 has stalled, unless the goal is reached."""
    last: dict[int, str] = {}

    def watch(seen: Seen) -> None:
        last.update(zip(seen.rows.tolist(), seen.plan.reason, strict=True))

    world = NineRooms(away="long", doors=tuple(-door for door in DOORS))
    found = evaluate(agent, PlanningProtocol(world=world, step_limit=160, stream=15), episodes=count, seed=seed,
                     random=False, watch=watch)
    stalled = torch.tensor([STALLED in last[i] for i in range(count)])
    return Asked(kind="doors that were moved", tasks=count, answered=_answered(list(last.values())),
                 right=int((stalled | found.success).sum()))


def _apart(count: int, seed: int) -> Any:
    """Starts in the lowest row, goals in the highest."""
    trials = NineRooms(away="long").begin(40 * count, 99 + seed)
    start, goal = trials.state.position[:, 1], trials.state.goal[:, 1]
    good = ((start < 1) & (goal > 2)).nonzero()[:count, 0]
    trials.state, trials.shortest = trials.state.rows(good), None
    return trials


def _never_through(agent: Agent, hold: float, sizes: Sizes, seed: int) -> Agent:
    """The same model with a graph from a log in which nobody passed the middle door."""
    episodes = []
    for episode in NineRooms(hold=hold).log(sizes.episodes, 200, 1000 + seed):
        room = snake.room_of(SIDE, episode.observations["vector"][:, :2])
        if bool((room <= MIDDLE).all()) or bool((room > MIDDLE).all()):
            episodes.append(episode)
    encode: Callable[[Tensor], Tensor] = lambda rows: agent.encode({"vector": rows}).state.clone()  # noqa: E731
    latents = [encode(episode.observations["vector"]) for episode in episodes]
    own = agent.planner
    assert isinstance(own, Reach)
    ways = own.config.ways
    graph = build_ways(latents, [episode.actions for episode in episodes], agent.world_model,
                       rays(agent.signature.action, ways.rays), ways, agent.readout)
    return _with(agent, Reach(own.config, graph))


def _with(agent: Agent, planner: Planner) -> Agent:
    return Agent(agent.config, agent.signature, agent.perception, agent.world_model, readout=agent.readout,
                 planner=planner)


def _answered(reasons: list[str]) -> int:
    return sum("steps to go" in reason or bool(why_not(reason)) for reason in reasons)


def _figures(asked: list[Asked]) -> dict[str, dict[str, Any]]:
    """All tasks together under "reach", and each kind."""
    hopeless = [one for one in asked if one.kind != "anywhere"]
    can = [one for one in asked if one.kind == "anywhere"]
    share = lambda value, of: value / max(1, of)  # noqa: E731
    tasks = sum(one.tasks for one in asked)
    whole = {
        "tasks": tasks, "answered": share(sum(one.answered for one in asked), tasks),
        "reached": share(sum(one.right for one in can), sum(one.tasks for one in can)),
        "said_why": share(sum(one.right for one in hopeless), sum(one.tasks for one in hopeless)),
        "wrong_why": share(sum(one.wrong for one in can), sum(one.tasks for one in can)),
    }
    kinds = list(dict.fromkeys(one.kind for one in asked))
    each = {kind: {"tasks": sum(one.tasks for one in asked if one.kind == kind),
                   "right": share(sum(one.right for one in asked if one.kind == kind),
                                  sum(one.tasks for one in asked if one.kind == kind))} for kind in kinds}
    return {"reach": whole} | {f"reach/{kind.replace(' ', '-')}": value for kind, value in each.items()}


def summary(results: Results) -> Outcome:
    """Over all seeds."""
    asked = [one for result in results.of("reach") for one in result.record(Answers).asked]
    figures = _figures(asked)
    rows = [Row(label=name.partition("/")[2].replace("-", " ") or "all tasks", kind="agent", figures={
        "tasks": Figure(value=value["tasks"]),
        "right": Figure(value=value.get("right", value.get("answered"))),
    }) for name, value in figures.items()]
    table = Table(
        name="reach", title="Reach answers, or says why not",
        columns=(Column(key="tasks", title="tasks", form="count"),
                 Column(key="right", title="right", form="share", better="higher")),
        rows=tuple(rows), protocol={"world": "nine rooms", "log": "60,000 steps of held pushes"},
        notes=("All tasks: the share that got a way or a why. Anywhere: goals reached.",),
    )
    return Outcome(figures, (table,))
