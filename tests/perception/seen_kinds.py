"""A signature with an observation of each kind, and observations of it."""

from __future__ import annotations

import torch
from torch import Tensor

from steersman.core import ActionSpec, ObservationSpec, Signature

EVERY = Signature(
    {
        "camera": ObservationSpec("image", (16, 20, 3)),
        "state": ObservationSpec("vector", (4,), columns=("a", "b", "c", "d")),
        "flow": ObservationSpec("field", (8, 12, 2), periodic=(True, False), extent=(2.0, 3.0)),
        "sound": ObservationSpec("waveform", (32, 2), rate=100.0),
        "text": ObservationSpec("tokens", (10,), vocabulary=50),
    },
    ActionSpec("none"),
)


def only(*names: str, signature: Signature = EVERY) -> Signature:
    return Signature({name: signature.observations[name] for name in names}, signature.action)


def observe(signature: Signature, b: int = 3, t: int = 4, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    made = {
        "uint8": lambda spec: torch.randint(0, 256, (b, t, *spec.shape), generator=g, dtype=torch.uint8),
        "float32": lambda spec: torch.randn(b, t, *spec.shape, generator=g),
        "int32": lambda spec: torch.randint(0, spec.vocabulary, (b, t, *spec.shape), generator=g, dtype=torch.int32),
    }
    return {name: made[spec.dtype](spec) for name, spec in signature.observations.items()}


def uniform(b: int, count: int, seed: int = 1) -> Tensor:
    return torch.rand(b, count, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6)
