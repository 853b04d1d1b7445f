"""The graph that search grows, values and follows, and what its three parts share.

Shapes: B problems, N nodes, F nodes expanded at a time, R rays, H steps of a ray, D state, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.actor.graph.search.settings import Settings
from steersman.core import TensorRecord

FAR = 1e6


@dataclass(frozen=True)
class Graph(TensorRecord):
    """What was imagined from B starts; handed on from decision to decision in `Plan.warm`.

    nodes     (B, N, D) states, node 0 the start; rows from `count` on are padding
    count     (B,)
    step      (B,) length of one full step in latent space
    near      (B, N, R, 3) nodes that lie nearest to the end of each ray, and their weights `share`
    via       (B, N, R, H, D) the states along each ray
    goal      (B, D) the state that `value` leads to
    value     (B, N) steps from each node to the goal
    last      (B, D) state at the decision before, and `pushed` (B, A) what was done there
    aside     (B,) decisions left in which to step aside
    kept      (B,) rays that met every guardrail; `vetoed` (B, guardrails) rays that each refused
    calls     (B,) predictor calls spent on growing it
    age       (B,) decisions since it was grown, and `tries`, how often it was
    fan       (B, R, A) the constant actions that it was grown with
    outside   (B,) bool: no node touches the goal; the value leads to the nearest
    record    (B,) least value met since it was grown, and `stuck`, decisions since
    """

    nodes: Tensor
    count: Tensor
    step: Tensor
    near: Tensor
    share: Tensor
    via: Tensor
    goal: Tensor
    value: Tensor
    last: Tensor
    pushed: Tensor
    aside: Tensor
    kept: Tensor
    vetoed: Tensor
    calls: Tensor
    age: Tensor
    tries: Tensor
    fan: Tensor
    outside: Tensor
    record: Tensor
    stuck: Tensor


def nearest(
    config: Settings, nodes: Tensor, count: Tensor, points: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """The 3 nodes nearest to points (B, P, D) and their weights, 0 beyond two step lengths: (B, P, 3) each."""
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


def put(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    out = old.clone()
    out[rows] = new
    return out
