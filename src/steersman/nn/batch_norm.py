"""Batch normalisation whose statistics cover every process of a distributed run, on any device.

Shapes: n samples, D features. Knows nothing of what is normalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.nn.distributed import all_sum, processes


class BatchNorm(nn.Module):
    """y = (x - x̄) / √(Var x + 1e-5) · weight + bias over the samples: (n, D) -> (n, D), n over every process.

    Var is biased (1/n) for normalising and unbiased in the running average (decay .9) that evaluation uses, as in
    `torch.nn.BatchNorm1d`, which it equals on one process (Ioffe & Szegedy 2015). Within `averaging`, the running
    statistics are the plain mean of those of all batches since it began.
    """

    mean: Tensor
    variance: Tensor
    averaged: int | None = None
    """Batches averaged so far; None: the running average decays."""

    def __init__(self, size: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        momentum = self.momentum
        if self.training and self.averaged is not None:
            self.averaged += 1
            momentum = 1 / self.averaged
        if not self.training or processes() == 1:
            statistics = self.mean, self.variance, self.weight, self.bias
            return F.batch_norm(x, *statistics, self.training, momentum, self.epsilon)
        wide = x.float()
        count = all_sum(wide.new_tensor(float(len(x))))
        mean = all_sum(wide.sum(0)) / count
        deviation = wide - mean
        variance = all_sum(deviation.square().sum(0)) / count
        with torch.no_grad():
            self.mean.lerp_(mean, momentum)
            self.variance.lerp_(variance * count / (count - 1).clamp(min=1), momentum)
        return (deviation * (torch.rsqrt(variance + self.epsilon) * self.weight) + self.bias).to(x.dtype)


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """Every batch normalisation inside a module."""
    return [part for part in module.modules() if isinstance(part, BatchNorm)]


@contextmanager
def averaging(module: nn.Module) -> Iterator[None]:
    """Estimate running statistics anew: what passes through `module` in training mode is averaged, batch by batch.

    The decaying average of training lags behind the weights; the mean over some batches on the final weights does not
    (Wu & Johnson 2021).
    """
    norms = batch_norms(module)
    for norm in norms:
        norm.averaged = 0
    try:
        yield
    finally:
        for norm in norms:
            norm.averaged = None
