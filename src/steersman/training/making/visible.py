"""Masks: which tokens of a moment are seen and which are to be foreseen, and the seen ones encoded without the rest.

Shapes: B windows of L+1 moments, N = B·(L+1) moments, V visible tokens, D token size.
"""

from __future__ import annotations

from typing import Any

import torch

from steersman.core.errors import ConfigError
from steersman.core.learning import Glimpse, Hides, Need, Visible
from steersman.core.looking import Masked
from steersman.training.making.maker import Given, Maker, Making, makes


@makes(Hides)
class MakeHides(Maker[Hides, Masked]):
    """Draws the masks of each moment from uniform noise of its own; what all share is drawn once."""

    def require(self, need: Hides, given: Given) -> None:
        grid = given.perception.token_grid
        if grid is None:
            raise ConfigError("a perception of tokens that masks can hide", type(given.perception).__name__,
                              "use ViTEncoder, or drop the masked objective")
        need.masks.build().uniform(grid)

    def make(self, need: Hides, making: Making) -> Masked:
        grid, masks = making.perception.token_grid, need.masks.build()
        assert grid is not None
        shared, each = masks.uniform(grid)
        moments = making.window.actions.shape[1] + 1
        common = torch.rand(shared, device=making.device)
        u = making.drawn(lambda windows: torch.rand(windows * moments, each, device=making.device))
        return masks.draw(grid, common, u)


@makes(Visible)
class MakeVisible(Maker[Visible, Glimpse]):
    """One call of perception for all moments; what is hidden is not computed."""

    def within(self, need: Visible) -> tuple[Need[Any], ...]:
        return (Hides(need.masks),)

    def make(self, need: Visible, making: Making) -> Glimpse:
        masked = making.shared(Hides(need.masks))
        flat = {name: value.flatten(0, 1) for name, value in making.window.observations.items()}
        return Glimpse(making.perception.encode_visible(flat, masked.context), masked)
