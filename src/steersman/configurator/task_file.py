"""Tasks as files: TOML with a strict schema, read into the `Task` that Python would give.

Knows what an agent offers by name, and no agent. Whatever does not fit is answered in one line with what there is, the
nearest name first.
"""

from __future__ import annotations

import math
import tomllib
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor

from steersman.configurator.limits import condition, guardrail
from steersman.configurator.observations import from_file, named
from steersman.core import (
    Budget,
    ColumnGoal,
    Goal,
    Guardrail,
    ObservationGoal,
    Readout,
    Risk,
    Signature,
    SteersmanError,
    SubTask,
    Task,
    TaskSettings,
    UsageError,
)
from steersman.core.nearest import require_known


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Frozen, closed, fields by name."""


class GoalFile(_Part, frozen=True, kw_only=True):
    """One of the first three.

    columns      column -> value; scale: column -> size of an error that counts as 1
    picture      a file with the only observation: .png, .npy, .npz
    observation  name -> numbers, or a file
    """

    columns: dict[str, float] = {}
    scale: dict[str, float] = {}
    picture: str = ""
    observation: dict[str, list[float] | str] = {}


class BudgetFile(_Part, frozen=True, kw_only=True):
    """As `core.Budget`."""

    calls: int | None = None
    seconds: float | None = None


class RiskFile(_Part, frozen=True, kw_only=True):
    """As `core.Risk`."""

    scenarios: int = 1
    over: Literal["mean", "worst", "cvar"] = "mean"
    tail: float = 0.1
    broken: float = 0.0


class _Asked(_Part, frozen=True, kw_only=True):
    """What a task and one of its stages may both say."""

    name: str = ""
    goal: GoalFile | None = None
    weights: dict[str, float] | None = None
    guardrails: tuple[str, ...] = ()
    horizon: int | None = None
    budget: BudgetFile = BudgetFile()
    fallback: tuple[float, ...] | None = None
    risk: RiskFile | None = None
    planner: dict[str, Any] = {}
    skill: str = ""
    deliberation: float | None = None


class StageFile(_Asked, frozen=True, kw_only=True):
    """One `[[stage]]`. It is over when all conditions of `until` and all columns of `within` hold, or after `steps`.

    until   conditions on columns, as guardrails are written: "x>=0.5"
    within  column of the stage's goal -> how near its value must be
    steps   of the model
    """

    until: tuple[str, ...] = ()
    within: dict[str, float] = {}
    steps: int | None = None


class TaskFile(_Asked, frozen=True, kw_only=True):
    """A task as a file says it: fields as in `core.Task` and `core.TaskSettings`.

    goal        none where whoever reads it sets goals (`steersman evaluate`); where there are stages, what follows the
                last of them, if that has an end
    weights     the goal weighs 1 unless it is named; None: as the agent weighs such a goal
    guardrails  names of those kept with the agent, and conditions on columns: "speed<=6"
    fallback    one number for each entry of an action
    stage       a given decomposition, in order. What a stage does not say is as the file says it; guardrails of the
                file hold in all
    """

    trusted: int | None = None
    levels: tuple[str, ...] | None = None
    react: int | None = None
    attend: str = ""
    stage: tuple[StageFile, ...] = ()


@dataclass(frozen=True)
class Known:
    """What an agent offers a task.

    world       what it observes and does, as the world shows it
    terms       names of its cost terms
    readout     what its columns are read by
    guardrails  name -> one that is kept; outdated: names of those that were fitted to other weights
    weigh       how it weighs a goal where nobody says
    """

    world: Signature
    terms: Collection[str]
    readout: Readout | None = None
    guardrails: Mapping[str, Guardrail] = field(default_factory=dict)
    outdated: Collection[str] = ()
    weigh: Callable[[Goal], Mapping[str, float]] = lambda goal: {"goal": 1.0}


def parse_task(
    content: str | bytes, known: Known, where: Path | str = "the task", goal: Callable[[], Goal] | None = None
) -> Task:
    """A task from TOML.

    where  the file, for errors; names of files inside stand beside it
    goal   asked where the file says none

    Raises:
        UsageError: no TOML; a field, a term, a guardrail, a column or an observation that there is not; no goal.
        ConfigError: values that a task refuses.
    """
    path = Path(where)
    try:
        plain = tomllib.loads(content if isinstance(content, str) else content.decode())
    except (ValueError, RecursionError) as error:
        got = " ".join(str(error).split())
        raise UsageError(f"a task as TOML in {path}", got, "correct it there") from error
    _require_fields(plain, TaskFile, "")
    try:
        file = msgspec.convert(plain, TaskFile)
    except msgspec.ValidationError as error:
        raise UsageError(f"a task in {path}", f"{error}", "correct it there") from error
    return _Building(file, known, path, goal).task()


def _require_fields(plain: Any, kind: Any, at: str) -> None:
    """Refuse fields that the schema does not have, with the nearest one first."""
    if isinstance(plain, list):
        for inner in plain:
            _require_fields(inner, kind, at)
    elif isinstance(plain, dict):
        hints = typing.get_type_hints(kind)
        for name, value in plain.items():
            require_known(name, hints, f"a field of {at or 'a task'}", "correct it")
            if (inner := _struct_in(hints[name])) is not None:
                _require_fields(value, inner, f"{at}.{name}" if at else name)


def _struct_in(hint: Any) -> type | None:
    """The structure that a field holds: alone, or None, or several of it."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union, tuple):
        return next((found for x in inside if (found := _struct_in(x)) is not None), None)
    return None


class _Building:
    """One file on its way to a task."""

    def __init__(self, file: TaskFile, known: Known, path: Path, goal: Callable[[], Goal] | None) -> None:
        self.file, self.known, self.path, self.goal = file, known, path, goal

    def task(self) -> Task:
        file = self.file
        fallback = None if file.fallback is None else torch.tensor(file.fallback)
        settings = TaskSettings(file.planner, file.skill, file.levels, file.react, file.attend,
                                file.deliberation)
        stages = tuple(self._stage(stage, number) for number, stage in enumerate(file.stage, 1))
        goal = self._goal(file.goal, "the task") or (stages[-1].task.goal if stages else None)
        if goal is None and self.goal is not None:
            goal = self.goal()
        if goal is None:
            raise self._wrong("a goal, or stages that have goals", "neither", "add one, for instance [goal.columns]")
        return Task(
            goal, self._weights(file.weights, goal, "the task"), self._guardrails(file.guardrails, "the task"),
            file.horizon, file.trusted, Budget(file.budget.calls, file.budget.seconds), fallback,
            self._risk(file.risk), file.name, settings, stages)

    def _stage(self, stage: StageFile, number: int) -> SubTask:
        file, at = self.file, f"stage {repr(stage.name) if stage.name else number}"
        goal = self._goal(stage.goal, at)
        if goal is None:
            raise self._wrong(f"a goal of {at}", "none", "give every stage a goal of its own")
        weights = stage.weights if stage.weights is not None else file.weights
        risk = self._risk(stage.risk or file.risk)
        fallback = None if stage.fallback is None else torch.tensor(stage.fallback)
        task = Task(
            goal, self._weights(weights, goal, at), self._guardrails(stage.guardrails, at), stage.horizon, None,
            Budget(stage.budget.calls, stage.budget.seconds), fallback, risk, stage.name,
            TaskSettings(stage.planner, stage.skill, deliberation=stage.deliberation))
        ends: dict[str, tuple[float, float]] = {}

        def end(column: str, low: float, high: float) -> None:
            before = ends.get(column, (-math.inf, math.inf))
            ends[column] = max(low, before[0]), min(high, before[1])

        for words in stage.until:
            end(*condition(words, self.known.readout, f"`until` of {at} in {self.path}"))
        for column, near in stage.within.items():
            targets = goal.targets if isinstance(goal, ColumnGoal) else {}
            require_known(column, targets, f"a column of the goal of {at}", "correct `within`, or use `until`")
            if not near > 0:
                raise self._wrong(f"a distance above 0 within which {column} ends {at}", f"{near}", "raise it")
            end(column, float(targets[column]) - near, float(targets[column]) + near)
        return SubTask(task, ends, stage.steps)

    def _goal(self, goal: GoalFile | None, at: str) -> Goal | None:
        if goal is None:
            return None
        kinds = [kind for kind in ("columns", "picture", "observation") if getattr(goal, kind)]
        if len(kinds) != 1:
            raise self._wrong(f"one of columns, picture and observation in the goal of {at}",
                              " and ".join(kinds) or "none", "leave one of them")
        if goal.columns:
            return self._columns(goal, at)
        if goal.picture:
            return from_file(self._file(goal.picture), self.known.world)
        return ObservationGoal({name: self._observation(name, value, at) for name, value in goal.observation.items()})

    def _columns(self, goal: GoalFile, at: str) -> ColumnGoal:
        readout = self.known.readout
        if readout is None:
            raise self._wrong("an agent whose columns can be read from its latent, for a goal on columns",
                              "one without", "give the goal as a picture or an observation")
        for name in goal.columns:
            require_known(name, readout.columns, f"a column in the goal of {at}", "correct the name")
        for name, size in goal.scale.items():
            require_known(name, goal.columns, f"a column of the goal of {at}, to scale", "correct the name")
            if not size > 0:
                raise self._wrong(f"a scale of {name} above 0: the error that counts as 1", f"{size}", "correct it")
        return ColumnGoal(goal.columns, goal.scale)

    def _observation(self, name: str, value: list[float] | str, at: str) -> Tensor:
        require_known(name, self.known.world.observations, f"an observation in the goal of {at}", "correct the name")
        if isinstance(value, str):
            return named(name, f"{self._file(value)}", self.known.world)
        return named(name, ",".join(map(repr, value)), self.known.world)

    def _file(self, name: str) -> Path:
        """A file that is named in this one: beside it, unless the name says a whole path."""
        path = self.path.parent / name
        if not path.is_file():
            raise self._wrong(f"a file {path}", "no such file", "check the name: it is looked for beside the task")
        return path

    def _weights(self, weights: dict[str, float] | None, goal: Goal, at: str) -> Mapping[str, float]:
        if weights is None:
            return self.known.weigh(goal)
        for term in weights:
            require_known(term, self.known.terms, f"a cost term in the weights of {at}",
                          "correct it, or fit the term first (`steersman fit`)")
        return {"goal": 1.0, **weights}

    def _guardrails(self, words: tuple[str, ...], at: str) -> tuple[Guardrail, ...]:
        known, where = self.known, f"the guardrails of {at} in {self.path}"
        return tuple(guardrail(x, known.readout, known.guardrails, known.outdated, where) for x in words)

    def _risk(self, risk: RiskFile | None) -> Risk:
        return Risk() if risk is None else Risk(risk.scenarios, risk.over, risk.tail, risk.broken)

    def _wrong(self, expected: str, got: str, fix: str) -> SteersmanError:
        return UsageError(f"{expected}, in {self.path}", got, fix)
