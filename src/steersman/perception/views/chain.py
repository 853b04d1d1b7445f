"""Several views, one after the other. Knows views only through their abstract class. Shapes: B rows, T moments."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from steersman.core.errors import ConfigError
from steersman.core.looking import Looked, View
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Observation
from steersman.core.view_configs import ViewConfig


class Chain(View):
    """look(x) = view_n(… view_1(x)), each with uniform numbers of its own and built for what the one before shows.

    Pictures are rounded to bytes after every view. No view at all is the observation itself.

    Parameters: those of all views side by side, named by the view's place from 0: "0.top", "1.horizontal", ….

    Raises:
        ConfigError: a view that cannot be had of what is shown to it; the wrong number of uniform numbers.
    """

    @register(View)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="chain"):
        """views: configurations of views, first to last."""

        views: tuple[ViewConfig, ...] = ()

        def build(self, signature: Signature) -> Chain:
            views: list[View] = []
            for config in self.views:
                views.append(config.build(views[-1].shown if views else signature))
            return Chain(views, signature)

    def __init__(self, views: Sequence[View], signature: Signature) -> None:
        """views: each built for what the one before shows; signature: what the first was built for."""
        self.views = tuple(views)
        self.uniform = sum(view.uniform for view in views)
        self.parameters = tuple(f"{i}.{name}" for i, view in enumerate(views) for name in view.parameters)
        self.shown = views[-1].shown if views else signature

    def look(self, observation: Observation, u: Tensor) -> Looked:
        if u.dim() != 2 or u.shape[1] != self.uniform:
            raise ConfigError(f"uniform numbers (B, {self.uniform})", f"{tuple(u.shape)}", "draw `view.uniform` a row")
        chosen = [u.new_empty(len(u), 0)]
        for view, part in zip(self.views, u.split([view.uniform for view in self.views], 1), strict=True):
            looked = view.look(observation, part)
            observation, chosen = looked.observation, [*chosen, looked.parameters]
        return Looked(observation, torch.cat(chosen, 1))
