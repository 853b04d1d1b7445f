"""The world in slots of a memory, of which few change in a step: the predictor says which, and by how much.

Knows latents of N slots and actions, not where they come from. Shapes: B problems, K candidates, R = B K rows,
H horizon, N slots, D numbers of a slot, P of them its place, U size of what drives a step, M slots that move in all
rows together, k slots that a query finds.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

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
from steersman.nn import ActionEmbedding, mlp
from steersman.world_model.drive import drive_inputs


class SlotChanges(WorldModel):
    """Changes to a few slots instead of a whole state:

        g_i = G(s_i, a)                        a small guess of every slot's change
        i moves                                where max_d |g_i| >= least
        q_i = place of s_i + g_i               its query: where it will be; the k slots nearest to it answer
        (r_ij, r_ji) = F(s_i, s_j - s_i, a)    what i and each slot j that answered do to one another
        s_i ← s_i + g_i + E(s_i, a) + Σ_j r_ij;  s_j ← s_j + r_ji

    What neither moves nor answers stays as it is, bit for bit, however far ahead is imagined. The large networks E and
    F are asked about what moves alone, so that a step costs what changes; only the guess and the distances to a query
    are worked out for every slot, for less than a hundredth of what a slot that moves costs. While training, slots that
    do not move take their guess, from which it learns; which slots move is then found out by the prediction error
    alone.

    A match is hard: a slot that answers is written to, s_j ← s_j + c r_j with c = 1, and the others with c = 0. A soft
    one (`memory.SlotMemory`) would write a little to every slot at every step, and cost as much.

    width   of E and F, three layers each; guess  width of G, two layers
    places  P: the first numbers of a slot, which say where it is
    near    k
    least   change that counts, in the numbers' own units; 0: every slot moves, and the whole state is predicted

    Source: LeCun 2022, section 4.7 and 4.10 (a world state in memory, predicted by changes to it); defaults are ours.

    Raises:
        ConfigError: states that are no slots with a place, or sizes that are not positive.
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="slot-changes"):
        """As `SlotChanges`."""

        width: int = 64
        guess: int = 8
        places: int = 2
        near: int = 3
        least: float = 0.01

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> SlotChanges:
            return SlotChanges(signature, latent_shape, width=self.width, guess=self.guess, places=self.places,
                               near=self.near, least=self.least)

    def __init__(
        self, signature: Signature, latent_shape: tuple[int, ...], *, width: int = 64, guess: int = 8, places: int = 2,
        near: int = 3, least: float = 0.01,
    ) -> None:
        super().__init__()
        if len(latent_shape) != 2 or latent_shape[1] < places:
            raise ConfigError(f"states of slots (N, D) whose first {places} numbers are a place", f"{latent_shape}",
                              "use a perception that gives a slot for each object, or another world model")
        if min(width, guess, places) < 1 or near < 0 or not least >= 0:
            raise ConfigError("positive widths and places, and `near` and `least` of at least 0",
                              f"{width}, {guess}, {places}, {near}, {least:g}", "correct the world model")
        slots, size = latent_shape
        self.places, self.near, self.least = places, min(near, slots - 1), least
        self.actions = ActionEmbedding(signature.action)
        driven = self.actions.width + len(signature.exogenous)
        self.guess = mlp([size + driven, guess, size], silent=True)
        self.own = mlp([size + driven, width, width, size], silent=True)
        self.pair = mlp([2 * size + driven, width, width, 2 * size], silent=True)

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """The last state alone matters: the slots are the memory."""
        return Belief(latent.state[:, -1], None if latent.context is None else latent.context[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(latent)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        states = belief.state[:, None].expand(-1, actions.shape[1], -1, -1)
        return self.branch(belief, states, actions, exogenous, u)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        state, way = states.flatten(0, 1), [states.flatten(0, 1)]
        for drive in drive_inputs(self.actions, actions, exogenous).flatten(0, 1).unbind(1):
            state = state + self.change(state, drive)
            way.append(state)
        return Imagined(torch.stack(way, 1).unflatten(0, states.shape[:2]), belief.context)

    def change(self, state: Tensor, drive: Tensor) -> Tensor:
        """state (R, N, D), drive (R, U) -> what each slot changes by, (R, N, D)."""
        beside = drive[:, None].expand(-1, state.shape[1], -1).to(state.dtype)
        guess: Tensor = self.guess(torch.cat([state, beside], -1))
        moves = guess.detach().abs().amax(-1) >= self.least
        row, slot = moves.nonzero(as_tuple=True)
        change = guess if self.training else torch.where(moves[..., None], guess, torch.zeros_like(guess))
        if len(row) == 0:
            return change
        mover, by = state[row, slot], drive[row].to(state.dtype)
        own: Tensor = self.own(torch.cat([mover, by], -1))
        if self.near == 0:
            return change.index_put((row, slot), own, accumulate=True)
        other = self._answering(state, row, slot, mover[:, : self.places] + guess[row, slot, : self.places])
        apart = state[row[:, None], other]
        apart = torch.cat([apart[..., : self.places] - mover[:, None, : self.places], apart[..., self.places :]], -1)
        asked = torch.cat([mover, by], -1)[:, None].expand(-1, self.near, -1)
        mine, theirs = self.pair(torch.cat([asked, apart], -1)).chunk(2, -1)
        change = change.index_put((row, slot), own + mine.sum(1), accumulate=True)
        return change.index_put((row[:, None].expand_as(other), other), theirs, accumulate=True)

    def _answering(self, state: Tensor, row: Tensor, slot: Tensor, query: Tensor) -> Tensor:
        """The slots (M, k) whose places are nearest to the queries (M, P), without the one that asks."""
        places = state.detach()[..., : self.places]
        apart = (places**2).sum(-1)[row] - 2 * torch.bmm(places[row], query.detach()[..., None])[..., 0]
        return apart.scatter(1, slot[:, None], torch.inf).topk(self.near, largest=False).indices
