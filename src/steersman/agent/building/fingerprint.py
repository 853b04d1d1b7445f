"""One SHA-256 over everything learned that a decision depends on. Knows no files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def model_fingerprint(
    modules: Iterable[nn.Module | None], further: Mapping[str, nn.Module] | None = None
) -> str:
    """Of every parameter and buffer, by name, type, shape and bytes, and of the classes that hold them.

    further  more modules, by the names that tell them apart

    Configurations do not enter: a later version may add a field with a default, and the same weights must still be
    known.
    """
    digest = hashlib.sha256()
    named = [*((f"{number}", module) for number, module in enumerate(modules)), *sorted((further or {}).items())]
    for number, module in named:
        digest.update(f"{number} {type(module).__name__}".encode())
        for name, value in sorted(({} if module is None else module.state_dict()).items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return bytes(raw.numpy().data)
