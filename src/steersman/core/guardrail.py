"""Guardrail: a limit on every imagined step, which no weight buys. The abstract class; no algorithm.

Shapes: B problems, K candidates, H horizon, D latent size, M entries of a map of width C.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steersman.core.types import Imagined


class Guardrail(ABC):
    """A limit g <= 0 on every imagined step; never traded against the task."""

    config: Any = None
    """Its Config, registered with `register(Guardrail)`: then it can be stored with an agent."""
    readout: Any = None
    """The `Readout` that its columns are read by, if it limits columns."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For people: which limit this is."""

    @abstractmethod
    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        """-> (B, K, H): g of the step that actions[:, :, t] takes from states[:, :, t] to states[:, :, t+1].

        <= 0 is safe. The unit is the guardrail's own; only the sign decides, and the size ranks infeasible plans.
        """

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor | None:
        """g of where one stands, whatever led there: (B, …, D), context (B, M, C) -> (B, …), in the unit of `margin`.

        None (the default): this guardrail judges steps only. Override it where a state alone tells, so that a barrier
        can slow the agent down before the limit.
        """
        return None

    def barrier(self, imagined: Imagined, actions: Tensor, alpha: float) -> Tensor:
        """-> (B, K, H): <= 0 where a step keeps the limit and does not spend its reserve too fast,

            g(s') <= (1 - alpha) · g(s),        that is h(s') >= (1 - alpha) h(s) with h = -g

        From outside the limit, where `margin` might refuse every step, it asks for the way back at the same rate.
        `alpha` in (0, 1]: 1 asks for no more than the limit. A guardrail without a standing is judged by its margin.

        Source: discrete-time control barrier function, Agrawal & Sreenath 2017.
        """
        margin = self.margin(imagined, actions)
        standing = self.standing(imagined.states, imagined.context)
        if standing is None:
            return margin
        here, there = standing[:, :, :-1], standing[:, :, 1:]
        permitted = (1 - alpha) * here
        return torch.maximum(there - permitted, margin - permitted.clamp_min(0))

    def tensors(self) -> Mapping[str, Tensor]:
        """What was fitted or painted and is kept beside `config`; nothing by default."""
        return {}

    def bare(self) -> Guardrail:
        """The limit itself, without what is kept from it for the model's error. Override it where there is a margin."""
        return self

    def rows(self, index: Tensor) -> Guardrail:
        """The guardrail for some of the B problems: index is a mask (B,) or indices. Override it where the limit
        differs by problem."""
        return self
