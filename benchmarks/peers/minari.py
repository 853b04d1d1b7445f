"""minari: its own reader, an episode for each window, and all episodes read once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch


def batches(path: Path, key: str, frames: int, batch: int, kept: bool) -> Iterator[int]:
    """Endless batches of random windows as tensors; yields the count. It has no windows of its own: they are cut from
    the episodes that it reads."""
    from minari import MinariDataset

    dataset = MinariDataset(path / "data")
    episodes = list(dataset.iterate_episodes()) if kept else None
    random = np.random.default_rng(0)
    while True:
        observed, acted = [], []
        for number in random.integers(dataset.total_episodes, size=batch):
            episode = dataset[int(number)] if episodes is None else episodes[number]
            values = episode.observations[key] if isinstance(episode.observations, dict) else episode.observations
            start = int(random.integers(len(values) - frames + 1))
            observed.append(values[start : start + frames])
            acted.append(episode.actions[start : start + frames - 1])
        yield len((torch.from_numpy(np.stack(observed)), torch.from_numpy(np.stack(acted)))[0])
