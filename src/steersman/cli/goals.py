"""Goals and limits as words: "1,0,0", "speed=0,cos=1", a file, a moment of the log, a function; "speed<=6"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.configurator import guardrail, kept_guardrail
from steersman.configurator import limit as limit
from steersman.configurator.observations import arrays, from_file, from_numbers, named, names_of, number, unfit
from steersman.core.errors import UsageError
from steersman.core.nearest import require_known

if TYPE_CHECKING:
    from torch import Tensor

    from steersman.agent import Agent
    from steersman.core import Goal, Guardrail, Imagined, ObservationGoal, Readout, Signature, Task

_CODE = re.compile(r"(?P<place>[\w./\\-]+):(?P<name>[A-Za-z_]\w*)")
_MOMENT = re.compile(r"log:(?:(?P<episode>\d+):)?(?P<row>\d+)")


def goal(text: str, agent: Agent, run: Path | str | None = None) -> Goal:
    """What `--goal` says, in the words that its help lists: whatever can be said in Python.

        1,0,0              the only observation, a vector     ObservationGoal: the agent reads it as columns, or encodes
        speed=0,cos=1~0.2  columns, with a scale or without   ColumnGoal
        FILE               a picture, .npy, or .npz by name   ObservationGoal
        eye=FILE;arm=1,0   several observations               ObservationGoal
        log:3:40, log:40   a moment of the run's log          ObservationGoal
        latent:GOAL        any of these observations, encoded LatentGoal
        latent=FILE.npy    a latent itself                    LatentGoal
        MODULE:FUNCTION    an energy, see `CallableGoal`      CallableGoal

    run  whose log has the moments

    Raises:
        UsageError: it does not fit the agent; says what would.
    """
    if not text.startswith("latent="):
        _require_files(text)
    if text.startswith("latent:"):
        return _encoded(text.removeprefix("latent:"), agent, run)
    if (observation := _observation(text, agent.signature.world, run)) is not None:
        return observation
    if text.startswith("latent=") and "latent" not in _columns_of(agent):
        return _latent(Path(text.removeprefix("latent=")), agent)
    if match := _CODE.fullmatch(text):
        return _code(match["place"], match["name"])
    if "=" in text:
        return _columns(text, agent)
    return from_numbers(text, agent.signature)


def _require_files(text: str) -> None:
    """Raises UsageError where words that can only be meant as a file name none."""
    for part in text.removeprefix("latent:").split(";"):
        path = part.rpartition("=")[2].strip()
        if path.endswith((".npy", ".npz")) and not (Path(path).is_file() or Path(text).is_file()):
            raise UsageError(f"a file {path} as a goal", "no such file", "check the path")


def _observation(text: str, signature: Signature, run: Path | str | None) -> ObservationGoal | None:
    """A file, a moment, or named observations; None: something else."""
    if match := _MOMENT.fullmatch(text):
        return _moment(match, run)
    if Path(text).is_file():
        return from_file(Path(text), signature)
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    if not parts or not {name.strip() for name, _, _ in parts[:1]} <= set(signature.observations) or not parts[0][1]:
        return None
    from steersman.core import ObservationGoal

    return ObservationGoal({name.strip(): named(name.strip(), value.strip(), signature) for name, _, value in parts})


def _columns_of(agent: Agent) -> tuple[str, ...]:
    return tuple(agent.readout.columns) if agent.readout is not None else ()


def _columns(text: str, agent: Agent) -> Goal:
    from steersman.core import ColumnGoal

    known = _columns_of(agent)
    if not known:
        raise UsageError("a run whose columns can be read from its latent, for a goal on columns", repr(text),
                         f"give a whole observation of {names_of(agent.signature)}: numbers, a file (.png, .npy, .npz) "
                         "or a moment of the log (log:3:40)")
    targets: dict[str, float] = {}
    scale: dict[str, float] = {}
    for word in text.split(","):
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in known:
            raise UsageError(f"columns among {', '.join(known)} in a goal", repr(name), "correct the name")
        if name in targets:
            raise UsageError("one value for each column in a goal", f"{name!r} twice in {text!r}", "leave one of them")
        value, tilde, size = value.partition("~")
        targets[name] = number(value, text)
        if tilde:
            scale[name] = number(size, text)
            if scale[name] <= 0:
                raise UsageError("a size above 0 after ~: the error that counts as 1", repr(word), "correct it")
    return ColumnGoal(targets, scale)


def _moment(match: re.Match[str], run: Path | str | None) -> ObservationGoal:

    from steersman.cli.moments import moment
    from steersman.core import ObservationGoal
    from steersman.runs import Run
    from steersman.training import open_log, stored_config

    if run is None or not (Path(run) / "manifest.json").is_file():
        raise UsageError("a run with a log, for a goal that is one of its moments", f"{run or 'none'}",
                         "give the moment as numbers or a file")
    opened = Run.open(run)
    dataset, pace = open_log(opened), stored_config(opened).pace
    episode, row = moment(dataset, int(match["episode"]) if match["episode"] else None, int(match["row"]))
    assert pace != "auto"
    frames = dataset.moment(episode, row, pace)
    return ObservationGoal({name: value[0] for name, value in frames.items()})


def _encoded(text: str, agent: Agent, run: Path | str | None) -> Goal:
    """An observation as a latent, whatever the agent would make of it."""
    from steersman.cost import resolve

    found: Goal | None = _observation(text, agent.signature.world, run)
    if found is None and ("=" in text or ":" in text):
        raise UsageError("an observation after latent:", repr(text),
                         f"of {names_of(agent.signature)}, give all numbers (latent:1,0,0), a file, or a moment of the "
                         "log (latent:log:3:40)")
    found = found or from_numbers(text, agent.signature)
    return resolve(found, agent.perception, agent.signature, None, "latent")


def _latent(path: Path, agent: Agent) -> Goal:
    import numpy as np
    import torch

    from steersman.core import Latent, LatentGoal

    shape = agent.perception.latent_shape
    if not path.is_file():
        raise UsageError(f"a file with a latent {shape}", f"{path}", "check the path; latent:1,0,0 encodes numbers")
    value = arrays(path).get("")
    if value is None or value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
        got = "several arrays" if value is None else f"{value.dtype} {value.shape}{unfit(value)}"
        raise UsageError(f"a latent {shape} of finite numbers in {path}", got, "save one that this agent encoded")
    return LatentGoal(Latent(torch.from_numpy(value.astype(np.float32))[None]))


def _code(place: str, name: str) -> Goal:
    """`FILE.py:FUNCTION` or `MODULE:FUNCTION`, imported because it was asked for by name."""
    import sys

    from steersman.cli import imports, own
    from steersman.core import CallableGoal

    if place.endswith(".py"):
        function = own.load(Path(place), name)
    else:
        imports.load((place,), "--goal")
        function = getattr(sys.modules[place], name, None)
    if not callable(function):
        raise UsageError(f"a function {name} in {place}: energy(columns, imagined) -> (B, K, H)",
                         "nothing of that name" if function is None else type(function).__name__, "define it there")

    def energy(columns: Mapping[str, Tensor], imagined: Imagined) -> Tensor:
        try:
            found: Tensor = function(columns, imagined)
        except Exception as error:  # code of whoever calls: not a defect of ours
            raise UsageError(f"an energy (B, K, H) from {name} in {place}, of columns {', '.join(columns) or '(none)'}",
                             f"{type(error).__name__}: {error}", "correct it; --debug shows where") from error
        return found

    return CallableGoal(energy, name)


def limits(texts: tuple[str, ...], agent: Agent) -> tuple[Guardrail, ...]:
    """What `--keep` says: limits on columns, and names of guardrails that are kept with the agent.

    Raises:
        UsageError: neither of the form COLUMN<=NUMBER or COLUMN>=NUMBER nor a kept name, or no read-out knows columns.
    """
    kept, outdated = agent.guardrails, agent.additions.outdated
    return tuple(guardrail(text, agent.readout, kept, outdated) for text in texts)


def weights(texts: tuple[str, ...], agent: Agent, goal: Goal) -> dict[str, float]:
    """What `--weight` says: cost terms of the agent and numbers; the goal weighs 1 unless it is named. Nothing said:
    `agent.distance.weights_towards`.

    Raises:
        UsageError: not of the form TERM=NUMBER, or no such term.
    """
    from steersman.agent.distance import weights_towards

    if not texts:
        return weights_towards(agent, goal)
    known = [getattr(cost, "name", "") for cost in agent.costs]
    found = {"goal": 1.0}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError("TERM=NUMBER", repr(text), "e.g. --weight goal=2") from None
        require_known(name, known, "a cost term", "correct --weight, or fit the term first (`steersman fit`)")
    return found


def task(
    path: Path | None, agent: Agent, goal: Goal | None, otherwise: Callable[[], Goal], weighed: tuple[str, ...],
    kept: tuple[str, ...], towards: Goal | None = None,
) -> Task:
    """What `--task` says, with the words of `--goal`, `--weight` and `--keep`: a goal and weights that are said so win,
    limits are added. The agent is set to it.

    otherwise  the goal where nobody says one; towards: a goal of the kind that terms are weighed for, where goals are
               set later

    Raises:
        UsageError: what `agent.read_task` refuses, or no weights of the agent's terms, or no limits.
    """
    from steersman.agent import read_task
    from steersman.core import Task

    limited = limits(kept, agent)
    if path is None:
        goal = goal or otherwise()
        return Task(goal, weights(weighed, agent, towards or goal), limited)
    asked = read_task(path, agent, lambda: goal or towards or otherwise())
    if towards is not None and asked.stages and asked.stages[-1].endless:
        last = asked.stage_names[-1]
        raise UsageError("a last stage with an end, after which each episode has a goal of its own",
                         f"{last!r} without", f"give it `until`, `within` or `steps` in {path}")
    own = weights(weighed, agent, asked.goal) if weighed else {}
    return replace(asked, goal=goal or (otherwise() if towards is not None else asked.goal),
                   weights={**asked.weights, **own}, guardrails=asked.guardrails + limited)


def guarded(task: Task, kept: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the limits of a task, those of its stages too, each once; the last of them, which `task` added for the
    words of `--keep`, in these words."""
    first = len(task.guardrails) - len(kept)
    own = (rail.name for stage in task.stages for rail in stage.task.guardrails)
    return tuple(dict.fromkeys((*(rail.name for rail in task.guardrails[:first]), *kept, *own)))


def judges(texts: tuple[str, ...], agent: Agent, shown: Readout) -> tuple[Guardrail, ...]:
    """The same without margins, over what the world shows.

    Raises:
        UsageError: as `limits`, or a kept guardrail that reads something else.
    """
    from steersman.evaluation.measured_limits import over_columns

    kept = [(kept_guardrail(text, agent.guardrails, agent.additions.outdated), text) for text in texts]
    return tuple(limit(text, shown) if rail is None else over_columns(rail.bare(), tuple(shown.columns))
                 for rail, text in kept)
