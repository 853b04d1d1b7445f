"""Recorded decisions made again: the same weights, inputs, seeds and planner must give the same action, bit for bit.

Shapes: B problems, H horizon, A action size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from steersman.agent.agent import Agent
from steersman.agent.flight.forms import task_of
from steersman.agent.rederiving import Rederiver, threads
from steersman.agent.remembered import memory_of
from steersman.agent.state import AgentState
from steersman.core import CheckpointError, Plan, Planner, RunError, Task
from steersman.core.clock import taped
from steersman.core.compiled import compiler, compiling
from steersman.core.parts import PlannerConfig, convert
from steersman.runs import Run
from steersman.runs.decisions import DecisionReader, Recorded, Session, session_at


@dataclass(frozen=True)
class Replayed:
    """One decision, made again.

    number      in its session
    identical   the whole plan (B, H, A) is the recorded one, bit for bit
    difference  largest difference of an entry of the plan
    passed      decisions made again on the way, from the last whole record; `strayed` of them were not identical
    actions     (B, A) decided now; `recorded` (B, A) then
    notes       what differs between then and now and may explain a difference
    """

    number: int
    identical: bool
    difference: float
    passed: int
    strayed: int
    actions: Tensor
    recorded: Tensor
    notes: tuple[str, ...]


def replay(
    run: Path | str | Run, number: int, *, session: str = "latest", task: Task | None = None,
    planner: Planner | None = None,
) -> Replayed:
    """Make the recorded decision `number` again.

    task     needed where the recorded one held code (a callable goal, a guardrail with a function)
    planner  needed where the recorded one has no configuration that is registered in this process

    Where the weights had learned while acting, their updates are made again from the experience first.

    Raises:
        RunError: no such decision, a task or a planner that could not be stored, weights that cannot be worked out any
            more because the experience has made room (`replayable`).
        CheckpointError: the weights are not those that decided.
    """
    *_, last = replays(run, range(number, number + 1), session=session, task=task, planner=planner)
    return last


def replays(
    run: Path | str | Run, numbers: Iterable[int] | None = None, *, session: str = "latest", task: Task | None = None,
    planner: Planner | None = None,
) -> Iterator[Replayed]:
    """The decisions `numbers` (default: all that are there), one after the other; see `replay`."""
    run = run if isinstance(run, Run) else Run.open(run)
    reader = session_at(run.path, session)
    weights, notes = _weights(run, reader.session, planner)
    with threads(reader.session.threads), compiling(bool(reader.session.compiled)):
        again = _Again(weights, reader, task)
        for number in reader.span() if numbers is None else numbers:
            yield again.decide(number, notes)


@dataclass(frozen=True)
class Stretch:
    """Decisions that follow one another and were made by the same weights.

    first, last  their numbers in the session
    updates      that the weights held; through  moments of the experience at the last of them
    refusal      why they cannot be replayed any more, in words; "": they can
    """

    first: int
    last: int
    updates: int
    through: int
    refusal: str


def replayable(run: Path | str | Run, *, session: str = "latest") -> list[Stretch]:
    """Which recorded decisions can still be replayed, as far as the files say; nothing is worked out.

    Raises:
        RunError: no such session, or a damaged record. CheckpointError: its checkpoint is not there any more.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    reader = session_at(run.path, session)
    weights = Rederiver(run, Agent.load(run, _checkpoint(reader.session), additions=False))
    other = not reader.session.learned and weights.agent.fingerprint() != reader.session.model
    refusals: dict[str, str] = {}
    found: list[Stretch] = []
    learned = ""
    for record in reader.all():
        if record.learned not in refusals:
            refusals[record.learned] = (
                "the weights or the read-out of the checkpoint are not those of then" if other
                else weights.refusal(record.learned))
        first = found.pop().first if found and learned == record.learned else record.number
        learned = record.learned
        found.append(Stretch(first, record.number, record.updates, record.through, refusals[learned]))
    return found


class _Again:
    """An agent that is taken through a session."""

    def __init__(self, weights: Rederiver, reader: DecisionReader, task: Task | None) -> None:
        self.weights, self.agent, self.reader, self.given = weights, weights.agent, reader, task
        self.task: Task | None = None
        self._at: int | None = None  # the decision that was made last
        self._form: Any = None

    def decide(self, number: int, notes: tuple[str, ...]) -> Replayed:
        records = self.reader.leading_to(number)
        if self._at == number - 1 and not records[-1].whole:
            records = records[-1:]
        strayed = 0
        for record in records:
            plan, then = self._once(record)
            same = torch.equal(plan.actions, then)
            strayed += not same and record is not records[-1]
        self._at = number
        gap = (plan.actions.double() - then.double()).abs().nan_to_num(nan=torch.inf)
        return Replayed(
            number, same, float(gap.max()), len(records) - 1, strayed, plan.actions[:, 0], then[:, 0], notes)

    def _once(self, record: Recorded) -> tuple[Plan, Tensor]:
        tensors = _tensors(record, self.reader.path)
        self.weights.to(record.learned)
        if record.whole:
            assert record.task is not None
            stored = record.task
            self.task = self.given or task_of(stored, tensors, self.agent.readout)
            state = {k.removeprefix("carried."): v for k, v in tensors.items() if k.startswith("carried.")}
            if any(name.startswith("warm") for name in state) and (self._form is None or "stage" in state):
                self._form = self._warm_form(tensors, record)
            seeds = tensors["decided"]
            self.agent.resume(AgentState.restored(
                state, seeds, record.decision, self._form, self.agent.empty_memory(len(seeds))))
        assert self.task is not None
        with taped(record.clock) if record.clock else nullcontext():
            plan = self._act(tensors, self.task)
        self._form = plan.warm if plan.warm is not None else self._form
        return plan, tensors["actions"]

    def _warm_form(self, tensors: Mapping[str, Tensor], record: Recorded) -> Any:
        """What a warm start of this planner looks like: that of a decision without one."""
        assert self.task is not None
        self.agent.reset(tensors["decided"])
        if "carried.stage" in tensors:  # each stage has a warm start of its own
            begun = AgentState.begin(tensors["decided"], len(tensors["decided"]))
            self.agent.resume(replace(begun, fresh=torch.zeros_like(begun.fresh), stage=tensors["carried.stage"],
                                      spent=tensors["carried.spent"]))
        with taped(record.clock) if record.clock else nullcontext():
            return self._act(tensors, self.task).warm

    def _act(self, tensors: Mapping[str, Tensor], task: Task) -> Plan:
        moment = {k.removeprefix("observation."): v for k, v in tensors.items() if k.startswith("observation.")}
        seen = {k.removeprefix("measured."): v for k, v in tensors.items() if k.startswith("measured.")}
        return self.agent.act(moment, task, exogenous=tensors.get("exogenous"), since=tensors.get("since"),
                              measured=seen or None)


def _checkpoint(session: Session) -> str:
    return "latest" if session.checkpoint is None else f"{session.checkpoint}"


def _weights(run: Run, session: Session, planner: Planner | None) -> tuple[Rederiver, tuple[str, ...]]:
    """The agent that decided, with the weights that the session began with, and what is different now."""
    if planner is None:
        if session.planner is None:
            raise RunError("a planner with a configuration", session.planner_name, "give it: replay(…, planner=…)")
        try:
            config = convert(session.planner, PlannerConfig)  # type: ignore[type-abstract]
        except msgspec.ValidationError as error:
            raise RunError(f"a planner's configuration in {run.path}", f"{error}", "record again") from error
        planner = config.build()
    agent = Agent.load(run, _checkpoint(session), planner=planner)
    weights = Rederiver(run, agent)
    gone = weights.refusal(session.learned)
    if not gone:
        weights.to(session.learned)
    found = agent.fingerprint()
    if found != session.model and not gone:
        raise CheckpointError(
            f"the model that decided, {session.model[:12]}…", f"{found[:12]}…",
            "restore the checkpoint and the read-out of then; decisions of another model cannot be replayed",
        )
    versions = {k: v for k, v in session.versions.items() if k in ("torch", "steersman", "numpy")}
    from steersman.runs import manifest

    now = manifest.versions()
    notes = [f"{k} {v} then, {now.get(k, 'none')} now" for k, v in versions.items() if now.get(k) != v]
    if gone:
        notes.append("the weights that the session began with are gone: the read-out may be another than then")
    if session.memory and (memory := memory_of(agent.planner)) != session.memory:
        notes.append(f"a memory {session.memory[:12]}… then, {memory[:12] or 'none'}… now")
    fitted = agent.additions.fingerprints()
    notes += [f"cost {name!r} was {'fitted to something else' if name in fitted else 'kept'} then"
              for name, sha in session.costs.items() if fitted.get(name) != sha]
    if session.compiled and session.compiled != compiler():
        notes.append(f"compiled by numba {session.compiled} then, {compiler() or 'not'} now")
    simd = torch.backends.cpu.get_cpu_capability()
    if session.machine.get("simd", simd) != simd:
        notes.append(f"{session.machine['simd']} arithmetic then, {simd} now")
    return weights, tuple(notes)


def _tensors(record: Recorded, where: Path) -> dict[str, Tensor]:
    try:
        return dict(load(record.tensors))
    except SafetensorError as error:
        got = str(error).splitlines()[0]
        raise RunError(f"the inputs of decision {record.number} in {where}", got, "restore the file") from error
