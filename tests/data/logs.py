"""Small logs that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import torch

from steersman.core import ActionSpec, Episode, ObservationSpec, Signature
from steersman.data import CacheWriter, Dataset

CONTINUOUS = ActionSpec("continuous", low=(-1.0, -2.0), high=(1.0, 2.0), names=("left", "right"))
MIXED = Signature(
    {"image": ObservationSpec("image", (4, 5, 3)), "vector": ObservationSpec("vector", (2,), ("a", "b"))},
    CONTINUOUS, ("load",),
)
VECTORS = Signature({"vector": ObservationSpec("vector", (2,), ("a", "b"))}, CONTINUOUS)
CHOICES = Signature({"vector": ObservationSpec("vector", (2,), ("a", "b"))}, ActionSpec("discrete", choices=3))


def make_episode(signature: Signature, steps: int, seed: int = 0) -> Episode:
    """Random values; the same seed gives the same episode."""
    g = torch.Generator().manual_seed(seed)
    observations = {
        name: torch.randint(256, (steps + 1, *spec.shape), dtype=torch.uint8, generator=g)
        if spec.kind == "image" else torch.randn(steps + 1, *spec.shape, generator=g)
        for name, spec in signature.observations.items()
    }
    spec = signature.action
    if spec.kind == "discrete":
        actions = torch.randint(spec.choices, (steps, 1), generator=g)
    else:
        low, high = torch.tensor(spec.low), torch.tensor(spec.high)
        actions = low + (high - low) * torch.rand(steps, spec.size, generator=g)
    exogenous = torch.randn(steps, len(signature.exogenous), generator=g) if signature.exogenous else None
    return Episode(observations, actions, exogenous)


def make_log(signature: Signature, lengths: list[int]) -> list[Episode]:
    """One random episode per length."""
    return [make_episode(signature, steps, seed) for seed, steps in enumerate(lengths)]


def make_dataset(path: Path, signature: Signature, lengths: list[int]) -> tuple[Dataset, list[Episode]]:
    """A cache at `path` and what was put into it."""
    episodes = make_log(signature, lengths)
    with CacheWriter(path, signature) as writer:
        writer.append(episodes)
        writer.finish("of a test")
    return Dataset.open(path), episodes


def assert_equal(a: Episode, b: Episode) -> None:
    """Same names, types, shapes and values."""
    assert set(a.observations) == set(b.observations)
    pairs = [(a.observations[name], b.observations[name]) for name in a.observations] + [(a.actions, b.actions)]
    assert (a.exogenous is None) == (b.exogenous is None)
    if a.exogenous is not None and b.exogenous is not None:
        pairs.append((a.exogenous, b.exogenous))
    for x, y in pairs:
        assert x.dtype == y.dtype
        assert torch.equal(x, y)
