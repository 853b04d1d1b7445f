"""A causal transformer over (state, action) history, with a key-value cache for planning.

Shapes: B problems, K candidates, T steps of history, H horizon, D latent size (tokens are flattened), W width,
P = min(T - 1, context - 1) cached steps, I = heads x head_width. Knows nothing of where latents come from.
"""

from __future__ import annotations

from typing import cast

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Belief, ConfigError, Imagined, Latent, Signature, WorldModel
from steersman.nn import ActionEmbedding, CausalBlock, mlp, rotate
from steersman.world_model.drive import drive_inputs


class TransformerModel(WorldModel):
    """s_{t+1} = s_t + W_o LN(blocks(W_i s_t | a_t, x_t)), one token per step, conditioned by AdaLN.

    Each layer attends to the last `context` steps (itself among them), with rotary positions, so the model is a
    function of the whole history that a cache of `context - 1` keys and values per layer computes exactly, however
    long the rollout. The history's part is computed once per problem in `begin`; all candidates attend to the same
    copy. Keys are stored as if the next step stood at position 0, so a belief needs no clock.

    The belief's carry holds, layer by layer, P keys (B, I) and P values (B, I), oldest first; it is empty when there
    is no history.

    Defaults are small. `TransformerModel.Config.lewm()` is the predictor of LeWM (Maes et al. 2026).
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="transformer"):
        width: int = 128
        depth: int = 3
        heads: int = 4
        head_width: int = 32
        hidden: int = 256
        context: int = 3
        dropout: float = 0.0

        def __post_init__(self) -> None:
            if min(self.width, self.depth, self.heads, self.hidden, self.context) < 1 or not 0 <= self.dropout < 1:
                raise ConfigError("positive sizes and 0 <= dropout < 1", f"{self}", "correct the world model's sizes")
            if self.head_width < 2 or self.head_width % 2:
                raise ConfigError(
                    "an even head_width >= 2 (rotary positions turn pairs)", f"{self.head_width}", "use 32 or 64"
                )

        @classmethod
        def lewm(cls) -> TransformerModel.Config:
            """6 layers, 16 heads of 64, width 192, hidden 2048, context 3, dropout .1."""
            return cls(width=192, depth=6, heads=16, head_width=64, hidden=2048, context=3, dropout=0.1)

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int] | None = None
        ) -> TransformerModel:
            return TransformerModel(self, signature, latent_shape)

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        size, width = torch.Size(latent_shape).numel(), config.width
        self.context, self.cache_width = config.context, config.heads * config.head_width
        self.actions = ActionEmbedding(signature.action)
        self.embed_drive = mlp([self.actions.width + len(signature.exogenous), 2 * width, width])
        self.embed_state = nn.Linear(size, width)
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.heads, config.head_width, config.hidden, config.context, config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.to_change = nn.Linear(width, size)
        nn.init.uniform_(self.to_change.weight, -0.1 * width**-0.5, 0.1 * width**-0.5)
        nn.init.zeros_(self.to_change.bias)

    def predict(self, states: Tensor, actions: Tensor, exogenous: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Next state after every step of a recorded sequence, in parallel: (B, T, D), (B, T, A) -> (B, T, D), caches.

        The caches are the keys and values (B, min(T, context - 1), I) of each layer, ready to be a belief's carry.
        """
        condition = self._condition(actions[:, None], exogenous)[:, 0]
        x, caches = self.embed_state(states), []
        for block in self._layers():
            x, key, value = block.whole(x, condition)
            first = max(0, key.shape[1] - self.context + 1)
            caches += [key[:, first:], value[:, first:]]
        return states + self.to_change(self.norm(x)), caches

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        context = None if latent.context is None else latent.context[:, -1]
        if actions.shape[1] == 0 or self.context == 1:
            return Belief(latent.state[:, -1], context)
        _, caches = self.predict(latent.state[:, :-1].flatten(2), actions, exogenous)
        return Belief(latent.state[:, -1], context, tuple(step for cache in caches for step in cache.unbind(1)))

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, z: Tensor | None = None
    ) -> Imagined:
        b, k, horizon = actions.shape[:3]
        shape = belief.state.shape[1:]
        condition = self._condition(actions, exogenous)
        cache = self._past(belief, horizon)
        # with gradients rows are few: one product for all steps; without, many rows would not stay in the cache
        every = [block.modulation(condition).unbind(2) for block in self._layers()] if torch.is_grad_enabled() else None
        state = belief.state.flatten(1)[:, None].expand(b, k, -1)
        states = [state]
        for t in range(horizon):
            x = self.embed_state(state)
            for i, block in enumerate(self._layers()):
                keys, values = cache[2 * i], cache[2 * i + 1]
                modulation = block.modulation(condition[:, :, t]) if every is None else every[i][t]
                x, key, value = block.step(x, modulation, t - horizon, keys, values)
                keys.append(key)
                values.append(value)
                evicted = max(0, len(keys) - self.context + 1)
                del keys[:evicted], values[:evicted]
            state = state + self.to_change(self.norm(x))
            states.append(state)
        imagined = torch.stack(states, 2).unflatten(-1, shape)
        carry = tuple(step.expand(b, k, -1) for steps in cache for step in steps)
        return Imagined(imagined, belief.context, carry=carry)

    def advance(
        self, state: Tensor, action: Tensor, exogenous: Tensor | None, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The model as a recurrence of one step, as an exported graph needs it: equal to `imagine`, step by step.

        state (N, D), action (N, A), exogenous (N, E), keys and values (N, layers, P, I) with P <= context - 1, empty at
        first -> next state, keys and values (N, layers, P + 1, I), of which the last context - 1 are to be kept.
        """
        forecast = None if exogenous is None else exogenous[:, None]
        condition = self._condition(action[:, None, None], forecast)[:, 0, 0]
        x, kept = self.embed_state(state.flatten(1)), []
        for i, block in enumerate(self._layers()):
            x, key, value = block.advance(x, condition, keys[:, i], values[:, i])
            kept.append((key, value))
        following = state + self.to_change(self.norm(x)).view(state.shape)
        return following, torch.stack([k for k, _ in kept], 1), torch.stack([v for _, v in kept], 1)

    def _layers(self) -> list[CausalBlock]:
        return cast(list[CausalBlock], list(self.blocks))

    def _condition(self, actions: Tensor, exogenous: Tensor | None) -> Tensor:
        return F.silu(self.embed_drive(drive_inputs(self.actions, actions, exogenous)))

    def _past(self, belief: Belief, horizon: int) -> list[list[Tensor]]:
        """Keys and values (B, 1, I) of each layer, with keys turned so that imagination ends just before position 0."""
        cache: list[list[Tensor]] = [[] for _ in range(2 * len(self.blocks))]
        count = len(belief.carry) // len(cache)
        for i, step in enumerate(belief.carry):
            if i // count % 2 == 0:
                frequencies = self._layers()[0].frequencies
                heads = step.unflatten(-1, (-1, 2 * len(frequencies)))
                step = rotate(heads, -horizon * frequencies).flatten(-2)
            cache[i // count].append(step[:, None])
        return cache
