"""Several losses as one: totals added, named parts side by side. Weights live in each objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import LearningBatch, Loss, Need
from steersman.core.parts import ObjectiveConfig
from steersman.core.signature import Signature


def combine(losses: Iterable[Loss], names: Sequence[str] = ()) -> Loss:
    """Sum of totals; parts under their own names, or under "name/part" where names are given.

    Parts of the same name are told apart by a number: "prediction", "prediction-2".

    >>> one = Loss(torch.tensor(2.0), {"prediction": torch.tensor(1.0)})
    >>> both = combine([one, one])
    >>> float(both.total), sorted(both.parts)
    (4.0, ['prediction', 'prediction-2'])

    Raises:
        ConfigError: nothing to sum.
    """
    losses = list(losses)
    if not losses:
        raise ConfigError("at least one objective", "none", "add objectives.Prediction.Config() to the recipe")
    parts: dict[str, Tensor] = {}
    for i, loss in enumerate(losses):
        for part, value in loss.parts.items():
            name = f"{names[i]}/{part}" if names else part
            unique, number = name, 1
            while unique in parts:
                number += 1
                unique = f"{name}-{number}"
            parts[unique] = value
    return Loss(torch.stack([loss.total for loss in losses]).sum(), parts)


class Sum(Objective):
    """Several objectives, summed: one module whose parameters and state are saved together.

        E(batch) = Σ_i E_i(batch)
    """

    def __init__(self, objectives: Iterable[Objective]) -> None:
        super().__init__()
        self.objectives = nn.ModuleList(objectives)

    @classmethod
    def build(
        cls,
        configs: Iterable[ObjectiveConfig],
        signature: Signature,
        latent_shape: tuple[int, ...],
        context_shape: tuple[int, int, int] | None,
    ) -> Sum:
        """The sum of what each Config builds."""
        return cls(c.build(signature, latent_shape, context_shape) for c in configs)

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        """What any of them needs, each once."""
        return tuple(dict.fromkeys(need for objective in self.objectives for need in _of(objective).needs))

    @property
    def forbids(self) -> Mapping[type[Need[Any]], str]:
        return {kind: why for objective in self.objectives for kind, why in _of(objective).forbids.items()}

    def forward(self, batch: LearningBatch) -> Loss:
        return combine(objective(batch) for objective in self.objectives)


def _of(module: nn.Module) -> Objective:
    return cast(Objective, module)
