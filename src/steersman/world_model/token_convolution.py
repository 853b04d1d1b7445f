"""A world model for tokens on a grid in which what happens is decided nearby: convolutions, told the action.

Knows latents and actions, not where they come from.

Shapes: B problems, K candidates, R = B K rows, H horizon, N = h w tokens, D size of a token, U size of what drives a
step, W width.
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import (
    Belief,
    ConfigError,
    Imagined,
    Latent,
    Signature,
    WorldModel,
    every_moment,
    register,
)
from steersman.nn import ActionEmbedding
from steersman.nn.codebook import Codebook
from steersman.nn.places import token_grid
from steersman.world_model.drive import drive_inputs


class TokenConvolution(WorldModel):
    """s' = s + W_o h_depth of tokens on a grid,

        h_0 = relu(conv(s)),   h_1 = h_0 + W_g max over places of h_0
        h_i+1 = h_i + relu((1 + γ_i(c)) conv(h_i) + β_i(c)),   c = [a, x]

    with convolutions of 3 × 3 and 0 beyond the edge. Weights are the same at every place and nothing tells a place
    apart: what a wall does is learned once, and holds in layouts that were never seen. A token sees 1 + depth places
    in each direction, and by W_g what is anywhere. Attention with codes of places learned such worlds much more slowly
    (LOG.md). The action a and the exogenous inputs x modulate every layer (FiLM, Perez et al. 2018).

    With `codes` > 0 the tokens that are met in training are kept, up to so many different ones, and what is imagined is
    rounded to the nearest of them (`nn.Codebook`): errors then do not add up, and two ways to the same state end in
    the same numbers, as planners that merge states want it. For worlds of few different tokens under an encoder that
    does not change (`perception.PatchEncoder`); where more than `codes` are met nothing is rounded. While training,
    nothing is rounded either, so that gradients pass.

    Raises:
        ConfigError: states that are no tokens, or a grid that has not as many places.
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="token-convolution"):
        """width W, depth; grid (h, w), empty: square; codes: different tokens to round to, 0: as they come."""

        width: int = 64
        depth: int = 2
        grid: tuple[int, ...] = ()
        codes: int = 0

        def __post_init__(self) -> None:
            if min(self.width, self.depth) < 1 or self.codes < 0 or len(self.grid) not in (0, 2):
                raise ConfigError("width and depth of at least 1, a grid of two sides or none, codes of at least 0",
                                  f"{self}", "correct the world model's configuration")

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None = None
        ) -> TokenConvolution:
            return TokenConvolution(self, signature, latent_shape)

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = token_grid(latent_shape, config.grid, "world model", "the world model 'residual'")
        size = latent_shape[1]
        self.config, width = config, config.width
        self.actions = ActionEmbedding(signature.action)
        driven = self.actions.width + len(signature.exogenous)
        self.first = nn.Conv2d(size, width, 3, padding=1)
        self.everywhere = nn.Linear(width, width)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(config.depth))
        self.modulation = nn.Linear(driven, config.depth * 2 * width)
        self.to_change = nn.Conv2d(width, size, 1)
        nn.init.zeros_(self.to_change.weight)
        assert self.to_change.bias is not None
        nn.init.zeros_(self.to_change.bias)
        self.known = Codebook(config.codes, size) if config.codes else None

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
        if self.training and self.known is not None:
            self.known.meet(belief.state)
        states = belief.state[:, None].expand(-1, actions.shape[1], -1, -1)
        return self._from(states, drive_inputs(self.actions, actions, exogenous), belief.context)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        return self._from(states, drive_inputs(self.actions, actions, exogenous), belief.context)

    def _from(self, states: Tensor, drive: Tensor, context: Tensor | None) -> Imagined:
        """states (B, K, N, D), drive (B, K, H, U)."""
        b, k = states.shape[:2]
        state, way = states.flatten(0, 1), [states.flatten(0, 1)]
        for driven in drive.flatten(0, 1).unbind(1):
            state = state + self._change(state, driven)
            if self.known is not None and not self.training:
                state = self.known.rounded(state)
            way.append(state)
        return Imagined(torch.stack(way, 1).unflatten(0, (b, k)), context)

    def _change(self, state: Tensor, driven: Tensor) -> Tensor:
        """state (R, N, D), driven (R, U) -> (R, N, D)."""
        x = F.relu(self.first(state.mT.unflatten(2, self.grid)))
        x = x + self.everywhere(x.amax((2, 3)))[:, :, None, None]
        scales, shifts = self.modulation(driven).unflatten(1, (self.config.depth, 2, -1)).unbind(2)
        for i, layer in enumerate(self.layers):
            x = x + F.relu(layer(x) * (1 + scales[:, i, :, None, None]) + shifts[:, i, :, None, None])
        change: Tensor = self.to_change(x).flatten(2).mT
        return change
