"""Nearest places of many, and few that cover many; beyond some tens of millions of pairs block by block.

Shapes: Q points, F and N places, M blocks, P entries of a place.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DENSE = 2**26  # pairs up to which all are looked at
_WHOLE = 4096  # places of which the nearest few are found in one round
_SPREAD = 4e8  # pairs up to which places are spread in one block
_BLOCK = 2048  # points that are looked at together
_BITS = 10  # of a place's code, for each of at most four entries


def nearest(points: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (Q,) and index (Q,) of the nearest of places (N, P) to points (Q, P)."""
    half = places.square().sum(1) / 2
    apart, index = [], []
    for part in points.split(512):  # pieces that stay in cache
        score = torch.addmm(half[None], part, places.T, alpha=-1.0)
        node = score.argmin(1)
        apart.append((part - places[node]).norm(dim=1))
        index.append(node)
    return torch.cat(apart), torch.cat(index)


def nearest_few(points: Tensor, places: Tensor, count: int) -> Tensor:
    """Indices (Q, count) of the nearest of places (N, P), in no order. Of many in two rounds: they lie in the
    `count` groups of about √N places whose nearest are nearest."""
    n = len(places)
    width = max(count, round(n**0.5))
    groups = -(-n // width)
    half, spare = places.square().sum(1) / 2, groups * width - n
    if groups <= count or n < _WHOLE:
        score = torch.addmm(half[None], points, places.T, alpha=-1.0)
        return score.topk(count, dim=1, largest=False, sorted=False).indices
    half = torch.cat([half, half.new_full((spare,), torch.inf)])
    places = torch.cat([places, places[:1].expand(spare, -1)])
    score = torch.addmm(half[None], points, places.T, alpha=-1.0).view(len(points), groups, width)
    group = score.amin(2).topk(count, dim=1, largest=False, sorted=False).indices
    within = score.gather(1, group[:, :, None].expand(-1, -1, width)).flatten(1)
    found = within.topk(count, dim=1, largest=False, sorted=False).indices
    return group.gather(1, found // width) * width + found % width


def nearest_within(points: Tensor, places: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The same where it lies within `radius`; distance infinite, index 0 elsewhere.

    Many points are taken in the order of a space-filling curve, so that a block of them is small; only places in its
    box, `radius` wider, are looked at.
    """
    if len(points) * len(places) <= _DENSE:
        apart, index = nearest(points, places)
        return apart.masked_fill(apart > radius, torch.inf), index
    apart, index = points.new_full((len(points),), torch.inf), torch.zeros(len(points), dtype=torch.int64)
    sane = torch.isfinite(points).all(1).nonzero()[:, 0]
    for order in along_curve(points[sane]).split(_BLOCK) if len(sane) else ():
        rows = sane[order]
        part = points[rows]
        near = ((places >= part.amin(0) - radius) & (places <= part.amax(0) + radius)).all(1).nonzero()[:, 0]
        if len(near):
            distance, which = nearest(part, places[near])
            apart[rows] = distance.masked_fill(distance > radius, torch.inf)
            index[rows] = near[which]
    return apart, index


def along_curve(places: Tensor) -> Tensor:
    """Order (F,) of places (F, P) along a Z-curve over the four entries of the widest range (Morton 1966)."""
    low, span = places.amin(0), places.amax(0) - places.amin(0)
    widest = span.argsort(descending=True)[:4]
    cell = ((places[:, widest] - low[widest]) / span.max().clamp_min(1e-9) * (2**_BITS - 1)).long()
    code = torch.zeros(len(places), dtype=torch.int64)
    for bit in range(_BITS):
        for axis in range(len(widest)):
            code |= (cell[:, axis] >> bit & 1) << (bit * len(widest) + axis)
    return code.argsort()


def spread_out(places: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (N,) of places (F, P), each the farthest from those before (Gonzalez 1985); of every place the nearest of
    them, home (F,); and the distance of the farthest place from all of them, ().

    Where that were more than 4e8 pairs, places are cut into blocks along a space-filling curve, and each block is
    covered by as many.
    """
    blocks = max(1, -(-min(limit, len(places)) * len(places) // int(_SPREAD)))
    if blocks == 1:
        return _farthest_first(places, limit)
    chosen = torch.cat([rows[_farthest_first(places[rows], -(-limit // blocks))[0]]
                        for rows in along_curve(places).chunk(blocks)])[:limit]
    radius = float(nearest(places[:: max(1, len(places) // 512)], places[chosen])[0].max().clamp_min(1e-6))
    while True:  # a sample tells less than all; wider until every place has a home
        apart, home = nearest_within(places, places[chosen], radius)
        if bool(apart.isfinite().all()):
            return chosen, home, apart.max()
        radius *= 1.5


def _farthest_first(places: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    chosen = torch.zeros(min(limit, len(places)), dtype=torch.int64)
    apart = (places - places[0]).square().sum(1)
    home = torch.zeros(len(places), dtype=torch.int64)
    columns = places.T.contiguous()
    far, farthest = apart.max(0)
    count = 1
    while count < len(chosen) and float(far) > 0:  # over nodes, each against all frames at once
        chosen[count] = farthest
        new = (columns - columns[:, farthest, None]).square_().sum(0)
        home.masked_fill_(new < apart, count)
        torch.minimum(apart, new, out=apart)
        far, farthest = apart.max(0)
        count += 1
    return chosen[:count], home, far.clamp_min(0).sqrt()
