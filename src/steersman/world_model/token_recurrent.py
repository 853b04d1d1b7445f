"""The recurrent world model for states of tokens: a memory of each token, weights shared, and what tokens see of one
another. Shapes as in token_residual.py; T steps of history."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Belief, Imagined, Latent, LatentVariableConfig, Signature, WorldModel
from steersman.nn import ActionEmbedding, mlp
from steersman.world_model.drive import drive_inputs
from steersman.world_model.heads import head_of, last_layer
from steersman.world_model.latent_variable.choosing import Choosing, Fork, choosing, explained, given_before
from steersman.world_model.tokens import TokenEmbedding, Tokens, forked_tokens, token_block


class TokenRecurrent(WorldModel):
    """m_i' = GRU(LN(h_i), m_i), h = block(W_s s_i + W_m m_i + p_i + c | c), s_i' = s_i + W_o m_i'.

    What `RecurrentModel.Config` builds for states (N, D). In the block tokens look at one another's states and
    memories; c = MLP([a, x]), what drives the step, is added and conditions it (`nn.TokenBlock`). The memory m
    (B, N, W) starts at zero before the history's first step and is the belief's carry.

    `members` are heads on the one memory, as in `RecurrentModel`; their disagreement is a mean over N and D.

    With a latent variable s_i' = s_i + W_o fork(m_i', z), one z for all tokens, whose prior is given the mean of m'.
    """

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], width: int = 128,
        latent_variable: LatentVariableConfig | None = None, tokens: Tokens = "places", grid: tuple[int, ...] = (),
        members: int = 1,
    ) -> None:
        super().__init__()
        self.width, self.members = width, members
        self.actions = ActionEmbedding(signature.action)
        self.embed_drive = mlp([self.actions.width + len(signature.exogenous), 2 * width, width])
        self.embed_state = TokenEmbedding(latent_shape, width, tokens, grid)
        self.from_memory = nn.Linear(width, width, bias=False)
        self.block = token_block(width, grid)
        self.norm = nn.LayerNorm(width)
        self.cell = nn.GRUCell(width, width)
        self.to_change = last_layer(members, width, latent_shape[1])
        self.fork: Fork | None = None
        if latent_variable is not None:
            self.latent_variable = latent_variable.build(signature, latent_shape, width)
            self.fork = Fork(width, self.latent_variable.size)

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        states = latent.state
        memory = states.new_zeros(len(states), states.shape[2], self.width)
        if actions.shape[1]:
            driven = self._driven(actions[:, None], exogenous)[:, 0]
            for t in range(actions.shape[1]):
                memory = self._remembered(states[:, t], memory, driven[:, t])
        context = None if latent.context is None else latent.context[:, -1]
        return Belief(states[:, -1], context, (memory,))

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
        """The mean over tokens of the memory after the step."""
        return given_before(self._roll, self.latent_variable, states, actions, exogenous, carry)

    def singles(self) -> tuple[WorldModel, ...]:
        """Each head with what all of them share; their weights are the ensemble's."""
        return (self,) if self.members == 1 else tuple(cast(WorldModel, head_of(self, i)) for i in range(self.members))

    def _roll(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, chance: Choosing | None
    ) -> Imagined:
        b, k = actions.shape[:2]
        drives = self._driven(actions, exogenous).flatten(0, 1).unbind(1)
        state, memory = (x.repeat_interleave(k, 0) for x in (belief.state, *belief.carry))
        states, spread = [state], []
        for driven in drives:
            memory = self._remembered(state, memory, driven)
            state, disagreement = forked_tokens(state, memory, chance, self.fork, self.to_change)
            states.append(state)
            spread += [] if disagreement is None else [disagreement]
        imagined = torch.stack(states, 1).unflatten(0, (b, k))
        doubt = torch.stack(spread, -1).unflatten(0, (b, k)) if spread else None
        return Imagined(imagined, belief.context, doubt, carry=(memory.unflatten(0, (b, k)),))

    def _driven(self, actions: Tensor, exogenous: Tensor | None) -> Tensor:
        """(B, K, H, A) -> (B, K, H, W)."""
        found: Tensor = self.embed_drive(drive_inputs(self.actions, actions, exogenous))
        return found

    def _remembered(self, state: Tensor, memory: Tensor, driven: Tensor) -> Tensor:
        """state (R, N, D), memory (R, N, W), driven (R, W) -> the memory after the step."""
        x = self.embed_state(state) + self.from_memory(memory) + driven[:, None]
        x, _ = self.block.step(x[:, None], self.block.modulation(F.silu(driven)[:, None]))
        after: Tensor = self.cell(self.norm(x[:, 0]).flatten(0, 1), memory.flatten(0, 1))
        return after.view_as(memory)
