"""Logs of many layouts: what stays still within an episode says where one can be, and a graph is made for any of them.

A layout is what no step changes and what differs between episodes: a map. Shapes: F logged states, N nodes, D latent
size, P entries of a place, L of them still, M the others, Q pairs of those, G cells a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from steersman.core import DataError, Readout
from steersman.core.way_graph import Known
from steersman.memory.graphs.known import known_from
from steersman.memory.graphs.places import read_places
from steersman.nn import fit, mlp

_WAVES, _COARSE = 6, 3  # octaves of columns that move, and of those that do not
_HIDDEN, _STEPS, _BATCH, _RATE, _DECAY = (64, 64), 3000, 512, 5e-3, 1e-2
_ASIDE = 0.2  # of the range: the farthest shift
_HELD_OUT, _MISSED = 0.1, 0.03
_OTHERS = 4  # values of the other columns that a cell is asked with
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Layouts:
    """What a log of many layouts tells of where one can be in any of them.

    latents   episodes' latents, each (T+1, D); still (D,) bool: which entries are the layout
    columns   (P,) bool: the same of the columns that are read
    values    (F, P) columns of all states
    network   columns in shares of their range, -1 to 1 -> log-odds of "made up"
    low, span (P,) range of each column
    limit     log-odds that 97% of held-out logged states keep
    """

    latents: Sequence[Tensor]
    still: Tensor
    columns: Tensor
    values: Tensor
    network: nn.Module
    low: Tensor
    span: Tensor
    limit: float

    def moved_to(self, layout: Tensor) -> list[Tensor]:
        """The logged latents as if they had been logged in the layout of a state (D,)."""
        return [torch.where(self.still, layout, latent) for latent in self.latents]

    @torch.no_grad()
    def known(self, layout: Tensor, unit: Tensor) -> Known:
        """Where one can be in the layout of these columns (P,): cells of each pair that the log covers in some layout,
        and that the network does not call made up. unit (P,): of places."""
        moving = ~self.columns
        every = known_from((self.values / unit)[:, moving])
        index = moving.nonzero()[:, 0]
        wide = every.seen.shape[1]
        generator, seen = torch.Generator().manual_seed(0), every.seen.clone()
        for number, (pair, side) in enumerate(zip(every.pairs, every.sides.tolist(), strict=True)):  # over pairs
            cells = every.seen[number].nonzero()
            place = every.low[pair] + (cells - 1.5) / side * every.span
            others = torch.randint(len(self.values), (len(cells), _OTHERS), generator=generator)
            asked = self.values[others]
            asked[..., self.columns] = layout[self.columns]
            asked[..., index[pair]] = (place * unit[index[pair]])[:, None]
            odds = torch.cat([self.odds(part).amin(1) for part in asked.split(_AT_ONCE)])
            refused = cells[odds > self.limit]
            seen[number].view(-1)[refused[:, 0] * wide + refused[:, 1]] = False
        return replace(every, pairs=index[every.pairs], low=self.low.new_zeros(len(unit)).index_put(
            (index,), every.low), seen=seen)

    def odds(self, values: Tensor) -> Tensor:
        """Columns (…, P) -> (…) log-odds of "made up"."""
        found: Tensor = self.network(2 * (values - self.low) / self.span - 1)
        return found


class _Apart(nn.Module):
    """Log-odds as a sum over the layout's columns l of f_l(columns that move, column l): with all of them at once it
    would learn by heart where each layout's few episodes went."""

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.moving, self.still = (~columns).nonzero()[:, 0], columns.nonzero()[:, 0]
        width = len(self.moving) * (2 * _WAVES + 1) + 2 * _COARSE + 1
        self.each = nn.ModuleList(mlp([width, *_HIDDEN, 1]) for _ in self.still)

    def forward(self, share: Tensor) -> Tensor:
        """Shares of the range (…, P) -> (…)."""
        moves, total = _features(share[..., self.moving], _WAVES), share.new_zeros(share.shape[:-1])
        for column, network in zip(self.still.tolist(), self.each, strict=True):
            given = _features(share[..., column, None], _COARSE)
            total = total + network(torch.cat([moves, given], -1))[..., 0]
        return total


def learn_layouts(latents: Sequence[Tensor], readout: Readout | None = None, seed: int = 0) -> Layouts:
    """Tell logged states from made-up ones: a logged state of the same layout, its moving columns shifted by up to 0.2
    of their range. Walls are where no log of this layout was although it was near.

    latents  episodes, each (T+1, D); readout: of columns, None: latents

    The optimum of the logistic loss is  log (p * q)(moving | layout) - log p(moving | layout), with p smeared by the
    shifts q (Gutmann & Hyvärinen 2010). Of values drawn from anywhere it would learn by heart where each layout's few
    episodes went: what was seen of a new layout was then called made up.

    Raises:
        DataError: nothing that stays still within episodes differs between them, or everything does.
    """
    frames = torch.cat(list(latents))
    values = read_places(frames[None], readout)[0]
    lengths = [len(x) for x in latents]
    still, columns = _still(frames, lengths), _still(values, lengths)
    if not bool(still.any()) or bool(columns.all()) or not bool(columns.any()):
        raise DataError("columns that stay still within every episode and differ between episodes, beside others that "
                        "move", f"{int(columns.sum())} of {len(columns)}", "log other layouts and their map, too")
    low = values.amin(0)
    span = (values.amax(0) - low).clamp_min(1e-9)
    network, generator = _Apart(columns), torch.Generator().manual_seed(seed)
    earlier, moving = int(len(values) * (1 - _HELD_OUT)), (~columns).nonzero()[:, 0]

    def loss() -> Tensor:
        real = values[torch.randint(earlier, (_BATCH,), generator=generator)]
        made = real.clone()
        aside = 2 * torch.rand(_BATCH, len(moving), generator=generator) - 1
        made[:, moving] += _ASIDE * torch.rand(_BATCH, 1, generator=generator) * aside * span[moving]
        inside, elsewhere = network(2 * (torch.cat([real, made]) - low) / span - 1).chunk(2)
        return nn.functional.softplus(inside).mean() + nn.functional.softplus(-elsewhere).mean()

    with torch.enable_grad():
        fit(network, loss, generator, steps=_STEPS, lr=_RATE, decay=_DECAY)
    network.requires_grad_(False).eval()
    found = Layouts(latents, still, columns, values, network, low, span, 0.0)
    return replace(found, limit=float(found.odds(values[earlier:]).quantile(1 - _MISSED)))


def _still(values: Tensor, lengths: list[int]) -> Tensor:
    """(P,) bool: entries that are the same within every episode and not the same in all."""
    pieces = values.split(lengths)
    spread = values.amax(0) - values.amin(0)
    within = torch.stack([piece.amax(0) - piece.amin(0) for piece in pieces]).amax(0)
    return (within <= 1e-4 * spread) & (spread > 1e-9)


def _features(share: Tensor, waves: int) -> Tensor:
    """(…, C) -> (…, C (2 waves + 1)): themselves, their sines and cosines."""
    angle = torch.pi * share[..., None] * 2.0 ** torch.arange(waves)
    return torch.cat([share, angle.sin().flatten(-2), angle.cos().flatten(-2)], -1)
