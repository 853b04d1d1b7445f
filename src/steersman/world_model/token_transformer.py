"""The transformer for states of tokens: block-causal attention over the tokens of the last moments, with a key-value
cache for planning. Knows nothing of where latents come from.

Shapes: B problems, K candidates, T moments of history, H horizon, N tokens, D size of a token, W width,
P = min(T - 1, context - 1) cached moments, I = heads x head_width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Belief, Imagined, Latent, LatentVariableConfig, Signature, WorldModel, every_moment
from steersman.nn import ActionEmbedding, mlp
from steersman.nn.token_block import TokenBlock
from steersman.world_model.attending import task_tokens
from steersman.world_model.drive import drive_inputs
from steersman.world_model.heads import expected, head_of, last_layer
from steersman.world_model.kept import begun, settled
from steersman.world_model.latent_variable.choosing import Choosing, Fork, choosing, explained, given_before
from steersman.world_model.tokens import TokenEmbedding, Tokens, forked_tokens


class TokenTransformer(WorldModel):
    """s_{t+1,i} = s_{t,i} + W_o LN(blocks(W_s s_{t,i} + p_i + c_t | c_t)), c = MLP([a_t, x_t]).

    What `TransformerModel.Config` builds for states (N, D). In each layer a token of moment t looks at all tokens of
    moments t - context + 1 to t; every token of a moment is conditioned by the action that follows it (AdaLN). A
    cache of `context - 1` moments per layer gives exactly what the whole sequence gives, however long the rollout.
    The history's part is computed once per problem in `begin`, and all candidates attend to the same copy.

    The belief's carry holds, layer by layer, P keys (B, N, I) and P values (B, N, I), oldest first, and once it was
    observed moment by moment an age (B,) int64 behind context - 1 of each, as in `TransformerModel`.

    `tasks` have tokens that are added to c, as in `TransformerModel`.

    `members` are heads on the last layer, as in `TransformerModel`; their disagreement is a mean over N and D.

    With a latent variable s_{t+1,i} = s_{t,i} + W_o fork(h_{t,i}, z_t), one z for all tokens, whose prior is given the
    mean of h over tokens.
    """

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], width: int = 128, depth: int = 3, heads: int = 4,
        head_width: int = 32, hidden: int = 256, context: int = 3, dropout: float = 0.0,
        latent_variable: LatentVariableConfig | None = None, tokens: Tokens = "places", grid: tuple[int, ...] = (),
        members: int = 1, tasks: int = 0,
    ) -> None:
        super().__init__()
        self.members = members
        self.context, self.cache_shape = context, (latent_shape[0], heads * head_width)
        self.actions = ActionEmbedding(signature.action)
        self.embed_drive = mlp([self.actions.width + len(signature.exogenous), 2 * width, width])
        self.embed_state = TokenEmbedding(latent_shape, width, tokens, grid)
        self.blocks = nn.ModuleList(
            TokenBlock(width, heads, head_width, hidden, context, grid, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.to_change = last_layer(members, width, latent_shape[1])
        self.task_tokens = task_tokens(tasks, width, latent_variable is not None)
        self.fork: Fork | None = None
        if latent_variable is not None:
            self.latent_variable = latent_variable.build(signature, latent_shape, width)
            self.fork = Fork(width, self.latent_variable.size)

    def predict(
        self, states: Tensor, actions: Tensor, exogenous: Tensor | None = None, token: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Next state after every step of a recorded sequence, in parallel: (B, T, N, D), (B, T, A) -> (B, T, N, D),
        and keys and values (B, min(T, context - 1), N, I) of each layer, ready to be a belief's carry. token: (B, W) of
        each problem's task."""
        following, caches = self._whole(states, actions, exogenous, token=token)
        return following, [x[:, max(0, x.shape[1] - self.context + 1):] for x in caches]

    def _whole(
        self, states: Tensor, actions: Tensor, exogenous: Tensor | None, apart: Tensor | None = None,
        token: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """`predict` with every step's keys and values (B, T, N, I); apart (B, T, T): steps of different episodes."""
        driven, condition = (x[:, 0] for x in self._driven(actions[:, None], exogenous, token))
        x, caches = self.embed_state(states) + driven[..., None, :], []
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
        _, caches = self.predict(latent.state[:, :-1], actions, exogenous, token)
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
        _, caches = self._whole(latent.state[:, :-1], actions, exogenous, apart, token)
        padded = [F.pad(cache, (0, 0, 0, 0, past, 1)) for cache in caches]  # slot j of moment t: step t - past + j
        carry = [x[:, j : j + steps].flatten(0, 1) for x in padded for j in range(past)]
        return Belief(every.state, every.context, (*carry, old.clamp(max=past).flatten()), every.shared)

    def settle(self, belief: Belief) -> Belief:
        """Keys and values of context - 1 moments, and an age."""
        return settled(belief, 2 * len(self.blocks), self.context - 1, self.cache_shape)

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
        """The mean over tokens of what the blocks make of the step and its history."""
        return given_before(self._roll, self.latent_variable, states, actions, exogenous, carry)

    def singles(self) -> tuple[WorldModel, ...]:
        """Each head with what all of them share; their weights are the ensemble's."""
        return (self,) if self.members == 1 else tuple(cast(WorldModel, head_of(self, i)) for i in range(self.members))

    def _roll(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None, chance: Choosing | None
    ) -> Imagined:
        b, k, horizon = actions.shape[:3]
        token = None if self.task_tokens is None else self.task_tokens(belief)
        driven, condition = self._driven(actions, exogenous, token)
        past, known, age = self._past(belief)
        count, limit = past[0][0].shape[1] if past else 0, self.context - 1
        own: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.blocks]
        state = belief.state[:, None].expand(-1, k, -1, -1)
        states, spread = [state], []
        for t in range(horizon):
            x = self.embed_state(state) + driven[:, :, t, None]
            gone = max(0, count + t - limit)  # moments that nobody looks at any more
            seen = None if known is None else known[:, gone:]
            for i, block in enumerate(self._layers()):
                before = (past[i][0][:, gone:], past[i][1][:, gone:]) if gone < count else None
                x, new = block.step(x, block.modulation(condition[:, :, t]), before, own[i][max(0, t - limit):], seen)
                own[i].append(new)
            state, disagreement = forked_tokens(state, self.norm(x), chance, self.fork, self.to_change)
            states.append(state)
            spread += [] if disagreement is None else [disagreement]
        carry = []
        for i, kept in enumerate(own):
            for j in range(2):
                old = [x[:, None].expand(-1, k, -1, -1) for x in past[i][j].unbind(1)] if count else []
                carry += [*old, *(new[j] for new in kept)][max(0, count + horizon - limit):]
        if age is not None:
            carry.append((age + horizon).clamp(max=limit)[:, None].expand(b, k))
        doubt = torch.stack(spread, -1) if spread else None
        return Imagined(torch.stack(states, 2), belief.context, doubt, carry=tuple(carry), shared=belief.shared)

    def _layers(self) -> list[TokenBlock]:
        return cast(list[TokenBlock], list(self.blocks))

    def _driven(
        self, actions: Tensor, exogenous: Tensor | None, token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What is added to every token of a moment, and what its layers are conditioned by: (B, K, H, W) each."""
        driven = self.embed_drive(drive_inputs(self.actions, actions, exogenous))
        driven = driven if token is None else driven + token[:, None, None].to(driven.dtype)
        return driven, F.silu(driven)

    def _past(self, belief: Belief) -> tuple[list[tuple[Tensor, Tensor]], Tensor | None, Tensor | None]:
        """Keys and values (B, P, N, I) of each layer, nothing if there are none; which of these moments count (B, P),
        None: all; and the age (B,), if there is one."""
        count, aged = divmod(len(belief.carry), 2 * len(self.blocks))
        age = belief.carry[-1] if aged else None
        if not count:
            return [], None, age
        sets = [torch.stack(belief.carry[i * count : (i + 1) * count], 1) for i in range(2 * len(self.blocks))]
        pairs = list(zip(sets[::2], sets[1::2], strict=True))
        if age is None or (not torch.compiler.is_compiling() and bool((age >= count).all())):
            return pairs, None, age
        return pairs, torch.arange(count, device=age.device) >= count - age[:, None], age
