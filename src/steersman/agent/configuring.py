"""From a task to what acts: its settings and the configurator's as one task, and the planner that it asks for.

Knows configurator, policies and planners by core's abstract classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from steersman.actor import Deliberate, Gate, Reactive, Seeded
from steersman.agent.levels import CORRECTOR, MEMORY, PLAN
from steersman.core import (
    Budget,
    ConfigError,
    Configurator,
    Planner,
    Policy,
    Readout,
    Signature,
    Task,
    TaskSettings,
)
from steersman.core.nearest import require_known
from steersman.core.parts import PlannerConfig, convert, registered
from steersman.core.planner import GraphSource
from steersman.core.way_graph import WaySource

LEVELS = (PLAN, MEMORY, CORRECTOR)
"""Levels of an agent that a task may let rest."""


def configured(task: Task, configurator: Configurator | None) -> Task:
    """The task with what the configurator says where the task leaves it open, its stages too.

    Of what `Configurator.configure` gives, these names are read: "weights" of terms that the task does not name,
    "horizon", "calls" and "seconds" of its budget, and "planner", "skill", "levels", "react", "attend" and
    "deliberation", as in `TaskSettings`. Other names are for boxes that ask the configurator themselves.
    """
    if configurator is None:
        return task
    said = configurator.configure(task)
    names = ("planner", "skill", "levels", "react", "attend", "deliberation")
    own = {name: said[name] for name in names if name in said}
    stages = tuple(replace(stage, task=_stage(stage.task, configurator)) for stage in task.stages)
    return replace(_under(task, said), settings=task.settings.over(TaskSettings(**own)), stages=stages)  # type: ignore[arg-type]


def _stage(task: Task, configurator: Configurator) -> Task:
    """A stage: levels, react and attend are the whole task's."""
    said = configurator.configure(task)
    own = {name: said[name] for name in ("planner", "skill", "deliberation") if name in said}
    return replace(_under(task, said), settings=task.settings.over(TaskSettings(**own)))  # type: ignore[arg-type]


def _under(task: Task, said: Mapping[str, Any]) -> Task:
    own = task.budget
    budget = Budget(said.get("calls") if own.calls is None else own.calls,
                    said.get("seconds") if own.seconds is None else own.seconds)
    return replace(task, weights={**said.get("weights", {}), **task.weights}, budget=budget,
                   horizon=task.horizon or said.get("horizon"))


def require_settings(task: Task, tasks: Sequence[str], remembers: bool) -> None:
    """Refuse levels and learned tasks that this agent does not have.

    tasks  that its perception learned; remembers: it has a memory

    Raises:
        UsageError: says which there are.
    """
    known = [level for level in LEVELS if level != MEMORY or remembers]
    for level in task.settings.levels or ():
        require_known(level, known, "a level", "correct `levels`: those named go on changing, the others rest")
    attend = task.settings.attend
    for name in (attend,) if isinstance(attend, str) else attend:
        if name:
            require_known(name, tasks, "a learned task", "correct `attend`, or train a perception with `tasks`")


class Planners:
    """The planner of an agent, and those that tasks make of it, each made once and told for whom it plans.

    own       the agent's planner, as it is when asked
    policies  name -> policy, as they are when asked
    signature, readout, latent_shape  of the agent, see `Planner.prepare`
    gate      -> how far decisions are thought about that a task says `deliberation` of, as it is when asked
    """

    def __init__(
        self, own: Callable[[], Planner], policies: Callable[[], Mapping[str, Policy]],
        gate: Callable[[], Gate | None], signature: Signature, readout: Readout | None, latent_shape: tuple[int, ...],
    ) -> None:
        self._own, self._policies, self._gate, self._for = own, policies, gate, (signature, readout, latent_shape)
        self._sources: tuple[GraphSource, WaySource] | None = None
        self._made: dict[tuple[bytes, str, bool, float | None], tuple[Any, Planner]] = {}
        self._ready(own())

    def recall(self, graphs: GraphSource, ways: WaySource) -> None:
        """Where graphs of remembered states and of ways come from."""
        self._sources = graphs, ways
        self._ready(self.own)

    def _ready(self, planner: Planner) -> None:
        planner.prepare(*self._for)
        if self._sources is not None:
            planner.remember(self._sources[0])
            planner.recall(self._sources[1])

    @property
    def own(self) -> Planner:
        return self._own()

    def of(self, settings: TaskSettings) -> Planner:
        """
        Raises:
            UsageError: a skill, a planner or a field of its configuration that there is not.
            ConfigError: values that the planner refuses; nothing that could act.
        """
        alone = settings.rests(PLAN)
        if alone and not settings.skill:
            known = ", ".join(self._policies()) or "none"
            raise ConfigError("a skill that acts while the level 'plan' rests", f"none; skills: {known}",
                              "name one, or let 'plan' go on")
        share = settings.deliberation
        if share is not None and not settings.skill:
            known = ", ".join(self._policies()) or "none"
            raise ConfigError("a skill that acts where nothing is thought about, beside `deliberation`",
                              f"none; skills: {known}", "name one as `skill`, or leave `deliberation` out")
        if not settings.planner and not settings.skill:
            return self.own
        policy = None
        if settings.skill:
            fix = "correct `skill`, or add the policy to the agent (Agent.add_policy)"
            policy = self._policies()[require_known(settings.skill, self._policies(), "a skill", fix)]
        key = (msgspec.json.encode(dict(settings.planner), order="sorted"), settings.skill, alone, share)
        made, parts = self._made.get(key), (policy, self.own, self._gate())
        if made is None or any(a is not b for a, b in zip(made[0], parts, strict=True)):
            made = self._made[key] = parts, self._make(settings, policy, alone)
        return made[1]

    def _make(self, settings: TaskSettings, policy: Policy | None, alone: bool) -> Planner:
        if policy is not None and alone:
            return Reactive(policy)
        planner = self.own
        if settings.planner:
            planner = planner_config(self.own.config, settings.planner).build()
            self._ready(planner)
        if policy is None:
            return planner
        if settings.deliberation is None:
            return Seeded(planner, policy)
        gate, share = self._gate(), settings.deliberation
        if gate is None:
            raise ConfigError("a gate that says where to think, for `deliberation`", "an agent without one",
                              "calibrate one (evaluation.calibrate_gate) and give it to the agent: agent.gate")
        planner = planner.around(lambda inner: Deliberate(inner, policy, gate, share))
        self._ready(planner)
        return planner


def planner_config(own: Any, changes: Mapping[str, Any]) -> PlannerConfig:
    """The configuration of a planner with some of its fields changed; with a "type", that of another planner.

    Raises:
        UsageError: a planner or a field that there is not. ConfigError: values that it refuses.
    """
    kinds = {str(kind.__struct_config__.tag): kind for kind in registered(Planner)}  # type: ignore[attr-defined]
    tag = changes.get("type")
    if tag is not None:
        require_known(str(tag), kinds, "a planner", "correct its `type`")
    before = msgspec.to_builtins(own) if isinstance(own, msgspec.Struct) else None
    if tag is None and (before is None or before.get("type") not in kinds):
        raise ConfigError("a planner that a registered configuration builds, to change its fields", type(own).__name__,
                          "name the planner by its `type`")
    plain = dict(changes) if tag is not None and (before is None or before.get("type") != tag) else {
        **(before or {}), **changes}
    for name in changes:
        require_known(name, {"type", *kinds[plain["type"]].__struct_fields__},  # type: ignore[attr-defined]
                      f"a setting of the planner {plain['type']!r}", "correct the name")
    try:
        return convert(plain, PlannerConfig)  # type: ignore[type-abstract]
    except msgspec.ValidationError as error:
        raise ConfigError(f"settings that the planner {plain['type']!r} takes", f"{error}", "correct them") from error
