"""A recurrent world model: a GRU carries what one observation does not show. Shapes as in residual.py."""

from __future__ import annotations

from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import (
    Belief,
    ConfigError,
    Imagined,
    Latent,
    LatentVariableConfig,
    Signature,
    WorldModel,
    register,
)
from steersman.nn import ActionEmbedding
from steersman.world_model.drive import drive_inputs
from steersman.world_model.heads import head_of, last_layer
from steersman.world_model.latent_variable.choosing import Choosing, Fork, choosing, explained, forked, given_before
from steersman.world_model.token_recurrent import TokenRecurrent
from steersman.world_model.tokens import EARLIER, Tokens, in_tokens, require_grid


class RecurrentModel(WorldModel):
    """m' = GRU([s, a, x], m), s' = s + W_o m'.

    The memory m (B, W) starts at zero before the history's first step, is run through the history once per problem,
    and is the belief's carry. Use it where one observation does not tell the state (velocities from positions).

    With `members` E > 1 there are E heads on the one memory (`heads.Heads`): while training each row is answered by one
    of them; otherwise the state moves by their mean, and disagreement is √(mean over D of the variance over heads).

    With a latent variable s' = s + W_o fork(m', z), its prior is given m': what is remembered does not depend on z but
    through the states that followed, as in Hafner et al. 2019 (RSSM).
    """

    @register(WorldModel, earlier=EARLIER)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="recurrent"):
        """width of the memory; members: heads on it, more than 1 make an ensemble (5 are usual); latent_variable: what
        is left to chance, None: nothing. For states of tokens `TokenRecurrent` is built, with a memory of this width
        for each: tokens and grid as in `ResidualModel.Config`."""

        width: int = 128
        members: int = 1
        latent_variable: LatentVariableConfig | None = None
        tokens: Tokens = "places"
        grid: tuple[int, ...] = ()

        def __post_init__(self) -> None:
            if min(self.width, self.members) < 1:
                raise ConfigError("width and members >= 1", f"{self.width}, {self.members}",
                                  "correct the world model's configuration")
            require_grid(self.tokens, self.grid)

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None = None
        ) -> RecurrentModel | TokenRecurrent:
            if in_tokens(latent_shape, self.tokens, self.grid):
                return TokenRecurrent(
                    signature, latent_shape, self.width, self.latent_variable, self.tokens, self.grid, self.members)
            return RecurrentModel(signature, latent_shape, self.width, self.latent_variable, self.members)

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], width: int = 128,
        latent_variable: LatentVariableConfig | None = None, members: int = 1,
    ) -> None:
        super().__init__()
        size = torch.Size(latent_shape).numel()
        self.members = members
        self.actions = ActionEmbedding(signature.action)
        self.cell = nn.GRUCell(size + self.actions.width + len(signature.exogenous), width)
        self.to_change = last_layer(members, width, size)
        if isinstance(self.to_change, nn.Linear):  # drawn again, as in every run that is to be reproduced
            nn.init.uniform_(self.to_change.weight, -0.1 * width**-0.5, 0.1 * width**-0.5)
        self.fork: Fork | None = None
        if latent_variable is not None:
            self.latent_variable = latent_variable.build(signature, latent_shape, width)
            self.fork = Fork(width, self.latent_variable.size)

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        states = latent.state.flatten(2)
        memory = states.new_zeros(len(states), self.cell.hidden_size)
        if actions.shape[1]:
            drive = drive_inputs(self.actions, actions[:, None], exogenous)[:, 0]
            for t in range(actions.shape[1]):
                memory = self.cell(torch.cat([states[:, t], drive[:, t]], -1), memory)
        context = None if latent.context is None else latent.context[:, -1]
        return Belief(latent.state[:, -1], context, (memory,))

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        return self._roll(belief, actions, exogenous, choosing(self.latent_variable, actions, u))

    def explain(
        self, belief: Belief, actions: Tensor, following: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None,
    ) -> tuple[Imagined, Tensor]:
        return explained(self._roll, self.latent_variable, belief, actions, following, exogenous, u)

    def given(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        carry: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """The memory after the step, m'."""
        return given_before(self._roll, self.latent_variable, states, actions, exogenous, carry)

    def singles(self) -> tuple[WorldModel, ...]:
        """Each head with what all of them share; their weights are the ensemble's."""
        return (self,) if self.members == 1 else tuple(cast(WorldModel, head_of(self, i)) for i in range(self.members))

    def _roll(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, chance: Choosing | None
    ) -> Imagined:
        b, k, h = actions.shape[:3]
        shape = belief.state.shape[1:]
        drive = drive_inputs(self.actions, actions, exogenous).flatten(0, 1)
        (memory,) = (x.repeat_interleave(k, 0) for x in belief.carry)
        state = belief.state.flatten(1).repeat_interleave(k, 0)
        states, spread = [state], []
        for t in range(h):
            memory = self.cell(torch.cat([state, drive[:, t]], -1), memory)
            state, disagreement = forked(state, memory, chance, self.fork, self.to_change)
            states.append(state)
            spread += [] if disagreement is None else [disagreement]
        imagined = torch.stack(states, 1).unflatten(0, (b, k)).unflatten(-1, shape)
        doubt = torch.stack(spread, -1).unflatten(0, (b, k)) if spread else None
        return Imagined(imagined, belief.context, doubt, carry=(memory.unflatten(0, (b, k)),))
