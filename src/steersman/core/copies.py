"""Copies of what candidates share, made only where a model cannot read one for all, and not before their cost is said.

Knows tensors only. Shapes: B problems, K candidates.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from steersman.core.errors import PlanningError

SILENT = 256 << 20
"""Bytes of copies that are made without a word."""


def for_each(shared: Sequence[Tensor], k: int) -> tuple[Tensor, ...]:
    """What problems share, each (B, …), for each of K candidates: (B*K, …), neighbours together.

    K = 1 copies nothing. Above 256 MiB of copies a warning says once what they cost.

    Raises:
        PlanningError: they do not fit into the memory that is free.
    """
    if not torch.compiler.is_compiling():
        cost = (k - 1) * sum(x.numel() * x.element_size() for x in shared)
        if cost > SILENT:
            _announce(cost, k, _free(shared[0].device))
    return tuple(x[:, None].expand(-1, k, *x.shape[1:]).flatten(0, 1) for x in shared)


def _announce(cost: int, k: int, free: int | None) -> None:
    what = f"{_size(cost)} for {k} copies of what the candidates of a problem share"
    fix = "override the world model's `branch` so that all read one, or take fewer candidates"
    if free is not None and cost > free:
        raise PlanningError(f"memory for what is copied: {what}", f"{_size(free)} free", fix)
    _warn(f"{what}; {fix}")


@cache
def _warn(words: str) -> None:
    warnings.warn(words, stacklevel=5)


def _free(device: torch.device) -> int | None:
    """Bytes that can be had; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        names = getattr(os, "sysconf_names", {})
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_AVPHYS_PAGES" in names else None


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
