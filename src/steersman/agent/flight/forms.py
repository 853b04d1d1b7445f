"""A task as plain values and tensors, so that a recorded decision can be made again; what is code is not stored.

Guardrails that have a configuration are stored as that and their tensors, like those that are kept with a run
(`agent.fitted.additions`). Others are taken apart into their attributes and put together again as the same class, if
this process knows one of that name beside its guardrails. A read-out is stored as a reference
to the agent's own, if it is that.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import torch
from safetensors.torch import save as encode
from torch import Tensor

from steersman.agent.fitted.additions import GuardrailRecord, build_guardrail, record_guardrail, under
from steersman.core import (
    Budget,
    CallableGoal,
    CheckpointError,
    ColumnGoal,
    ConfigError,
    Goal,
    Guardrail,
    Latent,
    LatentGoal,
    ObservationGoal,
    PartError,
    Readout,
    Risk,
    RunError,
    SubTask,
    Task,
    TaskSettings,
)
from steersman.core.parts import convert
from steersman.runs.tensors import parse_header

_GIVE = "replay it from Python with the same task: steersman.agent.replay(run, number, task=…)"


class Unwritable(Exception):
    """This cannot be stored: it holds code, or an object of another kind."""


def goal_words(goal: Goal) -> str:
    """The goal in a few words."""
    if isinstance(goal, ColumnGoal):
        return ", ".join(f"{name} = {_short(value)}" for name, value in goal.targets.items())
    if isinstance(goal, CallableGoal):
        return f"least {goal.name}"
    return "what an observation shows" if isinstance(goal, ObservationGoal) else "a latent state"


def _short(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() > 1:
        return f"{value.min():.4g} to {value.max():.4g}"
    return f"{float(value):.4g}"


def task_form(
    task: Task, readout: Readout | None, latent_shape: tuple[int, ...] = ()
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The task as plain values and tensors. Parts that cannot be stored are left out, and named in `missing`.

    latent_shape  of the states that it was planned with
    """
    tensors: dict[str, Tensor] = {}
    missing: list[str] = []

    def store(value: Any, name: str, what: str) -> Any:
        try:
            return _write(value, name, tensors, readout)
        except Unwritable:
            missing.append(what)
            return None

    def plain(task: Task, at: str) -> dict[str, Any]:
        goal, settings = task.goal, task.settings
        if isinstance(goal, LatentGoal):
            tensors[f"{at}.goal"] = goal.latent.state
            aim: Any = {"kind": "latent"}
        elif isinstance(goal, ColumnGoal):
            aim = {"kind": "columns", "targets": store(dict(goal.targets), f"{at}.goal.targets", "goal"),
                   "scale": store(dict(goal.scale), f"{at}.goal.scale", "goal")}
        else:
            aim = {"kind": "other"}
            missing.append(f"goal {goal_words(goal)}")
        return {
            "goal": aim, "weights": dict(task.weights), "horizon": task.horizon, "trusted": task.trusted,
            "calls": task.budget.calls, "seconds": task.budget.seconds,
            "fallback": store(task.fallback, f"{at}.fallback", "fallback"),
            "guardrails": [
                _configured(g, f"{at}.guardrail.{i}", tensors, readout, latent_shape)
                or store(g, f"{at}.guardrail.{i}", f"guardrail {g.name}") for i, g in enumerate(task.guardrails)
            ],
            "risk": [task.risk.scenarios, task.risk.over, task.risk.tail, task.risk.broken], "name": task.name,
            "settings": {
                "planner": dict(settings.planner), "skill": settings.skill, "react": settings.react,
                "deliberation": settings.deliberation,
                "levels": None if settings.levels is None else list(settings.levels),
                "attend": settings.attend if isinstance(settings.attend, str) else list(settings.attend),
            },
            "stages": [{"task": plain(stage.task, f"{at}.stage.{i}"), "steps": stage.steps,
                        "until": {name: list(ends) for name, ends in stage.until.items()}}
                       for i, stage in enumerate(task.stages)],
        }

    form = plain(task, "task")
    return form | {"missing": missing}, tensors


def task_of(form: Mapping[str, Any], tensors: Mapping[str, Tensor], readout: Readout | None) -> Task:
    """The task again.

    Raises:
        RunError: a part of it could not be stored, or is of a class that this process does not know.
    """
    if form["missing"]:
        raise RunError("a task that could be stored whole", f"one with {', '.join(form['missing'])}", _GIVE)
    return _task_of(form, tensors, readout, "task")


def _task_of(form: Mapping[str, Any], tensors: Mapping[str, Tensor], readout: Readout | None, at: str) -> Task:
    """One task; what an older record does not say is as it was then."""
    aim = form["goal"]
    goal: Goal
    if aim["kind"] == "latent":
        goal = LatentGoal(Latent(tensors[f"{at}.goal"]))
    else:
        goal = ColumnGoal(_read(aim["targets"], tensors, readout), _read(aim["scale"], tensors, readout))
    said = form.get("settings", {})
    attend, levels = said.get("attend", ""), said.get("levels")
    settings = TaskSettings(
        said.get("planner", {}), said.get("skill", ""), None if levels is None else tuple(levels), said.get("react"),
        attend if isinstance(attend, str) else tuple(attend), said.get("deliberation"))
    stages = tuple(
        SubTask(_task_of(stage["task"], tensors, readout, f"{at}.stage.{i}"),
                {name: (ends[0], ends[1]) for name, ends in stage["until"].items()}, stage["steps"])
        for i, stage in enumerate(form.get("stages", ())))
    return Task(
        goal, form["weights"], tuple(_read(g, tensors, readout) for g in form["guardrails"]), form["horizon"],
        form["trusted"], Budget(form["calls"], form["seconds"]), _read(form["fallback"], tensors, readout),
        Risk(*form.get("risk", ())), form.get("name", ""), settings, stages)


# Guardrails that have a configuration -----------------------------------------------------------------------------


def _configured(
    guardrail: Guardrail, name: str, tensors: dict[str, Tensor], readout: Readout | None, latent_shape: tuple[int, ...]
) -> dict[str, Any] | None:
    try:
        record, values = record_guardrail("task", guardrail, readout, latent_shape)
    except ConfigError:
        return None
    tensors |= {f"{name}.{key}": value for key, value in values.items()}
    return {"is": "guardrail", "name": name, "record": msgspec.to_builtins(record)}


def _guardrail(stored: Mapping[str, Any], tensors: Mapping[str, Tensor], readout: Readout | None) -> Guardrail:
    where, values = "the recorded task", under(f"{stored['name']}.", tensors)
    try:
        record = convert(stored["record"], GuardrailRecord, strict=False)
        header = parse_header(encode(values), where)
        return build_guardrail(record, values, header, readout, record.latent_shape, where)
    except (msgspec.ValidationError, PartError, CheckpointError) as error:
        raise RunError("a guardrail of this version in a recorded task", f"{error}", _GIVE) from error


# Values ---------------------------------------------------------------------------------------------------------


def _write(value: Any, name: str, tensors: dict[str, Tensor], readout: Readout | None) -> Any:
    """Plain values as they are; the rest as {"is": what, …}."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"is": "tensor", "name": name}
    if isinstance(value, (list, tuple)):
        inner = [_write(x, f"{name}.{i}", tensors, readout) for i, x in enumerate(value)]
        return {"is": "tuple" if isinstance(value, tuple) else "list", "of": inner}
    if isinstance(value, Mapping):
        return {"is": "dict", "of": [[_write(k, f"{name}.k{i}", tensors, readout),
                                      _write(v, f"{name}.{i}", tensors, readout)]
                                     for i, (k, v) in enumerate(value.items())]}
    if isinstance(value, Readout) and value is readout:
        return {"is": "readout"}
    if _name(type(value)) in _known() and not isinstance(value, torch.nn.Module):
        attributes = {k: _write(v, f"{name}.{k}", tensors, readout) for k, v in _attributes(value).items()}
        return {"is": "object", "class": _name(type(value)), "attributes": attributes}
    raise Unwritable


def _read(value: Any, tensors: Mapping[str, Tensor], readout: Readout | None) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value["is"]
    if kind == "tensor":
        return tensors[value["name"]]
    if kind in ("tuple", "list"):
        inner = [_read(x, tensors, readout) for x in value["of"]]
        return tuple(inner) if kind == "tuple" else inner
    if kind == "dict":
        return {_read(k, tensors, readout): _read(v, tensors, readout) for k, v in value["of"]}
    if kind == "readout":
        return readout
    if kind == "guardrail":
        return _guardrail(value, tensors, readout)
    known = _known()
    if value["class"] not in known:
        raise RunError("guardrails of classes that this process knows", value["class"],
                       "import the module that defines it")
    found: Any = object.__new__(known[value["class"]])
    for name, inner in value["attributes"].items():
        object.__setattr__(found, name, _read(inner, tensors, readout))
    return found


def _attributes(value: Any) -> dict[str, Any]:
    family: tuple[type, ...] = type(value).__mro__
    slots = [name for cls in family for name in getattr(cls, "__slots__", ())]
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | dict(getattr(value, "__dict__", {}))


def _known() -> dict[str, type]:
    """Classes of guardrails, and those that are defined in the same packages: what guardrails are made of."""
    packages = {cls.__module__.rpartition(".")[0] or cls.__module__ for cls in _below(Guardrail)}
    found: dict[str, type] = {}
    for name, module in list(sys.modules.items()):
        if module is not None and (name in packages or name.rpartition(".")[0] in packages):
            here = (x for x in vars(module).values() if isinstance(x, type) and x.__module__ == name)
            found |= {_name(cls): cls for cls in here}
    return found


def _below(base: type) -> Iterator[type]:
    subclasses: list[type] = base.__subclasses__()
    for cls in subclasses:
        yield cls
        yield from _below(cls)


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def finite(value: float) -> float | None:
    """A number for people: None where it is none."""
    return value if math.isfinite(value) else None
