"""Looking for trouble before it happens: states from which a guardrail fails, found by search and made small.

A case is a way into a state: a start of the environment and a few pushes. From there the agent acts under its
guardrails, in the world and, apart from that, inside its own model. Whether a limit broke is read from what the world
showed, or said of itself, not from what the model made of it.

Shapes: A action size, C columns, H horizon; one case at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steersman.agent import Agent
from steersman.core import ActionSpec, Guardrail, Imagined, Latent, Readout, Task, UsageError
from steersman.cost import column_names
from steersman.evaluation.measured_limits import BAD, COST, AsShown, over_columns, told
from steersman.runs.rehearsal import Case, Kind, Push
from steersman.worlds import GymnasiumWorld

LEVELS = 9
"""Values of each entry of a push, from the lowest action to the highest: few, so that cases shrink to round ones."""

BY_WORLD = "what the world says is bad"


@dataclass(frozen=True)
class Failure:
    """A limit that broke: after `step` actions of the agent, by `margin` in the guardrail's unit."""

    kind: Kind
    guardrail: str
    step: int
    margin: float


class Rehearsal:
    """One agent, one world, one task, and who judges.

    judges  the task's guardrails over what the world shows (`judged_by_columns`), in the same order; None: the world
            itself says what is bad (`judging.told`), whichever guardrail should have kept it
    """

    def __init__(
        self, agent: Agent, world: GymnasiumWorld, task: Task, judges: Sequence[Guardrail] | None, *,
        decisions: int = 20,
    ) -> None:
        count = len(task.guardrails) if judges is None else len(judges)
        if not task.guardrails or count != len(task.guardrails):
            raise UsageError("a judge for each guardrail, at least one", f"{count} for {len(task.guardrails)}",
                             "set a limit, e.g. --keep 'speed<=6'")
        self.agent, self.world, self.task = agent, world, task
        self.judges = None if judges is None else tuple(judges)
        self.decisions = decisions

    def attempt(self, kind: Kind, seed: int, pushes: Sequence[Push]) -> tuple[Failure | None, float]:
        """Go there and act. Returns how the limit broke, if it did, and how near it came: the largest margin (above 0
        it is broken; -inf where the pushes themselves broke it, or ended the episode)."""
        there = self._go(seed, pushes)
        if there is None:
            return None, -math.inf
        self.agent.reset(seed)
        return self._in_model(there) if kind == "model" else self._in_world(there, kind)

    def again(self, case: Case) -> Failure | None:
        """A saved case, tried once more."""
        return self.attempt(case.kind, case.seed, case.pushes)[0]

    def _go(self, seed: int, pushes: Sequence[Push]) -> dict[str, Tensor] | None:
        observation = self.world.reset(seed)
        discrete = self.world.signature.action.kind == "discrete"
        for push in pushes:
            action = torch.tensor(push.action, dtype=torch.int64 if discrete else torch.float32)
            for _ in range(push.steps):
                moment = self.world.step(action)
                observation = moment.observation
                if moment.over or self._worst(observation)[1] > 0:
                    return None
        begun = self.judges is None and not pushes and told(self.world.info) is None  # some say it from step 1 on
        return None if not begun and self._worst(observation)[1] > 0 else dict(observation)

    def _in_world(self, observation: Any, kind: Kind) -> tuple[Failure | None, float]:
        nearest, done = -math.inf, 0
        while done < self.decisions:
            plan = self.agent.act(observation, self.task)
            for k in range(min(self.agent.commits(self.task), plan.actions.shape[1])):
                moment = self.world.step(plan.actions[0, k])
                observation, done = moment.observation, done + 1
                name, margin = self._worst(observation)
                promised = bool(plan.feasible[0])
                if promised == (kind == "world"):
                    nearest = max(nearest, margin)
                if margin > 0:
                    broke: Kind = "world" if promised else "cornered"
                    return (Failure(broke, name, done, margin) if broke == kind else None), nearest
                if moment.over:
                    return None, nearest
        return None, nearest

    def _in_model(self, observation: Any) -> tuple[Failure | None, float]:
        """The agent in its own imagination: what it does next is what its model says."""
        latent = self.agent.encode(observation)
        context = None if latent.context is None else latent.context[:, None]
        spec, model = self.agent.signature.action, self.agent.world_model
        none = torch.zeros(1, 0, spec.size, dtype=torch.int64 if spec.kind == "discrete" else torch.float32)
        nearest = -math.inf
        with torch.inference_mode():
            belief = model.begin(Latent(latent.state[:, None], context), none)
            for step in range(1, self.decisions + 1):
                plan = self.agent.act_from(belief, self.task)
                action = plan.actions[:, None, :1]
                imagined = model.imagine(belief, action)
                name, margin = self._imagined(imagined, action)
                nearest = max(nearest, margin)
                if margin > 0:
                    return Failure("model", name, step, margin), nearest
                belief = imagined.last()
        return None, nearest

    def _imagined(self, imagined: Imagined, action: Tensor) -> tuple[str, float]:
        found = [(g.name, _number(g.margin(imagined, action)[0, 0, 0])) for g in self.task.guardrails]
        return max(found, key=lambda x: x[1])

    def _worst(self, observation: Any) -> tuple[str, float]:
        """The judge whose limit is nearest to breaking, and its margin."""
        if self.judges is None:
            margin = told(self.world.info)
            if margin is None:
                raise UsageError(f"a world that says {BAD!r} or {COST!r} in its info, to judge by", self.world.id,
                                 "judge by columns, or let the environment say it")
            return BY_WORLD, margin
        values = columns_of(observation)
        states = torch.stack([values, values])[None, None]  # (1, 1, 2, C): a step that stays
        action = torch.zeros(1, 1, 1, self.world.signature.action.size)
        found = [(judge.name, _number(judge.margin(Imagined(states), action)[0, 0, 0])) for judge in self.judges]
        return max(found, key=lambda x: x[1])


def _number(margin: Tensor) -> float:
    """A margin that is no number is broken."""
    value = float(margin)
    return math.inf if math.isnan(value) else value


# Judging ----------------------------------------------------------------------------------------------------------


def shown(world: GymnasiumWorld) -> Readout:
    """A read-out of what the world itself shows, for judges: build them like the task's guardrails, with this instead
    of the agent's read-out and without margins.

    Raises:
        UsageError: the world shows pictures only.
    """
    names = column_names(world.signature)
    if not names:
        raise UsageError("vector observations, to judge limits by", "pictures only",
                         "give judges of your own: Rehearsal(…, judges=…)")
    return AsShown(names)


def judged_by_columns(guardrails: Sequence[Guardrail], world: GymnasiumWorld) -> tuple[Guardrail, ...]:
    """The same guardrails, reading what the world shows instead of what the model decodes. Margins stay.

    Raises:
        UsageError: one that reads no columns.
    """
    return tuple(over_columns(guardrail, tuple(shown(world).columns)) for guardrail in guardrails)


def columns_of(observation: Any) -> Tensor:
    """Every vector column of one moment (C,), in the order of `cost.column_names`."""
    vectors = [value.reshape(-1) for name, value in sorted(observation.items()) if value.dim() == 1]
    return torch.cat(vectors) if vectors else torch.zeros(0)


# Searching --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a search for one kind of failure came to: the smallest case, or None after `tried` ways in."""

    kind: Kind
    tried: int
    nearest: float
    failure: Failure | None
    seed: int = 0
    pushes: tuple[Push, ...] = ()


def search(
    rehearsal: Rehearsal, kind: Kind, *, examples: int = 200, seed: int = 0, pieces: int = 4, longest: int = 20,
    watch: Callable[[int], None] | None = None,
) -> Found:
    """Property-based search: draw ways into states, go towards the limit, and shrink what fails to the smallest.

    examples         ways to try before the search gives up; shrinking tries more
    pieces, longest  at most so many pushes, each held for at most so many steps

    The same seed finds the same case. Smaller: fewer pushes, shorter ones, lower numbers.

    Raises:
        UsageError: Hypothesis is not installed.
    """
    try:
        import hypothesis
        from hypothesis import HealthCheck, Phase, settings
        from hypothesis import strategies as st
    except ImportError as error:
        raise UsageError("the package Hypothesis", f"{error}", "install steersman[rehearse]") from error
    spec = rehearsal.world.signature.action
    grid = list(_grid(spec))
    push = st.builds(
        lambda levels, steps: Push(action=tuple(grid[i][level] for i, level in enumerate(levels)), steps=steps),
        st.tuples(*(st.integers(0, len(values) - 1) for values in grid)), st.integers(1, longest),
    )
    tried, nearest = 0, -math.inf
    last: list[tuple[Failure, int, tuple[Push, ...]]] = []

    @hypothesis.seed(seed)
    @settings(max_examples=examples, database=None, deadline=None, print_blob=False, report_multiple_bugs=False,
              suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.target, Phase.shrink))
    @hypothesis.given(st.integers(0, 1 << 16), st.lists(push, max_size=pieces))
    def keeps_every_guardrail(start: int, pushes: list[Push]) -> None:
        nonlocal tried, nearest
        tried += 1
        if watch is not None:
            watch(tried)
        failure, margin = rehearsal.attempt(kind, start, pushes)
        nearest = max(nearest, margin)
        if math.isfinite(margin):
            hypothesis.target(margin)
        if failure is not None:
            last.append((failure, start, tuple(pushes)))
            raise _Broken

    try:
        keeps_every_guardrail()
    except _Broken:
        failure, start, pushes = last[-1]  # Hypothesis ends with the smallest
        return Found(kind, tried, nearest, failure, start, pushes)
    return Found(kind, tried, nearest, None)


class _Broken(Exception):
    """A guardrail failed."""


def _grid(spec: ActionSpec) -> Iterator[list[float]]:
    """Values that each entry of a push may take, the middle first: shrinking goes there."""
    if spec.kind == "discrete":
        yield [float(i) for i in range(spec.choices)]
        return
    for low, high in zip(spec.low, spec.high, strict=True):
        values = [low + (high - low) * i / (LEVELS - 1) for i in range(LEVELS)]
        yield sorted(values, key=lambda x, middle=(low + high) / 2: (abs(x - middle), x))  # type: ignore[misc]
