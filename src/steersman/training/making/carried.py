"""Beliefs that live longer than a window: each piece of a stream goes on from where the last one ended.

Shapes: B streams, L steps a piece, D latent size, A action size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.learning import Carried, Encoded, Followed, Need
from steersman.core.types import Belief, Latent
from steersman.training.making.maker import Given, Maker, Making, makes, require_model


@makes(Carried)
class MakeCarried(Maker[Carried, Followed]):
    """Foresee, then correct by what was measured, moment after moment:

        b_0 = what the last piece came to, or `start(s_0)` where a stream begins
        ŝ_t = imagine(b_{t-1}, a_{t-1}),   b_t = correct(ŝ_t, s_t)

    Gradients stop at b_0 (truncated back-propagation through time). The moments follow one another by nature: this is
    the one loop over time in training.
    """

    def within(self, need: Carried) -> tuple[Need[Any], ...]:
        return (Encoded(),)

    def require(self, need: Carried, given: Given) -> None:
        require_model(need, given)
        if given.config.feed != "streams":
            raise ConfigError("consecutive pieces of streams, to carry state from one to the next",
                              f"feed {given.config.feed!r}", "set feed='streams'")

    def make(self, need: Carried, making: Making) -> Followed:
        model, window, seen = making.world_model, making.window, making.of(Encoded())
        context = making.perception.survey({name: x[:, :1] for name, x in window.observations.items()})
        known = None if seen.measured is None else seen.measured.expand_as(seen.latent.state)

        def outside(rows: slice) -> Tensor | None:
            return None if window.exogenous is None else window.exogenous[:, rows]

        first = Latent(seen.latent.state[:, 0], None if context is None else context[:, 0],
                       task=None if seen.latent.task is None else seen.latent.task[:, 0])
        begins = model.start(first, window.actions[:, :0], outside(slice(0, 0)))
        goes_on = _goes_on(making)
        belief = begins if making.carry is None else making.carry.belief.where(goes_on, begins)
        states, foreseen = [belief.state], []
        for t in range(window.actions.shape[1]):
            step = slice(t, t + 1)
            coming = model.settle(model.imagine(belief, window.actions[:, None, step], outside(step)).last())
            foreseen.append(coming.state)
            moment = Latent(seen.latent.state[:, t + 1])
            belief = model.correct(coming, moment, None if known is None else known[:, t + 1])
            states.append(belief.state)
        end: Belief = belief.map(torch.Tensor.detach)
        return Followed(torch.stack(states, 1), torch.stack(foreseen, 1), end, ~goes_on)


def _goes_on(making: Making) -> Tensor:
    """(B,) bool: windows that begin with the very moment at which their stream stopped."""
    window, carry = making.window, making.carry
    if carry is None:
        return torch.zeros(len(window), dtype=torch.bool, device=making.device)
    return (window.episode == carry.episode) & (window.start == carry.row)
