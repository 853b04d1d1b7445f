"""From a measured moment to the belief that a decision starts from, and how surprising the moment was.

Two ways: an agent that streams corrects the belief that it has, and nothing cuts its history; any other gives its world
model the last few moments again. Knows the boxes by core's abstract classes.

Shapes: B episodes, T moments of history, n actions, A action size, E exogenous size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steersman.agent.config import require_react
from steersman.agent.state import AgentState
from steersman.core import (
    Belief,
    ConfigError,
    Latent,
    MismatchError,
    Observation,
    Perception,
    PlanningError,
    Signature,
    Surprise,
    Task,
    WorldModel,
)
from steersman.core.pacing import chunked, unchunked
from steersman.core.surprising import nothing_foreseen, surprise_of


@dataclass(frozen=True)
class Boxes:
    """What was learned, for whose world, and how it is to be used; see `AgentConfig` for history and streaming. task:
    what perception is to attend to."""

    perception: Perception
    world_model: WorldModel
    signature: Signature
    history: int = 1
    streaming: bool = False
    react: int = 0
    task: Task | None = None

    def __post_init__(self) -> None:
        require_react(self.react, self.signature.pace.step)
        if self.hasty and self.history > 1 and self.signature.exogenous:
            raise ConfigError("react = 0 where a history has exogenous inputs", f"{self.react}", "set `react` to 0")

    @property
    def rows(self) -> int:
        """Rows of the log between two decisions, as far as those go that follow each other within a step."""
        return self.react or self.signature.pace.step

    @property
    def carries(self) -> bool:
        """Whether a belief is more than the last moment."""
        return self.history > 1 or self.streaming

    @property
    def hasty(self) -> bool:
        """Whether decisions are made anew before a step of the model is over."""
        return self.rows < self.signature.pace.step

    def passed(self, decision: Tensor) -> int | None:
        """Whole steps since the decision before, decision (B,) numbers of this one; None: as the planner commits to.

        Of several decisions within a step the first moves the plan on.
        """
        return int(int(decision.max()) % (self.signature.pace.step // self.rows) == 0) if self.hasty else None

    def encode(self, moment: Observation) -> Latent:
        """name -> (B, …) -> state (B, D) and the scene map (B, M, C), if there is one."""
        return encode(self.perception, moment, self.task)

    def no_actions(self, batch: int) -> Tensor:
        """(B, 0, A)."""
        action = self.signature.action
        kind = torch.int64 if action.kind == "discrete" else torch.float32
        return torch.zeros(batch, 0, action.size, dtype=kind)

    def nothing_from_outside(self, batch: int) -> Tensor | None:
        """(B, 0, E), or None in a world without exogenous inputs."""
        names = self.signature.exogenous
        return torch.zeros(batch, 0, len(names)) if names else None


def encode(perception: Perception, moment: Observation, task: Task | None = None) -> Latent:
    """name -> (B, …) -> state (B, D) and the scene map (B, M, C), if there is one."""
    each = {name: value[:, None] for name, value in moment.items()}
    latent, context = perception.encode(each, task), perception.survey(each)
    return Latent(latent.state[:, 0], None if context is None else context[:, 0],
                  task=None if latent.task is None else latent.task[:, 0])


def _always(latent: Latent, moments: int) -> Tensor | None:
    """(B, T): the task of this moment, for a history of so many."""
    return None if latent.task is None else latent.task[:, None].expand(-1, moments)


def believe(
    boxes: Boxes, state: AgentState, moment: Observation, since: Tensor | None, measured: Mapping[str, Tensor] | None
) -> tuple[Belief, AgentState, Surprise]:
    """The belief, the state with this moment in it, and the surprise; since, measured: see `Agent.act`."""
    latent = boxes.encode(moment)
    if boxes.streaming:
        return _streamed(boxes, state, latent, since, measured)
    if measured is not None:
        raise PlanningError("an agent that streams, to be told what was measured", "one that does not",
                            "set `streaming` in the agent's configuration, or pass whole moments")
    if boxes.hasty:
        return _hastily(boxes, state if since is None else replace(state, lately=None, did=None), latent)
    surprise = nothing_foreseen(latent.state)
    if state.foreseen is not None and _as_planned(state, since):
        surprise = surprise_of(state.foreseen, latent.state, 1, fresh=state.fresh)
    state = _with_moment(boxes, state, latent.state[:, None], since)
    assert state.states is not None
    actions = boxes.no_actions(len(state)) if state.actions is None else state.actions
    outside = boxes.nothing_from_outside(len(state)) if state.outside is None else state.outside
    context = None if latent.context is None else latent.context[:, None]
    history = Latent(state.states, context, task=_always(latent, state.states.shape[1]))
    return boxes.world_model.begin(history, actions, outside), state, surprise


def _as_planned(state: AgentState, since: Tensor | None) -> bool:
    """Whether what was carried out is what the last plan began with, so that its next moment is what was foreseen."""
    return since is None or (state.done is not None and torch.equal(since.to(state.done), state.done))


def _hastily(boxes: Boxes, state: AgentState, latent: Latent) -> tuple[Belief, AgentState, Surprise]:
    """Of an agent that decides n times a step: a history of moments a whole step apart, with the rows of actions that
    were carried out between them, and how far this moment lies from what the model foresees of that a step ago by
    those rows; unknown before an episode is a step old, after actions that were not the plan's, and for models that
    read a map or know inputs from outside."""
    spec, n = boxes.signature.action, boxes.signature.pace.step // boxes.rows
    states, did = latent.state[:, None], state.did
    if state.lately is not None and state.done is not None:
        last = unchunked(state.done, spec)[:, :, : boxes.rows]
        did = last if did is None else torch.cat([did, last], 1)
        states = torch.cat([state.lately, states], 1)
    whole = slice((states.shape[1] - 1) % n, None, n)
    moments, chunks = states[:, whole], boxes.no_actions(len(state))
    if did is not None and moments.shape[1] > 1:
        chunks = chunked(did[:, whole.start :].flatten(1, 2).unflatten(1, (moments.shape[1] - 1, -1)), spec)
    surprise = nothing_foreseen(latent.state)
    if chunks.shape[1] and latent.context is None and not boxes.signature.exogenous:
        past = Latent(moments[:, :-1], task=_always(latent, moments.shape[1] - 1))
        before = boxes.world_model.begin(past, chunks[:, :-1])
        ends = boxes.world_model.imagine(before, chunks[:, None, -1:]).last()
        surprise = surprise_of(ends.state, latent.state, 1, fresh=state.fresh | (state.decision < n))
    kept = n * max(1, boxes.history - 1)
    context = None if latent.context is None else latent.context[:, None]
    shown = moments[:, -boxes.history :]
    belief = boxes.world_model.begin(
        Latent(shown, context, task=_always(latent, shown.shape[1])), chunks[:, chunks.shape[1] + 1 - boxes.history :]
        if boxes.history > 1 else boxes.no_actions(len(state)), boxes.nothing_from_outside(len(state)))
    return belief, replace(state, lately=states[:, -kept:], did=None if did is None else did[:, 1 - kept :]), surprise


def _streamed(
    boxes: Boxes, state: AgentState, latent: Latent, since: Tensor | None, measured: Mapping[str, Tensor] | None
) -> tuple[Belief, AgentState, Surprise]:
    done = since if since is not None else state.done
    if state.belief is None or done is None:
        done = boxes.no_actions(len(state))
    outside = boxes.nothing_from_outside(len(state)) if state.outside is None else state.outside
    if outside is not None:
        if outside.shape[1] < done.shape[1]:
            raise PlanningError(f"exogenous inputs of the {done.shape[1]} steps since the last decision",
                                f"{outside.shape[1]}", "carry out no more actions than the last plan had")
        outside = outside[:, : done.shape[1]]
    seen = None
    if measured is not None:
        seen = boxes.perception.measured({name: value[:, None] for name, value in measured.items()})[:, 0]
    fresh = None if state.belief is None else state.fresh
    _require_finite(latent.state, seen, fresh)
    belief, surprise = boxes.world_model.observe(state.belief, done, latent, outside, seen, fresh)
    return belief, replace(state, belief=belief), surprise


def _require_finite(state: Tensor, seen: Tensor | None, fresh: Tensor | None) -> None:
    """A moment (B, …) that may become part of a belief which lives as long as its episode.

    Raises:
        MismatchError: what was measured, or a moment with which an episode begins, is not finite.
    """
    lost = ~state.isfinite()
    if seen is not None and fresh is not None:
        lost &= seen | fresh.to(state.device).view(-1, *[1] * (state.dim() - 1))
    rows = lost.flatten(1).any(1).nonzero().flatten().tolist()
    if rows:
        raise MismatchError("a moment of finite numbers", f"NaN or infinity in rows {rows}",
                            "say by `measured` what was not measured; an episode begins with a whole moment")


def _with_moment(boxes: Boxes, state: AgentState, moment: Tensor, since: Tensor | None) -> AgentState:
    """The last moments (B, T, …) with this one, (B, 1, …), and the actions between them."""
    if state.states is None or boxes.history == 1:
        return replace(state, states=moment, actions=None)
    done = since if since is not None else state.done
    assert done is not None
    if done.shape[1] != 1:
        raise PlanningError(
            "one action between two decisions of a world model with a history", f"{done.shape[1]}",
            "carry out one action of each plan (the planner's `execute`)")
    before = state.actions if state.actions is not None else done[:, :0]
    return replace(state, states=torch.cat([state.states, moment], 1)[:, -boxes.history :],
                   actions=torch.cat([before, done], 1)[:, 1 - boxes.history :])
