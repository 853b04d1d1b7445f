"""Likeness: a moment seen otherwise has the state of the moment as it was seen. Collapses on its own.

Shapes: B windows, T = L+1 moments, T' of them in the view, D latent size (a vector, or N tokens of size D).
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.core.boxes import Objective
from steersman.core.learning import Encoded, LearningBatch, Loss, Need, Views
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.view_configs import ViewConfig
from steersman.objectives.statistics import mean


class Likeness(Objective):
    """Squared distance between the state of a moment and that of one view of it.

        E = weight · mean_{b,t,d} (s_{b,t,d} - s^v_{b,t,d})²

    with s = batch.latent.state (B, T, [N,] D) and s^v that of the view, (B, T', [N,] D), compared with the moments that
    the view kept: a `TimeCrop` in it makes it cheaper. Both give way; `stop_gradient` holds s, so that the moment as it
    was seen says what its view has to say. A mean over entries, of every process.

    It costs one encoding of B · T' moments, and what it is for is a world that looks otherwise than in its log. Beside
    it stands what spreads the states of moments as they are (`SIGReg`, `VICReg`). Source: the invariance of VICReg
    (Bardes, Ponce & LeCun 2022), here between a moment and one view of it. That both give way is from a pendulum in
    pixels (one seed): columns were read better off pictures as they are and off other looks.

    Part: "likeness".
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="likeness"):
        view: ViewConfig
        weight: float = 1.0
        stop_gradient: bool = False

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> Likeness:
            return Likeness(self, self.view.build(signature).parameters)

    def __init__(self, config: Config, parameters: tuple[str, ...]) -> None:
        """parameters: names of the view's."""
        super().__init__()
        self.config = config
        self.starts = tuple(i for i, name in enumerate(parameters) if name.split(".")[-1] == "start")

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Views((self.config.view,)))

    def forward(self, batch: LearningBatch) -> Loss:
        viewed = batch.of(Views((self.config.view,)))
        (latent,), (parameters,) = viewed.latents, viewed.parameters
        seen, states = latent.state.float(), self._kept(batch.latent.state.float(), parameters, latent.state.shape[1])
        if self.config.stop_gradient:
            states = states.detach()
        error = mean((states - seen).square())
        return Loss(self.config.weight * error, {"likeness": error.detach()})

    def _kept(self, states: Tensor, parameters: Tensor, count: int) -> Tensor:
        """States of the `count` moments that the view kept: a time crop says in its parameters where they begin."""
        if not self.starts:
            return states
        first = parameters[:, list(self.starts)].sum(1).long()
        moments = first[:, None] + torch.arange(count, device=states.device)
        return states[torch.arange(len(states), device=states.device)[:, None], moments]
