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

from steersman.agent.state import AgentState
from steersman.core import (
    Belief,
    Latent,
    MismatchError,
    Observation,
    Perception,
    PlanningError,
    Signature,
    Surprise,
    WorldModel,
)
from steersman.core.surprising import nothing_foreseen, surprise_of


@dataclass(frozen=True)
class Boxes:
    """What was learned, for whose world, and how it is to be used; see `AgentConfig` for history and streaming."""

    perception: Perception
    world_model: WorldModel
    signature: Signature
    history: int = 1
    streaming: bool = False

    def encode(self, moment: Observation) -> Latent:
        """name -> (B, …) -> state (B, D) and the scene map (B, M, C), if there is one."""
        return encode(self.perception, moment)

    def no_actions(self, batch: int) -> Tensor:
        """(B, 0, A)."""
        action = self.signature.action
        kind = torch.int64 if action.kind == "discrete" else torch.float32
        return torch.zeros(batch, 0, action.size, dtype=kind)

    def nothing_from_outside(self, batch: int) -> Tensor | None:
        """(B, 0, E), or None in a world without exogenous inputs."""
        names = self.signature.exogenous
        return torch.zeros(batch, 0, len(names)) if names else None


def encode(perception: Perception, moment: Observation) -> Latent:
    """name -> (B, …) -> state (B, D) and the scene map (B, M, C), if there is one."""
    each = {name: value[:, None] for name, value in moment.items()}
    state, context = perception.encode(each).state[:, 0], perception.survey(each)
    return Latent(state, None if context is None else context[:, 0])


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
    surprise = nothing_foreseen(latent.state)
    if state.foreseen is not None and since is None:
        surprise = surprise_of(state.foreseen, latent.state, 1, fresh=state.fresh)
    state = _with_moment(boxes, state, latent.state[:, None], since)
    assert state.states is not None
    actions = boxes.no_actions(len(state)) if state.actions is None else state.actions
    outside = boxes.nothing_from_outside(len(state)) if state.outside is None else state.outside
    context = None if latent.context is None else latent.context[:, None]
    return boxes.world_model.begin(Latent(state.states, context), actions, outside), state, surprise


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
