"""How far ahead do levels of abstraction foresee what is true? Decoded factors beside no change and the mean.

Knows hierarchies, no film. Shapes: B films, T rows, N moments, H horizons, F columns of the truth, D_k size of level k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import DataError, Observation, Readout, ReadoutConfig
from steersman.perception.readout import ColumnReadout
from steersman.world_model.hierarchy import Hierarchy

_FILMS = 16  # that are encoded at a time
_ROWS = 8192  # that a read-out is fitted to


@dataclass(frozen=True)
class Foresight:
    """How well one factor is foreseen by horizon. Errors are mean squares of the decoded factor.

    horizons  rows ahead
    error     (H,) of what is foreseen; change: of no change; spread: of the mean
    now       of what is read off the moment at hand: no better can be asked of what is foreseen
    """

    horizons: tuple[int, ...]
    error: Tensor
    change: Tensor
    spread: Tensor
    now: float

    @property
    def skill(self) -> Tensor:
        """(H,): over persistence, 1 - error / change (Murphy 1988). Foreseeing the mean alone earns up to 1/2 of it."""
        return 1 - self.error / self.change

    @property
    def skill_over_best(self) -> Tensor:
        """(H,): over the better of persistence and the mean, 1 - error / min(change, spread)."""
        return 1 - self.error / torch.minimum(self.change, self.spread)

    def reach(self, least: float = 0.2) -> int:
        """The farthest horizon at which `skill_over_best` is at least `least`; 0: there is none."""
        found = [h for h, skill in zip(self.horizons, self.skill_over_best.tolist(), strict=True) if skill >= least]
        return max(found, default=0)


@torch.no_grad()
def encode_films(hierarchy: Hierarchy, films: Observation) -> tuple[Tensor, ...]:
    """`Hierarchy.encode`, a few films at a time: for each level, (B, T - before_k, D_k)."""
    count = len(next(iter(films.values())))
    pieces = [hierarchy.encode({name: x[i : i + _FILMS] for name, x in films.items()}) for i in range(0, count, _FILMS)]
    return tuple(torch.cat(level) for level in zip(*pieces, strict=True))


def fit_levels(
    hierarchy: Hierarchy, films: Observation, truth: Tensor, columns: tuple[str, ...], config: ReadoutConfig,
    seed: int = 0,
) -> tuple[Readout, ...]:
    """A read-out of the true columns for each level, fitted on what it encodes of films (B, T, …) with their truth
    (B, T, F). Nothing that was learned changes."""
    found = []
    for states, before in zip(encode_films(hierarchy, films), hierarchy.before, strict=True):
        x, y = states.flatten(0, 1), truth[:, before:].flatten(0, 1)
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_ROWS]
        readout = config.build(columns, (states.shape[2],))
        assert isinstance(readout, ColumnReadout)
        readout.fit(x[rows], y[rows], seed=seed)
        found.append(readout.eval().requires_grad_(False))
    return tuple(found)


@torch.no_grad()
def foresight(
    hierarchy: Hierarchy, readouts: Sequence[Readout], films: Observation, truth: Tensor,
    factors: Mapping[str, Sequence[str]], starts: Sequence[int], horizons: Sequence[int], mean: Tensor | None = None,
) -> dict[tuple[int, str], Foresight]:
    """(level, factor) -> how well it is foreseen from rows `starts` of films (B, T, …) with truth (B, T, F), at those
    of `horizons` that are whole steps of the level.

    Every level is held against the same persistence, that of the truth itself, at the same moments; what it foresees
    is its own world model's rollout, decoded by its own read-out.

    factors   name -> columns of the read-outs; the error of a factor is the sum over its columns
    mean      (F,): of the truth, for the reference; None: of these films

    Raises:
        DataError: starts or horizons that leave the films, or begin before the highest level sees anything.
    """
    if min(starts) < hierarchy.before[-1] or max(starts) + max(horizons) >= truth.shape[1]:
        raise DataError(
            f"starts from row {hierarchy.before[-1]} on, and horizons that end by row {truth.shape[1] - 1}",
            f"starts {min(starts)} to {max(starts)}, horizons up to {max(horizons)}",
            "film for longer, or ask for less")
    begin, names = torch.as_tensor(starts), list(readouts[0].columns)
    middle = truth.flatten(0, 1).mean(0) if mean is None else mean
    found = {}
    for number, states in enumerate(encode_films(hierarchy, films), 1):
        level, readout = hierarchy.level(number), readouts[number - 1]
        whole = tuple(h for h in horizons if h % level.every == 0)
        if not whole:
            continue
        at = states[:, begin - hierarchy.before[number - 1]].flatten(0, 1)[:, None]
        imagined = level.foresee(at, max(whole) // level.every)[:, 0]
        steps = torch.as_tensor(whole) // level.every
        told = readout.read(imagined[:, steps])
        seen = torch.stack([truth[:, begin + h] for h in whole], 2).flatten(0, 1)
        now, read = truth[:, begin].flatten(0, 1), readout.read(at[:, 0])
        for name, columns in factors.items():
            where = [names.index(column) for column in columns]

            def off(a: Tensor, b: Tensor, where: list[int] = where) -> Tensor:
                return (a - b)[..., where].square().sum(-1).mean(0)

            found[number, name] = Foresight(
                whole, off(told, seen), off(now[:, None], seen), off(middle.expand_as(seen), seen),
                float(off(read, now)))
    return found
