"""Temporal straightening: latent paths bend as little as they can, so that distance in latent space tells the way.

Shapes: B windows, L steps, D latent size (a vector, or N tokens of size D, whose path is that of all N·D entries).
"""

from __future__ import annotations

from typing import Any

import msgspec
from torch import Tensor

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, LearningBatch, Loss, Need
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.objectives.statistics import mean

STILL = 1e-3
"""Root mean square change of an entry below which a moment says nothing of its direction."""


def bends(states: Tensor, stop_gradient: bool = True) -> tuple[Tensor, Tensor]:
    """States (B, L+1, D) -> 1 - cos of each change and the next, (B, L-1), and which of them count, (B, L-1) bool."""
    change = states.diff(dim=1)
    moves = change.square().mean(-1) > STILL**2
    first, second = change[:, :-1], change[:, 1:]
    if stop_gradient:
        second = second.detach()
    least = STILL * change.shape[-1] ** 0.5
    lengths = first.norm(dim=-1).clamp(min=least) * second.norm(dim=-1).clamp(min=least)
    return 1 - (first * second).sum(-1) / lengths, moves[:, :-1] & moves[:, 1:]


class Straightening(Objective):
    """The angle between one change of the latent and the next.

        E = weight · mean_{b,t} (1 - cos(s_{t+1} - s_t, sg(s_{t+2} - s_{t+1})))

    with s = batch.latent.state (B, L+1, [N,] D). sg stops the gradient, so that a change turns towards the next and not
    both towards each other; `stop_gradient=False` lets both turn. From 0 (straight) to 2 (there and back); steps in
    which an entry changes by less than .001 in the root mean square have no direction and do not count. The mean is
    over windows and steps of every process.

    It does not prevent collapse; it makes searches by gradient steadier, and distance in latent space a better guess
    of how far it is. Where what happens turns sharply at each step (a bouncing thing, actions drawn anew at every
    step) a large weight fights the prediction. Source: Wang et al. 2026 (arXiv:2603.12231), without sg there; weight .2
    from a pendulum in pixels.

    Part: "straightening".

    Raises:
        ConfigError: windows of fewer than two steps.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="straightening"):
        weight: float = 0.2
        stop_gradient: bool = True

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> Straightening:
            return Straightening(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(),)

    def forward(self, batch: LearningBatch) -> Loss:
        states = batch.latent.state.float().flatten(2)
        if states.shape[1] < 3:
            raise ConfigError("windows of at least 2 steps, to tell how a path bends", f"{states.shape[1] - 1}",
                              "raise `window`, or drop Straightening")
        bend, counts = bends(states, self.config.stop_gradient)
        error = mean(bend, counts)
        return Loss(self.config.weight * error, {"straightening": error.detach()})
