"""AdamW whose whole state is named tensors, so that a checkpoint keeps it by name. Trains parts and fits read-outs.

The update is `torch.optim.adamw.adamw`, fused where there is a fused form. The class torch.optim.AdamW would do, but
constructing it imports the compiler: two seconds and more in every process that trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from steersman.core.errors import CheckpointError, ConfigError
from steersman.core.optimiser import Optimiser
from steersman.core.parts import register

_FUSED = ("cpu", "cuda", "mps")


class AdamW(Optimiser):
    """Decoupled weight decay (Loshchilov & Hutter 2019), bias-corrected moments:

        m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
        θ ← (1 - lr·λ) θ - lr · m̂ / (√v̂ + ε)

    λ applies to parameters with two or more dimensions, not to biases, gains and norms. A parameter without a
    gradient rests, and its moments with it.
    """

    @register(Optimiser)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="adamw"):
        """betas: β₁ and β₂; decay: λ; eps: ε. Defaults as in torch.optim.AdamW.

        Raises:
            ConfigError: β outside [0, 1), a negative λ, or an ε that is not positive.
        """

        betas: tuple[float, float] = (0.9, 0.999)
        decay: float = 1e-2
        eps: float = 1e-8

        def __post_init__(self) -> None:
            if not (all(0 <= beta < 1 for beta in self.betas) and self.decay >= 0 and self.eps > 0):
                raise ConfigError("betas of [0, 1), a decay of at least 0 and a positive eps", f"{self}",
                                  "correct the optimiser's configuration")

        def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> AdamW:
            return AdamW(parameters, self.betas, self.decay, self.eps)

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        betas: tuple[float, float] = (0.9, 0.999),
        decay: float = 1e-2,
        eps: float = 1e-8,
    ) -> None:
        self.named = [(name, p) for name, p in parameters if p.requires_grad]
        self.parameters = [p for _, p in self.named]
        self._betas, self._decay, self._eps = betas, decay, eps
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Descend along the gradients that are there."""
        for decays in (True, False):
            rows = [i for i, p in enumerate(self.parameters) if (p.dim() >= 2) is decays and p.grad is not None]
            if not rows:
                continue
            chosen: list[Tensor] = [self.parameters[i] for i in rows]
            adamw(
                chosen,
                [p.grad for p in chosen if p.grad is not None],
                [self._first[i] for i in rows],
                [self._second[i] for i in rows],
                [],
                [self._steps[i] for i in rows],
                fused=chosen[0].device.type in _FUSED,
                amsgrad=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=lr,
                weight_decay=self._decay if decays else 0.0,
                eps=self._eps,
                maximize=False,
            )

    def forget_gradients(self) -> None:
        for p in self.parameters:
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """first.NAME, second.NAME, steps.NAME for every parameter; views, not copies."""
        kinds = {"first": self._first, "second": self._second, "steps": self._steps}
        return {f"{kind}.{n}": x for kind, xs in kinds.items() for (n, _), x in zip(self.named, xs, strict=True)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            CheckpointError: other names or shapes.
        """
        mine = self.state()
        for name in sorted(mine.keys() | state.keys()):
            a, b = (tuple(x[name].shape) if name in x else "nothing" for x in (mine, state))
            if a != b:
                raise CheckpointError(f"{name} of shape {a} in the optimiser", f"{b}", "use the checkpoint's own run")
        for name, x in mine.items():
            x.copy_(state[name])
