"""Training in several processes (torchrun): who this one is, and what it exchanges with the others beside gradients.

Each process takes its part of every batch; torch averages the gradients, so N processes do what one would do with the
whole batch. Objectives reduce their own batch statistics (`nn.distributed`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from steersman.core.errors import ConfigError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes the run and talks to people."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """This process's windows of a batch of `batch`."""
        if batch % self.size:
            raise ConfigError(
                f"a batch_size divisible by {self.size} processes", f"{batch}", "change batch_size or the number"
            )
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def averaging(self, module: nn.Module) -> nn.Module:
        """`module`, whose backward pass leaves every parameter's gradient averaged over processes. Parameters that a
        step leaves out rest; buffers are each process's own (`nn.BatchNorm` keeps them alike)."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=True)

    def mean(self, numbers: Tensor) -> None:
        """Mean over processes of numbers for people to read, in place."""
        if self.size > 1:
            dist.all_reduce(numbers)
            numbers /= self.size

    def gather(self, x: Tensor) -> Tensor:
        """(B / size, …) of each process -> (B, …), in the order of `part`."""
        if self.size == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    def same(self, tensors: list[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        if self.size > 1:
            for x in tensors:
                dist.broadcast(x.detach(), 0)

    def lead(self, number: int, device: torch.device) -> int:
        """The first process's number."""
        answer = torch.tensor([number], device=device)
        self.same([answer])
        return int(answer)


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did; leave them at the end."""
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
