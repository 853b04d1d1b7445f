"""Writes every decision of an agent into its run, so that it can be explained and decided again.

Knows planners, costs and guardrails by core's abstract classes only. Shapes: B problems, H horizon, A action size.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import Tensor

from steersman.actor.ground.verdict import margins_of
from steersman.agent.flight.forms import goal_words, task_form
from steersman.agent.flight.watching import Sheet
from steersman.agent.learning import Standing
from steersman.agent.state import AgentState
from steersman.core import Observation, Plan, Planner, Problem, Readout, StorageError, Surprise, Task
from steersman.core.clock import taped
from steersman.core.compiled import compiled, compiler
from steersman.core.ledger import Ledger, level_form
from steersman.runs import Run
from steersman.runs import manifest as manifests
from steersman.runs.decisions import RETAINED, DecisionWriter, Recorded, Session


@dataclass(frozen=True)
class Inputs:
    """What a decision is made from: as given to `Agent.act`, the agent's state before it, and which weights act, with
    as many moments of experience behind them. asked: the task with its goals as costs score them."""

    observation: Observation
    since: Tensor | None
    measured: Mapping[str, Tensor] | None
    state: AgentState
    task: Task
    asked: Task
    standing: Standing
    through: int


class Recorder:
    """The decisions of one agent, as a session of its run.

    What is written down is seen from outside the planner, so every planner is recorded, other people's too. A disk
    that refuses does not stop the agent: recording ends with a warning, and `failure` says why.
    """

    def __init__(
        self, run: Run, model: str, checkpoint: int | None, planner: Planner, readout: Readout | None, *,
        world: str = "", retain: int = RETAINED, memory: str = "", costs: Mapping[str, str] | None = None,
        standing: Standing | None = None, ledger: Ledger | None = None,
    ) -> None:
        """model: see `model_fingerprint`; retain: bytes of records that stay, the oldest go first; costs: fitted terms
        that were added to the agent, and their fingerprints; standing: which weights act at the beginning (None: those
        of the checkpoint); ledger: where the agent counts what it changes."""
        config, standing = planner.config, standing or Standing()
        self.readout, self.failure = readout, ""
        self._writer = DecisionWriter(run.path, Session(
            started=datetime.now(UTC).isoformat(timespec="seconds"), run=run.manifest.id, checkpoint=checkpoint,
            model=model, memory=memory, planner=msgspec.to_builtins(config) if _is_config(config) else None,
            planner_name=type(planner).__name__, world=world, threads=torch.get_num_threads(),
            costs=dict(costs or {}), compiled=compiler() if compiled() else "", versions=manifests.versions(),
            machine={**manifests.machine(), "simd": _simd()}, updates=standing.updates, learned=standing.learned,
        ), retain)
        self._memory = memory
        self._ledger = ledger or Ledger()
        self._counted = dict(self._ledger.entries)
        self._after: tuple[AgentState, Task, Standing] | None = None  # what the next decision goes on from

    @property
    def session(self) -> str:
        """Name of the session's folder."""
        return self._writer.path.name

    def decide(
        self, planning: Callable[[Problem], Plan], problem: Problem, inputs: Inputs, surprise: Surprise | None = None,
        stage: Tensor | None = None,
    ) -> Plan:
        """The plan, unchanged, after it was written down. stage: (B,) of a task that is carried out in stages."""
        if self.failure:
            return planning(problem)
        sheet = Sheet(problem)
        with taped() as tape:
            plan = planning(sheet.problem)
        try:
            clock = tuple(tape.readings) if problem.task.budget.seconds is not None else ()
            self._writer.append(self._record(plan, problem, sheet, inputs, clock, surprise, stage))
        except StorageError as error:
            self.failure = str(error)
            warnings.warn(f"decisions are no longer recorded: {error}", RuntimeWarning, stacklevel=3)
        return plan

    def decided(self, state: AgentState, task: Task, standing: Standing) -> None:
        """The agent's state after the decision."""
        self._after = state, task, standing

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._writer.close()

    def _record(
        self, plan: Plan, problem: Problem, sheet: Sheet, inputs: Inputs, clock: tuple[float, ...],
        surprise: Surprise | None, stage: Tensor | None,
    ) -> Recorded:
        state, whole = inputs.state, self._writer.due or not self._goes_on(inputs)
        tensors = {f"observation.{name}": value for name, value in inputs.observation.items()}
        tensors |= {"actions": plan.actions, "decided": problem.seeds}
        tensors |= {f"measured.{name}": value for name, value in (inputs.measured or {}).items()}
        for name, value in (("since", inputs.since), ("exogenous", problem.exogenous)):
            if value is not None:
                tensors[name] = value
        form = None
        if whole:
            form, parts = task_form(inputs.asked, self.readout, tuple(problem.belief.state.shape[1:]))
            tensors |= parts | {f"carried.{name}": value for name, value in state.stored().items()}
        return Recorded(
            number=self._writer.number, decision=int(state.decision.max()), when=time.time(), seconds=plan.seconds,
            seeds=tuple(problem.seeds.tolist()), actions=_rows(plan.actions[:, 0]),
            feasible=tuple(plan.feasible.tolist()),
            energy={name: _rows(value) for name, value in plan.energy.items()},
            weights=dict(problem.weights), goal=goal_words(problem.task.goal),
            kept=tuple(plan.kept.tolist()), calls=tuple(plan.calls.tolist()),
            vetoed={name: tuple(value.tolist()) for name, value in plan.vetoed.items()}, reason=plan.reason,
            candidates=sheet.candidates(), limits=sheet.limits(_margins(plan, problem.task)),
            expected=self._expected(plan), surprise=pooled(surprise), memory=self._memory, whole=whole, task=form,
            clock=clock, updates=inputs.standing.updates, learned=inputs.standing.learned, through=inputs.through,
            levels=self._levels(), stage=() if stage is None else tuple(stage.tolist()),
            tensors=_file(tensors),
        )

    def _levels(self) -> dict[str, tuple[Any, int, int]]:
        """Every level with what was counted since the last record."""
        counted, self._counted = self._ledger.since(self._counted), dict(self._ledger.entries)
        return {name: (level_form(self._counted[name].level), *numbers) for name, numbers in counted.items()}

    def _goes_on(self, inputs: Inputs) -> bool:
        """Whether this decision follows the last one written, with nothing changed in between."""
        if self._after is None:
            return False
        after, task, standing = self._after
        return after is inputs.state and inputs.task is task and inputs.standing == standing

    def _expected(self, plan: Plan) -> dict[str, tuple[tuple[float, ...], ...]]:
        if self.readout is None:
            return {}
        values = self.readout.read(plan.imagined.states[:, 0], plan.imagined.context)
        return {name: _rows(values[..., i]) for i, name in enumerate(self.readout.columns)}


def _margins(plan: Plan, task: Task) -> dict[str, Tensor]:
    """Guardrail -> margin (B, H) of each step of the chosen plan, where the plan shows what it imagined of it."""
    if plan.imagined.states.shape[2] != plan.actions.shape[1] + 1:
        return {}
    found = margins_of(task.guardrails, plan.imagined, plan.actions[:, None])
    return {name: margin[:, 0] for name, margin in found.items()}


def pooled(surprise: Surprise | None) -> tuple[float | None, ...]:
    """Of each problem, None where nothing had been foreseen."""
    if surprise is None:
        return ()
    known = surprise.known.flatten(1).any(1).tolist()
    return tuple(value if ok else None for value, ok in zip(surprise.pooled().tolist(), known, strict=True))


def _file(tensors: Mapping[str, Tensor]) -> bytes:
    """As a safetensors file. By way of numpy where it knows the types: safetensors' own way from torch makes a ctypes
    type for each length, which Python keeps for good, and an agent that acts for days grows by it."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    if any(value.dtype == torch.bfloat16 for value in plain.values()):
        return save({name: value.clone() for name, value in plain.items()})
    return save_arrays({name: value.numpy() for name, value in plain.items()})


def _rows(value: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in value.detach().double().cpu().tolist())


def _is_config(config: Any) -> bool:
    return isinstance(config, msgspec.Struct) and config.__struct_config__.tag is not None


def _simd() -> str:
    """Which vector instructions torch uses: sums depend on them."""
    return str(torch.backends.cpu.get_cpu_capability())
