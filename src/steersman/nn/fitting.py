"""Small networks fitted to data at hand: read-outs, classifiers, costs. Knows no loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from steersman.nn.adamw import AdamW


@torch.no_grad()
def redraw(network: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases anew, uniform within ±1/√n, n the numbers that enter a unit (a bias's own length): the same
    from the same generator."""
    for parameter in network.parameters():
        fan = parameter.shape[1:].numel() if parameter.ndim > 1 else len(parameter)
        parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * fan**-0.5)


@torch.enable_grad()
def fit(
    network: nn.Module, loss: Callable[[], Tensor], generator: torch.Generator, *, steps: int, lr: float, decay: float,
    draw: Callable[[nn.Module, torch.Generator], None] = redraw,
) -> None:
    """Descend `loss()`, a new batch at each call, from weights that `draw` makes anew: AdamW, its rate falling from
    `lr` along half a cosine."""
    draw(network, generator)
    optimiser = AdamW(network.named_parameters(), decay=decay)
    for step in range(steps):
        torch.autograd.backward(loss())
        optimiser.step(lr * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimiser.forget_gradients()
