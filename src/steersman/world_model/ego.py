"""An agent's own state by one model, the world's by another: the first knows what it does, the second what may happen.

Knows latents and actions, not where they come from. Shapes: B problems, K candidates, R = B K rows, H horizon,
D numbers of a state, A action size, U uniform numbers of chance a step, O outcomes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.core import (
    ActionSpec,
    Belief,
    ConfigError,
    Energy,
    Imagined,
    Latent,
    LatentVariable,
    Posterior,
    Signature,
    Support,
    WorldModel,
    WorldModelConfig,
    every_moment,
    register,
)


class EgoModel(WorldModel):
    """s = (s_own, s_world):  s_own' = f(s_own, a),  s_world' = g(s_world, z).

    f is deterministic, g has the latent variable. The world does not notice the agent, in this model: what an action
    leads to and what chance leads to are imagined apart. So of K candidates in S scenarios, which a planner asks for as
    K S futures, f is asked K times and g S times, where a joint model is asked K S times: rows of one problem with the
    same actions share f's rollout, rows with the same u share g's. Where gradients of actions are wanted, every row has
    a rollout of its own.

    own    which numbers of a state are the agent's own; the others are the world's
    ego    Config of f, a world model of states (own,) without memory and without a latent variable
    world  Config of g, a world model of the other numbers without memory, in which nobody acts

    Use a joint model where what is outside reacts to the agent, or pushes it.

    Source: LeCun 2022, section 4.10 (an ego model beside the world's); sharing the rollouts is ours.

    Raises:
        ConfigError: no own number, none of the world's, numbers that are not there; chance in the ego model; exogenous
            inputs.
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ego"):
        """As `EgoModel`."""

        own: tuple[int, ...]
        ego: WorldModelConfig
        world: WorldModelConfig

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> EgoModel:
            return EgoModel(signature, latent_shape, self.own, self.ego, self.world)

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], own: tuple[int, ...], ego: WorldModelConfig,
        world: WorldModelConfig,
    ) -> None:
        super().__init__()
        size = latent_shape[0] if len(latent_shape) == 1 else 0
        others = tuple(i for i in range(size) if i not in own)
        if not own or not others or len(set(own)) != len(own) or not set(own) <= set(range(size)):
            raise ConfigError("some numbers of a vector state as the agent's own, and some as the world's",
                              f"{own} of {latent_shape}", "correct `own`")
        if signature.exogenous:
            raise ConfigError("a world without exogenous inputs for an ego model", ", ".join(signature.exogenous),
                              "use a joint world model")
        alone = Signature(signature.observations, ActionSpec("none"))
        self.ego, self.world = ego.build(signature, (len(own),), None), world.build(alone, (len(others),), None)
        if self.ego.chance:
            raise ConfigError("an ego model without a latent variable", type(self.ego.latent_variable).__name__,
                              "leave chance to `world`")
        if self.world.latent_variable is not None:  # its weights are the world's: not registered a second time
            self.__dict__["latent_variable"] = _Unmoved(self.world.latent_variable)
        self._own, self._others = list(own), list(others)
        self._order = torch.tensor([*own, *others]).argsort().tolist()

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """The last state alone matters."""
        return Belief(latent.state[:, -1], None if latent.context is None else latent.context[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(latent)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        own, others = belief.state[:, self._own], belief.state[:, self._others]
        mine = _shared(self.ego, own, actions, None)
        theirs = _shared(self.world, others, _none(actions, own), u if self.chance else None)
        return Imagined(self._joined(mine, theirs), belief.context)

    def explain(
        self, belief: Belief, actions: Tensor, following: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None,
    ) -> tuple[Imagined, Tensor]:
        mine = self.ego.imagine(Belief(belief.state[:, self._own]), actions[:, None]).states
        theirs, nats = self.world.explain(
            Belief(belief.state[:, self._others]), _none(actions, mine), following[..., self._others], None, u)
        return Imagined(self._joined(mine, theirs.states), belief.context), nats

    def given(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        carry: tuple[Tensor, ...] = (),
    ) -> Tensor:
        return self.world.given(*self._outside(belief, states, actions))

    def support(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        carry: tuple[Tensor, ...] = (),
    ) -> Support | None:
        return self.world.support(*self._outside(belief, states, actions))

    def _outside(self, belief: Belief, states: Tensor, actions: Tensor) -> tuple[Belief, Tensor, Tensor]:
        """The same without the agent and what it does."""
        others = replace(belief, state=belief.state[..., self._others])
        return others, states[..., self._others], _none(actions, states)

    def _joined(self, mine: Tensor, theirs: Tensor) -> Tensor:
        return torch.cat([mine, theirs], -1)[..., self._order]


class _Unmoved(LatentVariable):
    """A latent variable of a world in which nobody acts, for those who give it actions. Holds no weights."""

    def __init__(self, inner: LatentVariable) -> None:
        super().__init__()
        self.__dict__["inner"] = inner

    inner: LatentVariable

    @property
    def uniform(self) -> int:
        return self.inner.uniform

    @property
    def size(self) -> int:
        return self.inner.size

    @property
    def amortised(self) -> bool:
        return self.inner.amortised

    def draw(self, u: Tensor, given: Tensor, actions: Tensor) -> Tensor:
        return self.inner.draw(u, given, _none(actions, given))

    def expected(self, given: Tensor, actions: Tensor) -> Tensor:
        return self.inner.expected(given, _none(actions, given))

    def posterior(
        self, given: Tensor, actions: Tensor, following: Tensor, energy: Energy | None = None, u: Tensor | None = None
    ) -> Posterior:
        return self.inner.posterior(given, _none(actions, given), following, energy, u)

    def support(self, given: Tensor, actions: Tensor) -> Support | None:
        return self.inner.support(given, _none(actions, given))


def _none(actions: Tensor, like: Tensor) -> Tensor:
    """Actions (…, A) -> (…, 0): nobody's."""
    return like.new_zeros(*actions.shape[:-1], 0)


def _shared(model: WorldModel, states: Tensor, actions: Tensor, u: Tensor | None) -> Tensor:
    """Rollouts (B, K, H+1, D) from states (B, D), each distinct one of a problem made once: actions (B, K, H, A),
    u (B, K, H, U) or None."""
    b, k = actions.shape[:2]
    if k == 1 or actions.requires_grad or (u is not None and u.requires_grad):
        return model.imagine(Belief(states), actions, None, u).states
    problem = torch.arange(b, device=states.device).repeat_interleave(k)
    parts: list[Any] = [problem[:, None].double(), actions.flatten(0, 1).flatten(1).double()]
    if u is not None:
        parts.append(u.flatten(0, 1).flatten(1).double())
    _, group = torch.unique(torch.cat(parts, 1), dim=0, return_inverse=True)
    rows = torch.arange(b * k, device=states.device)
    first = rows.new_full((int(group.max()) + 1,), b * k).scatter_reduce(0, group, rows, "amin")
    chance = None if u is None else u.flatten(0, 1)[first, None]
    found = model.imagine(Belief(states[problem[first]]), actions.flatten(0, 1)[first, None], None, chance).states
    return found[group, 0].unflatten(0, (b, k))
