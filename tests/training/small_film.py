"""Films of noise in memory, two pictures a moment: what training needs of a dataset, so small that it takes no time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from steersman.core import ActionSpec, ObservationSpec, Signature, Window

SIGNATURE = Signature(
    {"image": ObservationSpec("image", (8, 8, 2), frames=2)}, ActionSpec("continuous", low=(-1.0,), high=(1.0,)),
)


class Film:
    """Episodes of pictures of noise, and actions that do nothing."""

    def __init__(self, episodes: int = 10, steps: int = 20) -> None:
        g = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (episodes, steps + 1, 8, 8, 2), generator=g, dtype=torch.uint8)
        self.actions = torch.rand(episodes, steps, 1, generator=g) * 2 - 1
        self.lengths = torch.full((episodes,), steps)
        self.signature, self.fingerprint, self.path = SIGNATURE, "film", Path("film")

    def windows(self, episode: Tensor, start: Tensor, length: int) -> Window:
        rows = start[:, None] + torch.arange(length + 1)
        e = episode[:, None]
        return Window({"image": self.images[e, rows]}, self.actions[e, rows[:, :-1]], None, episode, start)
