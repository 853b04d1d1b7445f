"""A world model that is given, not learned: linear in state and action. The oracle that planners are tested with.

Shapes: B problems, K candidates, H horizon, D state, A action size, E exogenous size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import Belief, ConfigError, Imagined, Latent, WorldModel, every_moment


class LinearModel(WorldModel):
    """s' = F s + G a + E x + c.

    transition F (D, D), control G (D, A), exogenous E (D, X) or None: such inputs are ignored, offset c (D,) or None.
    Memoryless; in the type of F.

    >>> LinearModel(torch.eye(2), torch.eye(2))                                                     # doctest: +SKIP

    Errors: ConfigError for matrices that do not fit each other.
    """

    transition: Tensor
    control: Tensor
    input: Tensor | None
    offset: Tensor | None

    def __init__(
        self, transition: Tensor, control: Tensor, exogenous: Tensor | None = None, offset: Tensor | None = None
    ) -> None:
        super().__init__()
        d = transition.shape[-1]
        fits = transition.shape == (d, d) and control.dim() == 2 and control.shape[0] == d
        if not (fits and all(x is None or x.shape[0] == d for x in (exogenous, offset))):
            raise ConfigError("F (D, D), G (D, A), E (D, X), c (D,)",
                              f"F {tuple(transition.shape)}, G {tuple(control.shape)}", "correct the matrices")
        for name, value in (("transition", transition), ("control", control), ("input", exogenous), ("offset", offset)):
            self.register_buffer(name, value)

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        """The last state alone matters."""
        return Belief(latent.state[:, -1], None if latent.context is None else latent.context[:, -1])

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief:
        return every_moment(latent)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        start = belief.state[:, None].expand(-1, actions.shape[1], -1)
        return Imagined(self._roll(start, actions, exogenous), belief.context)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        return Imagined(self._roll(states, actions, exogenous), belief.context)

    def _roll(self, state: Tensor, actions: Tensor, exogenous: Tensor | None) -> Tensor:
        drive = actions.to(self.control.dtype) @ self.control.T
        if self.input is not None and exogenous is not None:
            drive = drive + (exogenous[:, : actions.shape[2]].to(drive.dtype) @ self.input.T)[:, None]
        if self.offset is not None:
            drive = drive + self.offset
        states = [state.to(drive.dtype)]
        for pushed in drive.unbind(2):
            states.append(states[-1] @ self.transition.T + pushed)
        return torch.stack(states, 2)
