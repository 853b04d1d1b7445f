"""How z is chosen in every step of a rollout, and how it enters a predictor: what our predictors share.

Shapes: N rows (problems times candidates), H horizon, U uniform numbers and Z numbers of z a step, G numbers that the
prior is given, D latent size, A action size, E members of an ensemble, W width of a predictor's last hidden layer,
O candidates for z of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steersman.core import Belief, Imagined, LatentVariable
from steersman.nn import DenseMembers
from steersman.world_model.heads import answered, expected

Move: TypeAlias = Callable[[Tensor, int], Tensor]
"""z (N·O, Z), O -> (N·O, D): the next states, if the O neighbours of a row are given these z."""
Roll: TypeAlias = "Callable[[Belief, Tensor, Tensor | None, Choosing | None], Imagined]"
"""A predictor's rollout: belief, actions (B, K, H, A), exogenous (B, H, X), how z is chosen."""


class Fork(nn.Module):
    """h' = h + W_o silu(W_h h + W_z z + b), h the last hidden layer of a predictor.

    z enters behind everything that a predictor remembers (a recurrent state, keys and values): what was measured tells
    the next step where chance went, so a belief does not depend on a z that nobody measured. And many z are tried at
    the price of this layer.
    """

    def __init__(self, width: int, size: int, members: int = 1) -> None:
        super().__init__()
        self.from_hidden = DenseMembers(members, width, width)
        self.from_z = DenseMembers(members, size, width, bias=False)
        self.back = DenseMembers(members, width, width)

    def only(self, number: int) -> Fork:
        """One member's, with views of the weights."""
        single = Fork.__new__(Fork)
        nn.Module.__init__(single)
        for name, layer in self.named_children():
            assert isinstance(layer, DenseMembers)
            setattr(single, name, layer.only(number))
        return single

    def forward(self, hidden: Tensor, z: Tensor) -> Tensor:
        """hidden (E, N, W); z (N, Z), or (E, N, Z) -> (E, N, W)."""
        z = z if z.dim() == 3 else z[None]
        out: Tensor = hidden + self.back(F.silu(self.from_hidden(hidden) + self.from_z(z)))
        return out


class Choosing:
    """z of each step: drawn by u, or what explains the state that followed, or what is expected.

    given        what the prior was given in each step so far, (N, G) each
    information  nats that each step told, (N,) each; empty unless z is explained
    """

    def __init__(
        self, variable: LatentVariable, actions: Tensor, u: Tensor | None = None, following: Tensor | None = None
    ) -> None:
        """actions (N, H, A), u (N, H, U), following (N, H, D): with it z is explained, by a sample where u is given."""
        self.variable, self.actions, self.u, self.following = variable, actions, u, following
        self.given: list[Tensor] = []
        self.information: list[Tensor] = []

    def z(self, given: Tensor, move: Move) -> Tensor:
        """(N, Z) of the next step. given (N, G); `move` is asked only where z is inferred by energy."""
        t = len(self.given)
        self.given.append(given)
        actions, u = self.actions[:, t], None if self.u is None else self.u[:, t]
        if self.following is None:
            return self.variable.expected(given, actions) if u is None else self.variable.draw(u, given, actions)
        seen = self.following[:, t]

        def energy(z: Tensor) -> Tensor:
            """½ Σ_D (s' - ŝ'(z))²."""
            ends = move(z.flatten(0, 1), z.shape[1]).unflatten(0, z.shape[:2])
            return 0.5 * (ends - seen[:, None]).square().sum(-1)

        found = self.variable.posterior(given, actions, seen, None if self.variable.amortised else energy, u)
        self.information.append(found.information)
        return found.z


def forked(
    state: Tensor, hidden: Tensor, chance: Choosing | None, fork: Fork | None, to_change: nn.Module
) -> tuple[Tensor, Tensor | None]:
    """The next states (…, D) of a predictor with one last hidden layer (…, W), which the prior is given, and how far
    its heads disagree (…), if it has several (`heads.answered`); without a fork nothing is left to chance."""
    if chance is not None and fork is not None:
        rows, last = state.flatten(0, -2), hidden.flatten(0, -2)

        def move(z: Tensor, times: int) -> Tensor:
            each, before = (x.repeat_interleave(times, 0) for x in (last, rows))
            return before + expected(to_change, fork(each[None], z)[0])

        hidden = fork(last[None], chance.z(last, move))[0].view(hidden.shape)
    change, disagreement = answered(to_change, hidden)
    return state + change, disagreement


def choosing(variable: LatentVariable | None, actions: Tensor, u: Tensor | None) -> Choosing | None:
    """For `imagine`: actions (B, K, H, A), u (B, K, H, U); None: nothing is left to chance."""
    if variable is None:
        return None
    return Choosing(variable, actions.flatten(0, 1), None if u is None else u.flatten(0, 1))


def explained(
    roll: Roll, variable: LatentVariable | None, belief: Belief, actions: Tensor, following: Tensor,
    exogenous: Tensor | None, u: Tensor | None,
) -> tuple[Imagined, Tensor]:
    """`WorldModel.explain` by a posterior, of a predictor that may leave nothing to chance: arguments as there."""
    chance = None if variable is None else Choosing(variable, actions, u, following.flatten(2))
    imagined = roll(belief, actions[:, None], exogenous, chance)
    if chance is None:
        return imagined, imagined.states.new_zeros(actions.shape[:2])
    told = [nats[:, None] for nats in chance.information]
    return imagined, torch.cat([imagined.states.new_zeros(len(actions), 0), *told], 1)


def given_before(
    roll: Roll, variable: LatentVariable | None, states: Tensor, actions: Tensor, exogenous: Tensor | None,
    carry: tuple[Tensor, ...],
) -> Tensor:
    """`WorldModel.given` of a predictor with a history: what its prior is given in a rollout of one step; the states
    where nothing is left to chance."""
    if variable is None:
        return states.flatten(2)
    k = states.shape[1]
    each = Belief(states.flatten(0, 1), None, tuple(x.flatten(0, 1) for x in carry))
    known = None if exogenous is None else exogenous[:, :1].repeat_interleave(k, 0)
    once = actions.flatten(0, 1)[:, None, None]
    chance = Choosing(variable, once[:, 0])
    roll(each, once, known, chance)
    return chance.given[0].unflatten(0, states.shape[:2])
