"""Training in several processes (torchrun): who this one is, and the one reduction that a step needs.

Each process takes its part of every batch; gradients are averaged, so N processes do what one would do with the
whole batch. Objectives reduce their own batch statistics (`nn.distributed`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

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

    def average(self, tensors: list[Tensor]) -> None:
        """Mean over processes, in place, in one reduction."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([x.detach().float().reshape(-1) for x in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for x, new in zip(tensors, torch.split(flat, [x.numel() for x in tensors]), strict=True):
            x.copy_(new.view_as(x))

    def gather(self, x: Tensor) -> Tensor:
        """(B / size,) of each process -> (B,), in the order of `part`."""
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
