"""The graph that search grows, values and follows, and what its three parts share.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, P place of a state (`space.Space`),
C goal space, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor.graph.search.settings import Settings
from steersman.core import TensorRecord

FAR = 1e6


@dataclass(frozen=True, kw_only=True)
class Graph(TensorRecord):
    """What was imagined from B starts; handed on from decision to decision in `Plan.warm`."""

    nodes: Tensor  # (B, N, P) places, node 0 the start; rows from `count` on are padding
    count: Tensor  # (B,)
    step: Tensor  # (B,) length of one full step between places
    near: Tensor  # (B, N, R, 3) nodes that lie nearest to the end of each ray
    share: Tensor  # (B, N, R, 3) their weights; 0 for rays that are closed
    via: Tensor  # (B, N, R, H, P) the places along each ray
    length: Tensor  # (B, N, R) what each ray costs, in steps: H, and what other terms weigh
    fan: Tensor  # (B, R, A) the constant actions that it was grown with
    calls: Tensor  # (B,) predictor calls spent on growing it
    goal: Tensor  # (B, C) the goal that `value` leads to, in its own space (`aim.Aim`)
    unit: Tensor  # (B,) length of one full step in that space
    value: Tensor  # (B, N) steps from each node to the goal
    outside: Tensor  # (B,) bool: no node touches the goal; the value leads to the nearest
    last: Tensor  # (B, P) where it was at the decision before
    pushed: Tensor  # (B, A) what was done there
    acted: Tensor  # (B,) bool: it was to move something
    aside: Tensor  # (B,) decisions left in which to step aside
    age: Tensor  # (B,) decisions since it was grown
    tries: Tensor  # (B,) how often it was grown
    record: Tensor  # (B,) least value met since it was grown
    stuck: Tensor  # (B,) decisions since that record


def nearest(
    config: Settings, nodes: Tensor, count: Tensor, points: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """The 3 nodes nearest to points (B, K, P) and their weights, 0 beyond two step lengths: (B, K, 3) each."""
    padding = torch.arange(nodes.shape[1], device=nodes.device) >= count[:, None]
    square = (nodes**2).sum(-1).masked_fill(padding, FAR)
    distance = torch.baddbmm(square[:, None], points, nodes.transpose(1, 2), alpha=-2)  # less |points|²
    least, index = distance.topk(3, dim=2, largest=False, sorted=False)
    distance = (least + (points**2).sum(-1, keepdim=True)).clamp_min(0).sqrt()
    return index, (1 - distance / (config.reach * step[:, None, None])).clamp_min(0)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(B, P, D), (B, Q, D) -> (B, P, Q)."""
    square = torch.baddbmm((b**2).sum(-1)[:, None], a, b.transpose(1, 2), alpha=-2)
    return square.add_((a**2).sum(-1, keepdim=True)).clamp_min_(0).sqrt_()
