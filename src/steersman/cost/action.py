"""What acting itself costs: effort and roughness. Shapes: B problems, K candidates, H horizon, A action size."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from steersman.core import ActionSpec, Cost, Imagined, Signature, Task, register
from steersman.cost.unit import InUnits


class _ActionScale:
    """Actions in units of half their range around its middle; discrete choices are 0 or 1 apart."""

    def __init__(self, spec: ActionSpec) -> None:
        self.discrete = spec.kind == "discrete"
        low, high = torch.tensor(spec.low), torch.tensor(spec.high)
        self.middle, self.half = (high + low) / 2, (high - low) / 2

    def unit(self, actions: Tensor) -> Tensor:
        return (actions - self.middle.to(actions)) / self.half.to(actions)


class EffortCost(Cost):
    """e_t = mean over A of u_t², u = (a - middle) / half range in [-1, 1]. Zero for discrete actions."""

    name: ClassVar[str] = "effort"

    @register(Cost)
    class Config(InUnits, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="effort"):
        def build(self, signature: Signature) -> EffortCost:
            return self.of(EffortCost(signature.action))

    @property
    def config(self) -> Config:
        """What builds it again."""
        return self.Config(unit=self.unit)

    def __init__(self, action: ActionSpec) -> None:
        self._scale = _ActionScale(action)

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if self._scale.discrete:
            return imagined.states.new_zeros(actions.shape[:3])
        return self._scale.unit(actions).square().mean(-1)


class SmoothnessCost(Cost):
    """e_t = mean over A of (u_t - u_{t-1})² for t >= 1, 0 for the first step; discrete: 1 where the choice changes."""

    name: ClassVar[str] = "smoothness"

    @register(Cost)
    class Config(InUnits, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="smoothness"):
        def build(self, signature: Signature) -> SmoothnessCost:
            return self.of(SmoothnessCost(signature.action))

    @property
    def config(self) -> Config:
        """What builds it again."""
        return self.Config(unit=self.unit)

    def __init__(self, action: ActionSpec) -> None:
        self._scale = _ActionScale(action)

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        if self._scale.discrete:
            change = (actions[:, :, 1:] != actions[:, :, :-1]).to(imagined.states.dtype).mean(-1)
        else:
            change = self._scale.unit(actions).diff(dim=2).square().mean(-1)
        return torch.cat([change.new_zeros((*change.shape[:2], 1)), change], 2)
