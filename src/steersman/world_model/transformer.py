"""A causal transformer over (state, action) history, with a key-value cache for planning.

Shapes: B problems, K candidates, T steps of history, H horizon, D latent size (tokens are flattened), W width,
P = min(T - 1, context - 1) cached steps, I = heads x head_width. Knows nothing of where latents come from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import (
    Belief,
    ConfigError,
    Imagined,
    Latent,
    LatentVariableConfig,
    Signature,
    WorldModel,
    every_moment,
    register,
)
from steersman.nn import ActionEmbedding, CausalBlock, mlp, rotate
from steersman.world_model.attending import task_tokens
from steersman.world_model.drive import drive_inputs
from steersman.world_model.heads import expected, head_of, last_layer
from steersman.world_model.kept import begun, settled
from steersman.world_model.latent_variable.choosing import Choosing, Fork, choosing, explained, forked, given_before
from steersman.world_model.token_transformer import TokenTransformer
from steersman.world_model.tokens import EARLIER, Tokens, in_tokens, require_grid


class TransformerModel(WorldModel):
    """s_{t+1} = s_t + W_o LN(blocks(W_i s_t | a_t, x_t)), one token per step, conditioned by AdaLN.

    Each layer attends to the last `context` steps (itself among them), with rotary positions, so the model is a
    function of the whole history that a cache of `context - 1` keys and values per layer computes exactly, however
    long the rollout. The history's part is computed once per problem in `begin`; all candidates attend to the same
    copy. Keys are stored as if the next step stood at position 0, so a belief needs no clock.

    The belief's carry holds, layer by layer, P keys (B, I) and P values (B, I), oldest first. `begin` gives as many as
    there is history; what is observed moment by moment always holds context - 1 of each, and an age (B,) int64 behind
    them: so many of the newest count, the others are zeros that nobody looks at. So rows that began at different
    moments stand in one batch.

    With `members` E > 1 the last layer is E heads (`heads.Heads`): while training each row is answered by one of them;
    otherwise the state moves by their mean, and disagreement is √(mean over D of the variance over heads).

    With `tasks` K > 0 a learned token of the task that the states were encoded for (`Latent.task`) is added to what
    conditions every layer: one predictor of several tasks' states, each by its own dynamics (`TaskTokens`).

    With a latent variable s_{t+1} = s_t + W_o fork(h_t, z_t), h = LN(blocks(…)), and its prior is given h_t: keys and
    values do not depend on z but through the states that followed.

    Defaults are small. `TransformerModel.Config.lewm()` is the predictor of LeWM (Maes et al. 2026).
    """

    @register(WorldModel, earlier=EARLIER)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="transformer"):
        """members: heads on the last layer, more than 1 make an ensemble (5 are usual). `heads` are those of attention.
        For states of tokens `TokenTransformer` is built: tokens and grid as in `ResidualModel.Config`. tasks: how many
        the perception knows, if they are to be told apart."""

        width: int = 128
        depth: int = 3
        heads: int = 4
        head_width: int = 32
        hidden: int = 256
        context: int = 3
        dropout: float = 0.0
        members: int = 1
        latent_variable: LatentVariableConfig | None = None
        tokens: Tokens = "places"
        grid: tuple[int, ...] = ()
        tasks: int = 0

        def __post_init__(self) -> None:
            sizes = (self.width, self.depth, self.heads, self.hidden, self.context, self.members)
            if min(sizes) < 1 or not 0 <= self.dropout < 1:
                raise ConfigError("positive sizes and 0 <= dropout < 1", f"{self}", "correct the world model's sizes")
            if self.head_width < 2 or self.head_width % 2:
                raise ConfigError(
                    "an even head_width >= 2 (rotary positions turn pairs)", f"{self.head_width}", "use 32 or 64"
                )
            require_grid(self.tokens, self.grid)

        @classmethod
        def lewm(cls) -> TransformerModel.Config:
            """6 layers, 16 heads of 64, width 192, hidden 2048, context 3, dropout .1."""
            return cls(width=192, depth=6, heads=16, head_width=64, hidden=2048, context=3, dropout=0.1)

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None = None
        ) -> TransformerModel | TokenTransformer:
            if in_tokens(latent_shape, self.tokens, self.grid):
                return TokenTransformer(
                    signature, latent_shape, self.width, self.depth, self.heads, self.head_width, self.hidden,
                    self.context, self.dropout, self.latent_variable, self.tokens, self.grid, self.members,
                    self.tasks)
            return TransformerModel(self, signature, latent_shape)

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        size, width = torch.Size(latent_shape).numel(), config.width
        self.members = config.members
        self.context, self.cache_width = config.context, config.heads * config.head_width
        self.actions = ActionEmbedding(signature.action)
        self.embed_drive = mlp([self.actions.width + len(signature.exogenous), 2 * width, width])
        self.embed_state = nn.Linear(size, width)
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.heads, config.head_width, config.hidden, config.context, config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.to_change = last_layer(config.members, width, size)
        if isinstance(self.to_change, nn.Linear):  # drawn again, as in every run that is to be reproduced
            nn.init.uniform_(self.to_change.weight, -0.1 * width**-0.5, 0.1 * width**-0.5)
        self.task_tokens = task_tokens(config.tasks, width, config.latent_variable is not None)
        self.fork: Fork | None = None
        if config.latent_variable is not None:
            self.latent_variable = config.latent_variable.build(signature, latent_shape, width)
            self.fork = Fork(width, self.latent_variable.size)

    def predict(
        self, states: Tensor, actions: Tensor, exogenous: Tensor | None = None, token: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Next state after every step of a recorded sequence, in parallel: (B, T, D), (B, T, A) -> (B, T, D), caches.
        token: (B, W) of each problem's task.

        The caches are the keys and values (B, min(T, context - 1), I) of each layer, ready to be a belief's carry.
        """
        following, caches = self._whole(states, actions, exogenous, token=token)
        return following, [x[:, max(0, x.shape[1] - self.context + 1):] for x in caches]

    def _whole(
        self, states: Tensor, actions: Tensor, exogenous: Tensor | None, apart: Tensor | None = None,
        token: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """`predict` with every step's keys and values (B, T, I); apart (B, T, T): steps of different episodes."""
        condition = self._condition(actions[:, None], exogenous, token)[:, 0]
        x, caches = self.embed_state(states), []
        for block in self._layers():
            x, key, value = block.whole(x, condition, apart)
            caches += [key, value]
        return states + expected(self.to_change, self.norm(x)), caches

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        context = None if latent.context is None else latent.context[:, -1]
        token = None if self.task_tokens is None else self.task_tokens.of(latent)
        shared = () if token is None else (token,)
        if actions.shape[1] == 0 or self.context == 1:
            return Belief(latent.state[:, -1], context, shared=shared)
        _, caches = self.predict(latent.state[:, :-1].flatten(2), actions, exogenous, token)
        carry = tuple(step for cache in caches for step in cache.unbind(1))
        return Belief(latent.state[:, -1], context, carry, shared)

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        """One causal pass in which no step looks beyond the beginning of its episode."""
        steps, past = latent.state.shape[1], self.context - 1
        every, token = every_moment(latent), None
        if self.task_tokens is not None:
            every, token = replace(every, shared=(self.task_tokens.of_each(latent),)), self.task_tokens.of(latent)
        if not past or steps == 1:
            return self.settle(every)
        old, apart = begun(latent.state, reset)
        _, caches = self._whole(latent.state[:, :-1].flatten(2), actions, exogenous, apart, token)
        ahead = torch.arange(steps - 1, -1, -1, device=latent.state.device)
        turn = ahead[:, None, None] * self._layers()[0].frequencies
        carry: list[Tensor] = []
        for i, cache in enumerate(caches):  # slot j of moment t: step t - past + j
            slots = [x[:, :steps] for x in (F.pad(cache, (0, 0, past, 1))[:, j:] for j in range(past))]
            if i % 2 == 0:
                slots = [rotate(x.unflatten(-1, (-1, 2 * turn.shape[-1])), turn).flatten(-2) for x in slots]
            carry += [x.flatten(0, 1) for x in slots]
        return Belief(every.state, every.context, (*carry, old.clamp(max=past).flatten()), every.shared)

    def settle(self, belief: Belief) -> Belief:
        """Keys and values of context - 1 steps, and an age."""
        return settled(belief, 2 * len(self.blocks), self.context - 1, (self.cache_width,))

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
        """What the blocks make of the step and its history, h."""
        return given_before(self._roll, self.latent_variable, states, actions, exogenous, carry)

    def singles(self) -> tuple[WorldModel, ...]:
        """Each head with what all of them share; their weights are the ensemble's."""
        return (self,) if self.members == 1 else tuple(cast(WorldModel, head_of(self, i)) for i in range(self.members))

    def _roll(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, chance: Choosing | None
    ) -> Imagined:
        b, k, horizon = actions.shape[:3]
        shape = belief.state.shape[1:]
        token = None if self.task_tokens is None else self.task_tokens(belief)
        condition = self._condition(actions, exogenous, token)
        cache, known, age = self._past(belief, horizon)
        # with gradients rows are few: one product for all steps; without, many rows would not stay in the cache
        every = [block.modulation(condition).unbind(2) for block in self._layers()] if torch.is_grad_enabled() else None
        state = belief.state.flatten(1)[:, None].expand(b, k, -1)
        states, spread = [state], []
        for t in range(horizon):
            x = self.embed_state(state)
            seen = None if known is None else torch.cat([known[t:], known.new_ones(min(t + 1, self.context), b, 1)])
            for i, block in enumerate(self._layers()):
                keys, values = cache[2 * i], cache[2 * i + 1]
                modulation = block.modulation(condition[:, :, t]) if every is None else every[i][t]
                x, key, value = block.step(x, modulation, t - horizon, keys, values, seen)
                keys.append(key)
                values.append(value)
                evicted = max(0, len(keys) - self.context + 1)
                del keys[:evicted], values[:evicted]
            state, disagreement = forked(state, self.norm(x), chance, self.fork, self.to_change)
            states.append(state)
            spread += [] if disagreement is None else [disagreement]
        imagined = torch.stack(states, 2).unflatten(-1, shape)
        carry = [step.expand(b, k, -1) for steps in cache for step in steps]
        if age is not None:
            carry.append((age + horizon).clamp(max=self.context - 1)[:, None].expand(b, k))
        doubt = torch.stack(spread, -1) if spread else None
        return Imagined(imagined, belief.context, doubt, carry=tuple(carry), shared=belief.shared)

    def _layers(self) -> list[CausalBlock]:
        return cast(list[CausalBlock], list(self.blocks))

    def _condition(self, actions: Tensor, exogenous: Tensor | None, token: Tensor | None = None) -> Tensor:
        driven = self.embed_drive(drive_inputs(self.actions, actions, exogenous))
        return F.silu(driven if token is None else driven + token[:, None, None].to(driven.dtype))

    def _past(self, belief: Belief, horizon: int) -> tuple[list[list[Tensor]], Tensor | None, Tensor | None]:
        """Keys and values (B, 1, I) of each layer, with keys turned so that imagination ends just before position 0;
        which of these steps count (P, B, 1), None: all; and the age (B,), if there is one."""
        cache: list[list[Tensor]] = [[] for _ in range(2 * len(self.blocks))]
        count, aged = divmod(len(belief.carry), len(cache))
        age = belief.carry[-1] if aged else None
        for i, step in enumerate(belief.carry[: count * len(cache)]):
            if i // count % 2 == 0:
                frequencies = self._layers()[0].frequencies
                heads = step.unflatten(-1, (-1, 2 * len(frequencies)))
                step = rotate(heads, -horizon * frequencies).flatten(-2)
            cache[i // count].append(step[:, None])
        if age is None or (not torch.compiler.is_compiling() and bool((age >= count).all())):
            return cache, None, age
        return cache, torch.arange(count, device=age.device)[:, None, None] >= count - age[:, None], age
