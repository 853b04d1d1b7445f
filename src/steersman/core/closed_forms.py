"""What a world model or a cost may say of itself in closed form, so that a search can run it as compiled code, without
a call for every step. No algorithm.

Shapes: B problems, R actions, D state (tokens flattened), F width of the first layer, W width, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Perceptron:
    """A memoryless world model for a fixed list of actions, in float32 on the CPU:

        f = into s + drive_a,  h = silu(f[:W]),  h <- silu(M_i h + c_i) + h,  s' = s + f[W:] + out h + bias

    into    (F, D), F = W, or W + D where a linear map stands beside the perceptron
    drive   (R, F): what each action, and the first layer's bias, add
    layers  pairs M (W, W), c (W,)
    out     (D, W), bias (D,)
    """

    into: Tensor
    drive: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...]
    out: Tensor
    bias: Tensor

    @property
    def largest(self) -> int:
        """Entries of its largest matrix."""
        return max(m.numel() for m in (self.into, self.out, *(m for m, _ in self.layers)))

    def arrays(self) -> tuple[Any, ...]:
        """into, drive, layers (L, W, W), offsets (L, W), out, bias as contiguous arrays, which share memory where they
        can: what compiled code takes."""
        width = self.out.shape[1]
        if len(self.layers) == 1:
            layers, offsets = (_array(x)[None] for x in self.layers[0])
        else:
            layers = np.empty((len(self.layers), width, width), np.float32)
            offsets = np.empty((len(self.layers), width), np.float32)
            for number, (weight, offset) in enumerate(self.layers):
                layers[number], offsets[number] = weight.detach().numpy(), offset.detach().numpy()
        return _array(self.into), _array(self.drive), layers, offsets, _array(self.out), _array(self.bias)

    def step(self, states: Tensor, choice: Tensor) -> Tensor:
        """The reference: states (N, D), choice (N,) -> where they lead, (N, D)."""
        width = self.out.shape[1]
        first = states @ self.into.mT + self.drive[choice]
        h = torch.nn.functional.silu(first[:, :width])
        for weight, offset in self.layers:
            h = torch.nn.functional.silu(h @ weight.mT + offset) + h
        after = states + h @ self.out.mT + self.bias
        return after if first.shape[1] == width else after + first[:, width:]


def _array(x: Tensor) -> Any:
    x = x.detach() if x.requires_grad else x
    return x.numpy() if x.is_contiguous() else x.contiguous().numpy()


@dataclass(frozen=True)
class Distance:
    """An energy of single steps, mean over D of |s_t - target|^power.

    target  (1, D), or (B, D)
    power   1 or 2
    last    only the last step of a plan counts
    told    is handed the energies (B, K) that were computed from this, unweighted: whoever watches a cost sees them too
    """

    target: Tensor
    power: int = 2
    last: bool = False
    told: Callable[[Tensor], None] | None = None

    def energy(self, states: Tensor) -> Tensor:
        """The reference: states (B, K, H, D) -> (B, K, H)."""
        energy = (states - self.target[:, None, None]).abs().pow(self.power).mean(-1)
        if self.last:
            energy = torch.cat([torch.zeros_like(energy[..., :-1]), energy[..., -1:]], -1)
        return energy


def speaks_for(part: object, form: str, method: str) -> bool:
    """Whether a part's `form` was written for the `method` that it has: by the same class or a later one.

    A subclass that overrides `method` alone is no longer what the form says that it inherits.
    """
    if method in vars(part) and form not in vars(part):
        return False
    kind: Any = type(part)
    return _written_for(kind, form, method)


@cache
def _written_for(kind: Any, form: str, method: str) -> bool:
    order = kind.__mro__
    writer = {name: next(i for i, owner in enumerate(order) if name in vars(owner)) for name in (form, method)}
    return writer[form] <= writer[method]
