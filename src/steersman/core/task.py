"""What an agent is asked to do: goals of four kinds, weights, guardrails, risk, a budget, sub-tasks. No algorithm.

Shapes: B problems, K candidates, H horizon, D latent size, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.guardrail import Guardrail
from steersman.core.records import TensorRecord
from steersman.core.types import Imagined, Latent, Observation


@dataclass(frozen=True)
class ObservationGoal(TensorRecord):
    """Reach what this observation shows: name -> (H, W, C) / (C,), or with a leading B."""

    observation: Observation


@dataclass(frozen=True)
class ColumnGoal:
    """Bring named columns (of a vector observation, or of a read-out) to targets.

    targets  column -> value, or one per problem (B,), in the column's own unit
    scale    column -> size of an error that counts as 1 (default: the column's standard deviation in the log)
    """

    targets: Mapping[str, float | Tensor]
    scale: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CallableGoal:
    """Any energy: `energy(columns, imagined) -> (B, K, H)`, where columns maps read-out names to (B, K, H)."""

    energy: Callable[[Mapping[str, Tensor], Imagined], Tensor]
    name: str = "callable"


@dataclass(frozen=True)
class LatentGoal(TensorRecord):
    """An encoded goal (B, D): what an observation goal becomes, or what a higher level asks for."""

    latent: Latent


Goal = ObservationGoal | ColumnGoal | CallableGoal | LatentGoal


@dataclass(frozen=True)
class Budget:
    """What one decision may cost: predictor calls per problem, seconds for the whole batch (None: no limit)."""

    calls: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Risk:
    """How what is left to chance counts, when a planner imagines S scenarios of every candidate.

    scenarios  S futures of a candidate, from draws that all candidates of a problem share; 1: the future that the
               model expects, nothing is drawn
    over       what of their energies counts: their "mean", the "worst", or "cvar", the mean of the worst share `tail`
               (conditional value at risk, Rockafellar & Uryasev 2000)
    broken     δ: a candidate is feasible if each guardrail holds, at all steps, in at least 1 - δ of its scenarios
    """

    scenarios: int = 1
    over: Literal["mean", "worst", "cvar"] = "mean"
    tail: float = 0.1
    broken: float = 0.0

    def __post_init__(self) -> None:
        named = self.over in ("mean", "worst", "cvar")
        if not isinstance(self.scenarios, int) or self.scenarios < 1 or not named or not (
                0 < self.tail <= 1 and 0 <= self.broken < 1):
            raise ConfigError("scenarios, a whole number >= 1; over 'mean', 'worst' or 'cvar'; 0 < tail <= 1 and "
                              "0 <= broken < 1", f"{self}",
                              "64 scenarios, a tail of 0.1 and none broken are a careful start")


@dataclass(frozen=True)
class TaskSettings:
    """What a task asks of the boxes beside goal, costs and guardrails. What it leaves open is as the agent's
    configurator says, and else as the agent's configuration has it.

    planner  fields of the planner's configuration that are others for this task, {"samples": 64}; with a "type",
             another planner
    skill    name of a policy of the agent: what it would do is among the candidates of the planner's first round;
             where the level "plan" rests, it acts by itself
    levels   names of the agent's levels that go on changing: "plan", "memory", "corrector"; None: all there are
    react    rows of the log between two decisions, see `AgentConfig`
    deliberation  mean share of the planner's calls that a decision may cost, within [0, 1]: the skill acts, and the
             agent's gate says where it is worth thinking (`actor.Deliberate`); None: the planner plans every decision
    attend   name of a learned task whose token perception is given, or one name for each of B problems; "": none
    """

    planner: Mapping[str, Any] = field(default_factory=dict)
    skill: str = ""
    levels: tuple[str, ...] | None = None
    react: int | None = None
    attend: str | tuple[str, ...] = ""
    deliberation: float | None = None

    def __post_init__(self) -> None:
        share = self.deliberation
        if share is not None and not (isinstance(share, (int, float)) and 0 <= share <= 1):
            raise ConfigError("a share of the planner's calls within [0, 1] as `deliberation`", f"{share!r}",
                              "0 acts by habit alone, 1 plans with the full budget")

    def rests(self, level: str) -> bool:
        """Whether this level does not change."""
        return self.levels is not None and level not in self.levels

    def over(self, other: TaskSettings) -> TaskSettings:
        """These, and the other's where these leave something open; of a planner field by field."""
        return TaskSettings(
            {**other.planner, **self.planner}, self.skill or other.skill,
            other.levels if self.levels is None else self.levels,
            other.react if self.react is None else self.react, self.attend or other.attend,
            other.deliberation if self.deliberation is None else self.deliberation)


@dataclass(frozen=True)
class SubTask:
    """One stage of a task that is carried out in stages: it is over when each column lies in its range, or after so
    many steps, whichever comes first; without either it has no end, as only the last stage may.

    task   what is asked meanwhile. The settings that it may have of its own are `planner` and `skill`; it has no stages
    until  column that the agent's read-out knows -> (lowest, highest), either may be infinite; all of them count
    steps  steps of the model; None: no limit

    Raises:
        ConfigError: ranges that no value meets, a task with stages, or settings of the whole task.
    """

    task: Task
    until: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    steps: int | None = None

    @property
    def endless(self) -> bool:
        return not self.until and self.steps is None

    def __post_init__(self) -> None:
        name = repr(self.task.name or "of no name")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"at least one step in stage {name}", f"{self.steps}", "raise `steps`")
        for column, (low, high) in self.until.items():
            if not low <= high:
                raise ConfigError(f"a range of {column} with low <= high, which ends stage {name}", f"[{low}, {high}]",
                                  "turn it round")
        settings = self.task.settings
        if self.task.stages or settings.levels is not None or settings.react is not None or settings.attend:
            raise ConfigError(f"stage {name} without stages, levels, react or attend of its own", "one with",
                              "say them of the whole task")


@dataclass(frozen=True)
class Task:
    """What the agent is asked to do.

    goal        see the four kinds of goal; of a task with stages, what is asked after the last of them, if that has an
                end
    weights     name of a cost term -> weight (u and v of the architecture). A term that is not named weighs 0, an
                intrinsic one 1, in its own unit (`Cost.unit`); weighed 0 it is silenced, which plans and reports say
    guardrails  limits that hold at every imagined step and are never traded against the task
    horizon     steps to imagine; None: the planner's own
    trusted     most steps that any plan may look ahead, whatever `horizon` and planner say; None: no limit
    budget      see Budget
    fallback    (A,) action taken when no plan is feasible; None: the middle of the action range
    risk        see Risk
    name        what people call it
    settings    see TaskSettings
    stages      a given decomposition: sub-tasks that are carried out in order before the goal, each under its own
                guardrails and those of this task; what a stage leaves open of budget, fallback, horizon and planner is
                as here

    Raises:
        ConfigError: two stages of one name, or a stage without an end that is not the last.
    """

    goal: Goal
    weights: Mapping[str, float] = field(default_factory=lambda: {"goal": 1.0})
    guardrails: tuple[Guardrail, ...] = ()
    horizon: int | None = None
    trusted: int | None = None
    budget: Budget = Budget()
    fallback: Tensor | None = None
    risk: Risk = Risk()
    name: str = ""
    settings: TaskSettings = TaskSettings()
    stages: tuple[SubTask, ...] = ()

    def __post_init__(self) -> None:
        for stage in self.stages[:-1]:
            if stage.endless:
                raise ConfigError(f"an end of stage {stage.task.name or 'of no name'!r}, which others follow: columns "
                                  "within ranges, or a number of steps", "none", "say `until`, or `steps`, or both")
        names = self.stage_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError("stages of different names", f"{twice[0]!r} twice", "rename one of them")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """What people call the stages, the goal itself as the last if it is one; by their number where they have no
        name; none of a task without stages."""
        if not self.stages:
            return ()
        every = [stage.task.name for stage in self.stages]
        every += [] if self.stages[-1].endless else [self.name]
        return tuple(name or f"stage {i}" for i, name in enumerate(every, 1))

    def at(self, stage: int) -> Task:
        """What is asked at stage 0, 1, …: one task without stages, under its own guardrails and those of all stages.

        `len(self.stages)` is the goal itself. Of a task without stages there is stage 0 alone.
        """
        if stage >= len(self.stages):
            return replace(self, stages=())
        own = self.stages[stage].task
        return replace(
            own, guardrails=(*self.guardrails, *own.guardrails), horizon=own.horizon or self.horizon,
            trusted=min((x for x in (own.trusted, self.trusted) if x is not None), default=None),
            budget=self.budget if own.budget == Budget() else own.budget,
            fallback=self.fallback if own.fallback is None else own.fallback,
            risk=self.risk if own.risk == Risk() else own.risk, settings=own.settings.over(self.settings))

    def rows(self, index: Tensor, count: int) -> Task:
        """The task for some of `count` problems: index is a mask (B,) or indices.

        Raises:
            ValueError: the goal is code, which cannot be told apart by problem.
        """
        goal = self.goal
        if isinstance(goal, CallableGoal):
            raise ValueError("a goal that is code belongs to all problems at once")
        if isinstance(goal, ColumnGoal):
            goal = replace(goal, targets={
                name: value[index] if isinstance(value, Tensor) and value.numel() == count else value
                for name, value in goal.targets.items()
            })
        elif isinstance(goal, LatentGoal) and len(goal.latent.state) == count:
            goal = goal.rows(index)
        stages = tuple(replace(stage, task=stage.task.rows(index, count)) for stage in self.stages)
        settings, attend = self.settings, self.settings.attend
        if isinstance(attend, tuple) and len(attend) == count:
            chosen = torch.arange(count)[index.cpu()].tolist()
            settings = replace(settings, attend=tuple(attend[i] for i in chosen))
        return replace(self, goal=goal, guardrails=tuple(g.rows(index) for g in self.guardrails), stages=stages,
                       settings=settings)
