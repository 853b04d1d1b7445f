"""Residual predictor that reads a map of the scene near its state: the state moves, the map stays.

Suits worlds where what is near decides what an action does: rooms, tracks, tables. Pairs with a perception that
surveys (perception.SceneEncoder). Memoryless: the belief is the last state.

Shapes: B problems, K candidates, H horizon, D state, A action, M = rows·columns map entries, C map width.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import Belief, ConfigError, Imagined, Latent, Signature, WorldModel, every_moment, register
from steersman.nn import ActionEmbedding


class MapReader(WorldModel):
    """s' = s + W [f([s, a, r]) ⊙ G a], r = LayerNorm(Σ_m q_m map_m), q = softmax(3 U s) ⊗ softmax(3 V s).

    q is over rows and columns of the map; f is an MLP with `layers` hidden layers of `width`; a are the embedded
    action and exogenous inputs, if any. The product with G a lets a change be linear in the action where nothing is
    in the way. Without the normalisation the map is read too late: walls stay permeable (LOG.md). A separable query
    costs one GEMM per step whatever the number of candidates; the factor 3 sharpens it.

    Errors: ConfigError if perception draws no map, or its states are no vectors.
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="map_reader"):
        """width and number of hidden layers; sharpness: factor on the query's logits."""

        width: int = 256
        layers: int = 2
        sharpness: float = 3.0

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> MapReader:
            return MapReader(self, signature, latent_shape, context_shape)

    def __init__(
        self,
        config: Config,
        signature: Signature,
        latent_shape: tuple[int, ...],
        context_shape: tuple[int, int, int] | None,
    ) -> None:
        super().__init__()
        if context_shape is None or len(context_shape) != 3 or len(latent_shape) != 1:
            raise ConfigError(
                "a perception with a vector state and a scene map (rows, columns, width)",
                f"state {latent_shape}, map {context_shape}", "use perception 'scene', or another world model",
            )
        self.config, self.grid = config, context_shape[:2]
        d, c = latent_shape[0], context_shape[2]
        self.embed = ActionEmbedding(signature.action)
        self.query = nn.Linear(d, sum(self.grid))
        sizes = [d + self.embed.width + len(signature.exogenous) + c] + [config.width] * config.layers
        hidden = [m for i, o in pairwise(sizes) for m in (nn.Linear(i, o), nn.GELU())]
        self.normalise = nn.LayerNorm(c)
        self.hidden = nn.Sequential(*hidden)
        self.gate = nn.Linear(self.embed.width + len(signature.exogenous), config.width)
        self.change = nn.Linear(config.width, d)
        nn.init.zeros_(self.change.bias)
        with torch.no_grad():
            self.change.weight.mul_(0.1)

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        return Belief(latent.state[:, -1], self._map(latent)[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(Latent(latent.state, self._map(latent)))

    def _map(self, latent: Latent) -> Tensor:
        cells = self.grid[0] * self.grid[1]
        if latent.context is None:
            raise ConfigError("a latent with a scene map", "none", "call perception.survey on the last observation")
        if latent.context.shape[2] != cells:
            raise ConfigError(f"a scene map of {self.grid[0]} × {self.grid[1]} cells", f"{latent.context.shape[2]}",
                              "use the perception that this model was built for")
        return latent.context

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, z: Tensor | None = None
    ) -> Imagined:
        return self._roll(belief, belief.state[:, None].expand(-1, actions.shape[1], -1), actions, exogenous)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        z: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        return self._roll(belief, states, actions, exogenous)

    def _roll(self, belief: Belief, state: Tensor, actions: Tensor, exogenous: Tensor | None) -> Imagined:
        b, k, horizon = actions.shape[:3]
        assert belief.context is not None
        embedded = self.embed(actions)
        if exogenous is not None:
            embedded = torch.cat([embedded, exogenous[:, None].expand(b, k, horizon, -1)], -1)
        states, attention = [state], []
        for t in range(horizon):
            state, logits = self._step(state, embedded[:, :, t], belief.context)
            states.append(state)
            attention.append(logits)
        looked = torch.stack(attention, 2) if self.training else None
        return Imagined(torch.stack(states, 2), belief.context, attention=looked)

    def _step(self, state: Tensor, action: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """state (B, K, D), action (B, K, A'), context (B, M, C) -> next state (B, K, D), query logits (B, K, M)."""
        rows, columns = (self.query(state) * self.config.sharpness).split(self.grid, -1)
        weight = (rows.softmax(-1)[..., :, None] * columns.softmax(-1)[..., None, :]).flatten(-2)
        read = self.normalise(torch.bmm(weight.to(context.dtype), context))
        hidden = self.hidden(torch.cat([state, action.to(state.dtype), read.to(state.dtype)], -1))
        change = self.change(hidden * self.gate(action.to(state.dtype)))
        logits = (rows[..., :, None] + columns[..., None, :]).flatten(-2) if self.training else rows
        return state + change, logits
