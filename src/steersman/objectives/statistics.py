"""Batch statistics over every process of a distributed run, in float32, with gradients.

Two processes with B windows each give what one process with 2B gives. Knows no objective.

Shapes: n samples, D latent size; leading dimensions are separate populations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steersman.nn.distributed import all_sum, processes


def full_precision(x: Tensor) -> Any:
    """Context in which autocast is off on the device of `x`: statistics in bf16 would be noise."""
    return torch.autocast(x.device.type, enabled=False)


def mean(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Scalar mean of `x`, weighted if asked: Σ w·x / Σ w over every process.

    weight has the shape of `x` or broadcasts to it. If all weights are 0 the mean is 0, with zero gradients.
    """
    x = x.float()
    if weight is None and processes() == 1:
        return x.mean()
    weight = x.new_ones(()) if weight is None else weight.float()
    weight = weight.expand_as(x)
    sums = all_sum(torch.stack([(weight * x).sum(), weight.sum()]))
    return sums[0] / torch.where(sums[1] > 0, sums[1], 1.0)


def centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """(…, n, D) -> `x` minus its mean over the samples of every process, and their number as a scalar."""
    count = all_sum(x.new_tensor(float(x.shape[-2])))
    return x - all_sum(x.sum(-2, keepdim=True)) / count, count


def covariance(x: Tensor) -> Tensor:
    """(…, n, D) -> (…, D, D), unbiased: Σ (x - x̄)(x - x̄)ᵀ / (n - 1); zero for a single sample."""
    with full_precision(x):
        deviation, count = centred(x.float())
        return all_sum(deviation.mT @ deviation) / (count - 1).clamp(min=1)


def variance_within(x: Tensor) -> Tensor:
    """(B, T, …) -> (…): pooled variance around each sequence's own mean: Σ_b Σ_t (x - x̄_b)² / (B·(T - 1))."""
    x = x.float()
    deviation = x - x.mean(1, keepdim=True)
    count = all_sum(x.new_tensor(float(x.shape[0] * max(x.shape[1] - 1, 1))))
    return all_sum(deviation.square().sum((0, 1))) / count
