"""Which encoded states a batch statistic is taken over: those of the moments, or those of each view of them.

Shapes: B windows, T = L+1 moments, D latent size (a vector, or N tokens of size D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from steersman.core.learning import Encoded, LearningBatch, Need, Views
from steersman.core.view_configs import ViewConfig


def needed(views: tuple[ViewConfig, ...]) -> tuple[Need[Any], ...]:
    """What must be made for `populations`."""
    return (Views(views),) if views else (Encoded(),)


def populations(batch: LearningBatch, views: tuple[ViewConfig, ...]) -> Sequence[Tensor]:
    """The states (B, T, [N,] D) of each view, or of the moments as they are where no views are asked for."""
    if not views:
        return [batch.latent.state]
    return [latent.state for latent in batch.of(Views(views)).latents]
