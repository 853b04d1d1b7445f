"""A learned cost: an energy that is low where demonstrations went, for what no known term says.

Knows imagined futures, and a planner only by what it plans. Shapes: B problems, K candidates, H horizon, D latent size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import FittedCost, Imagined, PlanningError, Task, register
from steersman.nn import AdamW, mlp, redraw


class LearnedCost(FittedCost):
    """e_t = softplus(f_θ(s_t)), f a perceptron on standardised latents; low where demonstrations went.

        θ <- θ - η ∇_θ [C(demonstrated) - C(planned) + β mean over both of f²]

    The energy of what was seen is pushed down, that of what is planned under the present energy up, until planning
    gives nothing cheaper than what was seen. β keeps the energy from running away where the two are told apart.

    Prefer `recover_weights` where the terms are known: five weights need a handful of demonstrations, a network needs
    hundreds, and outside of what was seen and planned it means nothing. As every cost it is weighed by the task; once
    learned, freeze it (it has no trainable parameter outside `fit`).

    Source: LeCun et al. 2006, "A tutorial on energy-based learning"; Du & Mordatch 2019 for the regulariser; Finn,
    Levine & Abbeel 2016, "Guided cost learning".
    """

    name: ClassVar[str] = "learned"

    @register(FittedCost)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="learned"):
        """rounds of planning; steps of descent after each; beta: of the regulariser."""

        hidden: tuple[int, ...] = (64, 64)
        rounds: int = 15
        steps: int = 40
        batch_size: int = 256
        lr: float = 1e-2
        beta: float = 0.03

        def build(self, latent_shape: tuple[int, ...]) -> LearnedCost:
            return LearnedCost(latent_shape, self)

    config: Config
    mean: Tensor
    deviation: Tensor

    def __init__(self, latent_shape: tuple[int, ...], config: Config | None = None) -> None:
        super().__init__()
        self.config, self.latent_shape = config or LearnedCost.Config(), tuple(latent_shape)
        size = math.prod(latent_shape)
        self.network = mlp([size, *self.config.hidden, 1])
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.requires_grad_(False)

    def energy(self, imagined: Imagined, actions: Tensor, task: Task) -> Tensor:
        return nn.functional.softplus(self._raw(imagined.states[:, :, 1:]))

    def fit(self, demonstrated: Tensor, plan: Callable[[], Tensor], *, seed: int = 0) -> tuple[float, ...]:
        """Learn from demonstrated states (n, D), or (B, H, D) and more, and from what `plan` plans with this cost.

        plan  asked once a round; the states (…, D) of plans under the present energy, from the demonstrations' starts

        Returns, by round, the mean energy of what was planned less that of what was seen: above 0, the demonstrations
        are cheaper than anything that is planned.

        Raises:
            PlanningError: states of another size, or not finite.
        """
        c, generator = self.config, torch.Generator().manual_seed(seed)
        seen = self._rows(demonstrated)
        redraw(self.network, generator)
        self.network.requires_grad_(True)  # an optimiser takes what is trainable
        optimiser, planned, gaps = AdamW(self.network.named_parameters(), decay=1e-3), seen[:0], []
        self.network.requires_grad_(False)
        for number in range(c.rounds):
            latest = self._rows(plan())
            if not number:
                self._standardise(torch.cat([seen, latest]))
            planned = torch.cat([planned, latest])
            rate = c.lr * 0.5 * (1 + math.cos(math.pi * number / c.rounds))
            self._descend(optimiser, seen, planned, rate, generator)
            with torch.no_grad():
                energy = [float(nn.functional.softplus(self._raw(self._shaped(x))).mean()) for x in (latest, seen)]
            gaps.append(energy[0] - energy[1])
        return tuple(gaps)

    def _standardise(self, rows: Tensor) -> None:
        deviation, mean = torch.std_mean(rows, 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    @torch.enable_grad()
    def _descend(
        self, optimiser: AdamW, seen: Tensor, planned: Tensor, rate: float, generator: torch.Generator
    ) -> None:
        c = self.config
        self.network.requires_grad_(True)
        for _ in range(c.steps):
            draw = [x[torch.randint(len(x), (c.batch_size,), generator=generator)] for x in (seen, planned)]
            raw = self._raw(self._shaped(torch.cat(draw)))
            low, high = nn.functional.softplus(raw).chunk(2)
            torch.autograd.backward(low.mean() - high.mean() + c.beta * raw.square().mean())
            optimiser.step(rate)
            optimiser.forget_gradients()
        self.network.requires_grad_(False)

    def _rows(self, states: Tensor) -> Tensor:
        rows = states.detach().float().reshape(-1, len(self.mean)) if states.numel() % len(self.mean) == 0 else None
        shaped = tuple(states.shape[-len(self.latent_shape) :]) == self.latent_shape
        if rows is None or not shaped or not len(rows) or not bool(torch.isfinite(rows).all()):
            raise PlanningError(f"finite states (…, {', '.join(map(str, self.latent_shape))})",
                                f"{tuple(states.shape)}", "pass latents of the agent that plans")
        return rows

    def _shaped(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, self.latent_shape)

    def _raw(self, states: Tensor) -> Tensor:
        flat = states.flatten(-len(self.latent_shape)) if len(self.latent_shape) > 1 else states
        raw: Tensor = self.network((flat.to(self.mean) - self.mean) / self.deviation)
        return raw[..., 0]
