"""Memory for large batches, used again once nobody looks at the batch that was in it. Knows nothing of what is in it.

A fresh batch of pictures costs more in page faults than in copying: at 77 MB, 45 ms instead of 8 (LOG.md).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from steersman.core.recording import Array

LARGE = 1 << 20
"""Bytes from which a batch is worth it."""
_FREE = 4
"""Buffers that wait for their next use, at the most: one in the step, one on its way, two of another size."""


class Buffers:
    """Hands out tensors that nobody else holds. Any thread may take one."""

    def __init__(self) -> None:
        self._free: dict[int, Array] = {}  # by identity: arrays compare number by number

    def take(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor; its memory comes back by itself when the last tensor or array over it is gone."""
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE:
            return torch.empty(*shape, dtype=dtype)
        memory = self._fitting(size)
        if memory is None:
            memory = np.empty(size, np.uint8)  # numpy asks for huge pages, torch does not
        held = memory[:size]  # torch keeps this very object as long as the storage lives
        weakref.finalize(held, self._give, memory).atexit = False
        return torch.from_numpy(held).view(dtype).view(*shape)

    def _fitting(self, size: int) -> Array | None:
        for key, memory in reversed(list(self._free.items())):  # the last one is still in the processor's cache
            if size <= memory.nbytes <= 2 * size and self._free.pop(key, None) is not None:
                return memory  # else another thread was faster
        return None

    def _give(self, memory: Array) -> None:
        self._free[id(memory)] = memory
        for key in list(self._free)[:-_FREE]:
            self._free.pop(key, None)
