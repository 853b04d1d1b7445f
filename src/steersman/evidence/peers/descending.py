"""Descend for so many seconds: the loop that all rivals without a world model share.

Shapes: none of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from steersman.core import DivergedError, UsageError


@dataclass(frozen=True)
class Descent:
    """seconds on the clock; steps of the optimiser; losses: name -> its last value."""

    seconds: float
    steps: int
    losses: dict[str, float]


def descend(
    loss: Callable[[], tuple[Tensor, Mapping[str, Tensor]]], parameters: Sequence[nn.Parameter],
    step: Callable[[float], None], seconds: float, *, steps: int = 0, after: Callable[[], None] | None = None,
    schedule: Callable[[float], float] | None = None, clip: float = 0.0,
) -> Descent:
    """Draw a batch, compute its loss, step; until `seconds` have passed, or `steps` steps are done (0: no limit).

    loss      -> what is minimised, and its named parts
    step      one step of the optimiser of `parameters`, given the factor of its learning rates
    after     called after every step: averages follow
    schedule  share of the time (of the steps, if they are limited) in [0, 1) -> that factor; None: 1
    clip      largest norm of the gradient; 0: not clipped

    Raises:
        UsageError: neither seconds nor steps.
        DivergedError: a loss that is not finite.
    """
    if not seconds > 0 and not steps:
        raise UsageError("seconds above 0", f"{seconds:g}", "give it a minute")
    begun, done, parts = time.perf_counter(), 0, dict[str, Tensor]()
    while True:
        elapsed = time.perf_counter() - begun
        if (steps and done >= steps) or (seconds > 0 and elapsed >= seconds):
            break
        factor = 1.0 if schedule is None else schedule(done / steps if steps else elapsed / seconds)
        total, named = loss()
        if not math.isfinite(size := float(total.detach())):
            raise DivergedError("a finite loss", f"{size} in step {done + 1}", "lower the learning rate")
        for parameter in parameters:
            parameter.grad = None
        total.backward()
        if clip:
            nn.utils.clip_grad_norm_(parameters, clip)
        step(factor)
        if after is not None:
            after()
        done, parts = done + 1, dict(named)
    return Descent(time.perf_counter() - begun, done, {name: float(value) for name, value in parts.items()})


def cosine(share: float, warmup: float = 0.05, first: float = 0.0) -> float:
    """From `first` up to 1 over the share `warmup`, then down to 0 along half a cosine."""
    if share < warmup:
        return first + (1 - first) * share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
