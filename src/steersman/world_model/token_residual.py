"""The residual world model for states of tokens: every token changes by itself, by what it sees in the others, and by
the action. Knows latents and actions, not where they come from.

Shapes: B problems, K candidates, R = B K rows, H horizon, N tokens, D size of a token, U size of what drives a step,
W width, Z numbers of chance a step.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Belief, Imagined, Latent, LatentVariableConfig, Signature, WorldModel, every_moment
from steersman.nn import ActionEmbedding, mlp
from steersman.nn.token_block import TokenBlock
from steersman.world_model.dealing import Deal
from steersman.world_model.drive import drive_inputs
from steersman.world_model.latent_variable.choosing import Choosing, Fork, choosing, explained
from steersman.world_model.tokens import TokenEmbedding, Tokens, fork_tokens, token_block


class TokenResidual(WorldModel):
    """s_i' = s_i + W_o LN(h_i), h = blocks(W_s s_i + p_i + c | c), c = MLP([a, x]): `depth` layers in which tokens look
    at one another.

    What `ResidualModel.Config` builds for states (N, D). Weights are the same for all tokens; p_i, the code of place i,
    and what layers know of places depend on `tokens` and `grid` (`world_model.tokens`). The action a and the exogenous
    inputs x shift, scale and gate every layer of every token (`nn.TokenBlock`, AdaLN-zero), as in DINO-WM and LeWM.

    With `linear` s_i' has L [s_i, a, x] + c beside it, 0 at first. `members` are whole networks: while training each
    row belongs to one; otherwise the state moves by their mean and

        disagreement = √(mean over N and D of the variance over members)

    With a latent variable there is one z for all tokens of a state; it enters behind the last layer, and its prior is
    given the state.

    Sources: Zhou et al. 2024 (DINO-WM: patches are predicted as tokens); Peebles & Xie 2023 (AdaLN-zero).
    """

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], width: int = 128, depth: int = 2, members: int = 1,
        linear: bool = False, latent_variable: LatentVariableConfig | None = None, tokens: Tokens = "places",
        grid: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        chance = 0
        if latent_variable is not None:
            self.latent_variable = latent_variable.build(signature, latent_shape, torch.Size(latent_shape).numel())
            chance = self.latent_variable.size
        self.actions = ActionEmbedding(signature.action)
        driven = self.actions.width + len(signature.exogenous)
        self.networks = nn.ModuleList(
            _Network(driven, latent_shape, width, depth, linear, chance, tokens, grid) for _ in range(members))

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """The last state alone matters: the model has no memory."""
        return Belief(latent.state[:, -1], None if latent.context is None else latent.context[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(latent)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        return self._roll(belief, actions, exogenous, choosing(self.latent_variable, actions, u))

    def explain(
        self, belief: Belief, actions: Tensor, following: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None,
    ) -> tuple[Imagined, Tensor]:
        return explained(self._roll, self.latent_variable, belief, actions, following, exogenous, u)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        drive = drive_inputs(self.actions, actions, exogenous)
        return self._from(states, drive, belief.context, choosing(self.latent_variable, actions, u))

    def singles(self) -> tuple[WorldModel, ...]:
        """Each member alone; their weights are shared with the ensemble's."""
        return (self,) if len(self.networks) == 1 else tuple(self._member(i) for i in range(len(self.networks)))

    def _member(self, number: int) -> TokenResidual:
        single = copy.copy(self)
        single._modules = {**self._modules, "networks": nn.ModuleList([self.networks[number]])}
        return single

    def _roll(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, chance: Choosing | None
    ) -> Imagined:
        states = belief.state[:, None].expand(-1, actions.shape[1], -1, -1)
        return self._from(states, drive_inputs(self.actions, actions, exogenous), belief.context, chance)

    def _from(self, states: Tensor, drive: Tensor, context: Tensor | None, chance: Choosing | None) -> Imagined:
        """states (B, K, N, D), drive (B, K, H, U)."""
        b, k = states.shape[:2]
        state, drives = states.flatten(0, 1), drive.flatten(0, 1).unbind(1)
        way, spread = [state], []
        for driven in drives:
            z = None if chance is None else self._chosen(chance, state, driven)
            change = self._change(state, driven, z)
            state = state + change.mean(0)
            way.append(state)
            if len(change) > 1:
                spread.append(change.var(0).mean((-2, -1)).sqrt())
        disagreement = torch.stack(spread, -1).unflatten(0, (b, k)) if spread else None
        return Imagined(torch.stack(way, 1).unflatten(0, (b, k)), context, disagreement)

    def _chosen(self, chance: Choosing, state: Tensor, driven: Tensor) -> Tensor:
        """z (R, Z) of the next step, tried on the mean of all members where it is inferred by energy."""
        def move(z: Tensor, times: int) -> Tensor:
            each, by = (x.repeat_interleave(times, 0) for x in (state, driven))
            change = torch.stack([network(each, by, z) for network in self.networks]).mean(0)
            return (each + change).flatten(1)

        return chance.z(state.flatten(1), move)

    def _change(self, state: Tensor, driven: Tensor, z: Tensor | None) -> Tensor:
        """state (R, N, D), driven (R, U), z (R, Z) -> (E, R, N, D); (1, R, N, D) while a row belongs to one member."""
        if not self.training or len(self.networks) == 1:
            return torch.stack([network(state, driven, z) for network in self.networks])
        deal = Deal(len(state), len(self.networks), state.device)
        each = [network(state[own], driven[own], None if z is None else z[own])
                for network, own in zip(self.networks, deal.owned(), strict=True)]
        return deal.gather(torch.stack(each))[None]


class _Network(nn.Module):
    """One member: state (R, N, D), what drives the step (R, U), z (R, Z) or None -> change (R, N, D)."""

    def __init__(
        self, driven: int, latent_shape: tuple[int, ...], width: int, depth: int, linear: bool, chance: int,
        tokens: Tokens, grid: tuple[int, ...],
    ) -> None:
        super().__init__()
        size = latent_shape[1]
        self.embed_drive = mlp([driven, 2 * width, width])
        self.embed_state = TokenEmbedding(latent_shape, width, tokens, grid)
        self.blocks = nn.ModuleList(token_block(width, grid) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_change = nn.Linear(width, size)
        self.linear = nn.Linear(size + driven, size) if linear else None
        self.fork = Fork(width, chance) if chance else None
        with torch.no_grad():
            self.to_change.weight.mul_(0.1)
            self.to_change.bias.zero_()
            if self.linear is not None:
                self.linear.weight.zero_()
                self.linear.bias.zero_()

    def forward(self, state: Tensor, driven: Tensor, z: Tensor | None = None) -> Tensor:
        drive = self.embed_drive(driven)[:, None]
        condition, x = F.silu(drive), (self.embed_state(state) + drive)[:, None]
        for block in cast(list[TokenBlock], list(self.blocks)):
            x, _ = block.step(x, block.modulation(condition))
        h: Tensor = self.norm(x[:, 0])
        if z is not None:
            assert self.fork is not None
            h = fork_tokens(self.fork, h, z)
        change: Tensor = self.to_change(h)
        if self.linear is None:
            return change
        beside = driven[:, None].expand(-1, state.shape[1], -1)
        straight: Tensor = self.linear(torch.cat([state, beside.to(state.dtype)], -1))
        return change + straight
