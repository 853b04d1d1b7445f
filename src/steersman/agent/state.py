"""An agent's one state: everything that its next decision goes on from. Saved, restored, cut to rows, recorded.

Shapes: B episodes, T moments of history, n actions, A action size, E exogenous size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steersman.agent.nearing import Near
from steersman.core import Belief, PlanningError, RunError, TensorRecord
from steersman.core.records import tensors

_TUPLES = ("carry", "shared")


@dataclass(frozen=True, kw_only=True)
class AgentState(TensorRecord):
    """What is carried from one decision to the next, for B episodes. None where there is nothing yet.

    seeds     (B,) int64: all randomness of an episode comes from its seed and the number of the decision
    decision  (B,) int64: number of the next decision within each episode
    fresh     (B,) bool: an episode begins with the next observation
    done      (B, 1, A): the first action of the last plan
    foreseen  (B, …): what the last plan expects of the next moment
    near      how near the episodes have come to their goal
    warm      what the planner handed over
    belief    of a streaming agent, after the last moment; what it carries lives as long as the episode
    states    (B, T, …) the last moments, where history is cut to so many; actions (B, T-1, A) between them
    lately    (B, n, …) of an agent that decides several times a step: the states at the last n decisions
    did       (B, n - 1, r, A) the rows of actions carried out between them
    memory    what the agent's memory holds of each episode, as `core.Memory` calls its state
    stage     (B,) int64 stage of a task that is carried out in stages, and spent (B,) int64, steps since it began
    outside   (B, n, E) exogenous inputs: between the moments, or of a streaming agent those of the last plan
    """

    seeds: Tensor
    decision: Tensor
    fresh: Tensor
    done: Tensor | None = None
    foreseen: Tensor | None = None
    near: Near | None = None
    warm: Any = None
    belief: Belief | None = None
    states: Tensor | None = None
    actions: Tensor | None = None
    outside: Tensor | None = None
    lately: Tensor | None = None
    did: Tensor | None = None
    memory: TensorRecord | None = None
    stage: Tensor | None = None
    spent: Tensor | None = None

    def __len__(self) -> int:
        return len(self.seeds)

    @classmethod
    def begin(cls, seeds: Sequence[int] | Tensor | int | None, batch: int, decision: int = 0) -> AgentState:
        """New episodes. seeds: one each, or a first one, counted up (None: 0).

        Raises:
            PlanningError: another number of seeds than of episodes.
        """
        if seeds is None or isinstance(seeds, int):
            each = torch.arange(batch) + (seeds or 0)
        else:
            each = torch.as_tensor(seeds, dtype=torch.int64)
        if len(each) != batch:
            raise PlanningError(f"{batch} seeds, one for each episode", f"{len(each)}", "reset() with one seed each")
        return cls(seeds=each, decision=torch.full((batch,), decision), fresh=torch.ones(batch, dtype=torch.bool))

    def begun(self, rows: Tensor, seeds: Tensor | None = None) -> AgentState:
        """In some rows (a mask or indices) another episode begins with the next observation.

        Raises:
            PlanningError: rows that are not there, or another number of seeds than of rows.
        """
        rows, count = torch.as_tensor(rows), len(self)
        masked = rows.dtype == torch.bool
        if not (rows.shape == (count,) if masked else bool(((rows >= -count) & (rows < count)).all())):
            raise PlanningError(f"a mask ({count},), or indices below {count}", f"{rows.tolist()}", "correct the rows")
        begins = int(rows.sum()) if masked else rows.numel()
        if seeds is not None and seeds.numel() not in (1, begins):
            raise PlanningError(f"{begins} seeds, one for each episode that begins", f"{seeds.numel()}",
                                "give one seed each")
        fresh, decision, each = self.fresh.clone(), self.decision.clone(), self.seeds.clone()
        fresh[rows], decision[rows] = True, 0
        if seeds is not None:
            each[rows] = seeds
        return replace(self, seeds=each, decision=decision, fresh=fresh)

    def stored(self) -> dict[str, Tensor]:
        """Every tensor under a name, for a file."""
        return tensors(self)

    @classmethod
    def restored(
        cls, stored: Mapping[str, Tensor], seeds: Tensor, decision: int, form: Any, memory: TensorRecord | None = None
    ) -> AgentState:
        """From what `stored` gave; seeds and decision where an older file does not say them.

        form    a warm start of the planner in question, whatever it holds: it says what the stored tensors are parts
                of, so that a file never names a class
        memory  the same for the agent's memory: its initial state; None: the agent has none

        Raises:
            RunError: the tensors are not those of such a state.
        """
        start = cls.begin(seeds, len(seeds), decision)
        plain = {f.name: stored[f.name] for f in dataclasses.fields(cls) if f.name in stored}
        warm = {name: value for name, value in stored.items() if name.split(".")[0] == "warm"}
        belief = {name.removeprefix("belief."): x for name, x in stored.items() if name.startswith("belief.")}
        if "fresh" not in plain and "done" in plain:
            plain["fresh"] = torch.zeros_like(start.fresh)
        near = {name.removeprefix("near."): x for name, x in stored.items() if name.startswith("near.")}
        held = {name: x for name, x in stored.items() if name.split(".")[0] == "memory"}
        plain.pop("memory", None)
        return replace(start, **plain, belief=_belief(belief) if belief else None, near=Near(**near) if near else None,
                       warm=_like(form, warm, "warm") if warm else None, memory=_held(memory, held) if held else None)


def going_on(
    state: AgentState | None, seeds: Sequence[int] | Tensor | int | None, batch: int, carries: bool
) -> AgentState:
    """The state to go on from with `batch` moments; another one where there was none, or was one of other episodes.

    carries  a belief is more than the last moment: then other episodes are an error

    Raises:
        PlanningError: other episodes, or another number of seeds.
    """
    if state is not None and len(state) == batch:
        return state
    if state is None:
        return AgentState.begin(seeds, batch)
    if carries:
        raise PlanningError(f"{len(state)} observations, as at the last decision", f"{batch}",
                            "reset() the agent first")
    return AgentState.begin(seeds, batch, int(state.decision.max()))


def begun_in(state: AgentState | None, rows: Tensor, seeds: Tensor | None, cut: bool) -> AgentState | None:
    """The state where other episodes begin in some rows; None before the first decision, with which all begin.

    cut  histories of several moments are cut alike

    Raises:
        PlanningError: rows of different age cannot share a history that is cut; seeds before the first decision; rows
            that are not there, or another number of seeds.
    """
    if state is None:
        if seeds is not None:
            raise PlanningError("episodes that were begun, to begin others beside them", "no decision yet",
                                "give reset() the seeds of all episodes")
        return None
    if cut:
        raise PlanningError("an agent that streams, or whose history is one moment", "a history of several",
                            "reset() all episodes together, or set `streaming` in the agent's configuration")
    return state.begun(rows, seeds)


def selected(
    state: AgentState | None, seeds: Sequence[int] | Tensor | int | None, rows: Tensor
) -> tuple[AgentState | None, Sequence[int] | Tensor | int | None]:
    """State and seeds of some episodes (a mask or indices); seeds: as `AgentState.begin` takes them, before the first
    decision."""
    if state is not None:
        return state.rows(rows), seeds
    if not (seeds is None or isinstance(seeds, int)):
        return None, torch.as_tensor(seeds)[rows]
    if rows.dtype != torch.bool and not len(rows):
        return None, seeds
    count = len(rows) if rows.dtype == torch.bool else int(rows.max()) + 1
    return None, torch.arange(count, device=rows.device)[rows] + (seeds or 0)


def _held(form: TensorRecord | None, stored: Mapping[str, Tensor]) -> TensorRecord:
    """The state of a memory, all of it and nothing else; form: what it holds before the first moment."""
    fix = "use the agent's configuration of then"
    found = _like(form, stored, "memory")
    if stray := set(stored) ^ set(tensors(found, "memory")):
        words = "" if form is None else "of this form "
        raise RunError(f"what a memory {words}holds", min(stray), fix)
    for name, x in tensors(form, "memory").items():
        if (x.shape, x.dtype) != (stored[name].shape, stored[name].dtype):
            got = stored[name]
            raise RunError(f"{name} {tuple(x.shape)} of {_type(x)}", f"{tuple(got.shape)} of {_type(got)}", fix)
    assert found is not None
    return found  # type: ignore[no-any-return]


def _type(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _belief(stored: Mapping[str, Tensor]) -> Belief:
    several = {name: tuple(stored[f"{name}.{i}"] for i in range(len(stored)) if f"{name}.{i}" in stored)
               for name in _TUPLES}
    return Belief(stored["state"], stored.get("context"), **several)


def _like(form: Any, stored: Mapping[str, Tensor], name: str) -> Any:
    """`form` with its tensors replaced by the stored ones."""
    if isinstance(form, Tensor) or form is None:
        return stored.get(name)
    if dataclasses.is_dataclass(form) and not isinstance(form, type):
        if not any(key.startswith(f"{name}.") for key in stored):
            return None
        fields = {f.name: _like(getattr(form, f.name), stored, f"{name}.{f.name}") for f in dataclasses.fields(form)}
        depth = name.count(".") + 1
        unknown = sorted({key.split(".")[depth] for key in stored if key.startswith(f"{name}.")} - set(fields))
        if unknown:
            what = "warm start" if name.startswith("warm") else "state of a memory"
            raise RunError(f"a {what} {type(form).__name__}", f"one with {', '.join(unknown)}",
                           "replay with the version of steersman that recorded it")
        return dataclasses.replace(form, **fields)
    if isinstance(form, (tuple, list)):
        return type(form)(_like(inner, stored, f"{name}.{i}") for i, inner in enumerate(form))
    if isinstance(form, Mapping):
        return {key: _like(inner, stored, f"{name}.{key}") for key, inner in form.items()}
    return form
