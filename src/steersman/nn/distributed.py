"""Sums over every process of a distributed run, with gradients; the identity when training is not distributed.

Knows nothing of what is summed: norms and objectives build their batch statistics on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def processes() -> int:
    """How many processes train together (1 when not distributed)."""
    return dist.get_world_size() if not _ALONE.get() and dist.is_available() and dist.is_initialized() else 1


@contextmanager
def alone() -> Iterator[None]:
    """Here, sums are this process's own: for what one of them works out while the others wait for nothing."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


def all_sum(x: Tensor) -> Tensor:
    """Sum of `x` over every process; any shape, the same on each.

    The gradient is summed as well. If every process computes the same loss from such sums and parameter gradients
    are then averaged over processes (as DistributedDataParallel does), the result is the gradient of one process
    that holds the whole batch.
    """
    if processes() == 1:
        return x
    total: Tensor = _AllSum.apply(x)
    return total


def all_rows(x: Tensor) -> Tensor:
    """The rows of `x` (n, …) of every process, those of process r at r·n; each must have as many. Gradients as in
    `all_sum`: those that all processes send to a row, added."""
    count = processes()
    if count == 1:
        return x
    rows = x.new_zeros(count, *x.shape)
    rows = torch.cat([rows[: dist.get_rank()], x[None], rows[dist.get_rank() + 1 :]])
    return all_sum(rows).flatten(0, 1)


def own_rows(n: int) -> slice:
    """Where the n rows of this process stand in `all_rows`."""
    first = n * dist.get_rank() if processes() > 1 else 0
    return slice(first, first + n)
