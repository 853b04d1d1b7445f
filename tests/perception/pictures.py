"""Signatures and observations for the tests of image encoders."""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import ActionSpec, ObservationSpec, Signature


def signature(*shapes: tuple[int, ...], **vectors: int) -> Signature:
    """Images named image, image2, …; vectors by name -> size."""
    images = {f"image{i + 1 if i else ''}": ObservationSpec("image", shape) for i, shape in enumerate(shapes)}
    columns = {name: ObservationSpec("vector", (size,)) for name, size in vectors.items()}
    return Signature({**images, **columns}, ActionSpec("continuous", (-1.0,), (1.0,)))


def observe(sig: Signature, b: int = 2, t: int = 3, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(0, 256, (b, t, *spec.shape), generator=g, dtype=torch.uint8)
        if spec.kind == "image" else torch.randn(b, t, *spec.shape, generator=g)
        for name, spec in sig.observations.items()
    }


def stacked(sig: Signature, frames: int) -> Signature:
    """The same with so many pictures in each image."""
    return Signature({name: spec.stacked(frames) for name, spec in sig.observations.items()}, sig.action)
