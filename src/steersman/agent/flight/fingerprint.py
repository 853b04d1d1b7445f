"""One SHA-256 over everything learned that a decision depends on. Knows no files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
import torch
from torch import Tensor, nn


def model_fingerprint(config: msgspec.Struct, modules: Iterable[nn.Module | None]) -> str:
    """Of the configuration and of every parameter and buffer, by name, type, shape and bytes."""
    digest = hashlib.sha256(msgspec.json.encode(config, order="deterministic"))
    for number, module in enumerate(modules):
        for name, value in sorted(({} if module is None else module.state_dict()).items()):
            digest.update(f"{number} {name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return bytes(raw.numpy().data)
