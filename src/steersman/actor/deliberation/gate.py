"""A gate of deliberation: signals of B problems -> the share of a planner's calls that each of them is worth.

Knows numbers only. Shapes: B problems, n moments that were practised, Q quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import msgspec
import torch
from torch import Tensor

from steersman.core import ConfigError, MismatchError

QUANTILES = 64
_LEAST_MOMENTS = 20


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """share = u^p, from none (u = 0) to all (u = 1), for every wanted mean share by another p.

        u = F(Σ_i w_i r_i / Σ_i w_i),   r_i = F_i(signal i)

    r_i is a signal's rank among the moments that were practised: the share of them that were calmer (of a signal that
    says nothing: 0). F is the rank of their weighted mean, so that u is uniform over practice but for ties. p then
    follows from the share alone, whatever the units of the signals: over practice the mean of max(u^p, h) is the wanted
    share, h what habit costs by itself. A share of 1 gives everything to everyone, one of h or less nothing to anyone.

    signals  name -> quantiles of its values in practice, equally spaced in rank
    worth    name -> w_i; 1 where it is not named
    urgency  quantiles of Σ w r / Σ w in practice. Without them every problem is given the wanted share itself: a fixed
             budget, whatever the signals say
    calls    predictor calls of a decision of the planner that is all of its budget
    vetoed   least share where a guardrail refuses habit's way; 0: the declared fallback acts instead

    Raises:
        ConfigError: quantiles that fall, weights that are not positive, a share outside [0, 1], no calls.
    """

    calls: int
    signals: dict[str, tuple[float, ...]] = {}
    worth: dict[str, float] = {}
    urgency: tuple[float, ...] = ()
    vetoed: float = 1.0

    def __post_init__(self) -> None:
        require_share(self.vetoed, "the least share of what is vetoed")
        tables = [*self.signals.values(), *([self.urgency] if self.urgency else [])]
        rising = all(len(t) >= 2 and all(a <= b for a, b in pairwise(t)) for t in tables)
        weighed = set(self.worth) <= set(self.signals) and all(
            math.isfinite(w) and w > 0 for w in self.worth.values())
        if self.calls < 1 or not rising or not weighed or (self.urgency and not self.signals):
            raise ConfigError("calls >= 1, quantiles that rise, at least two of each, and positive weights of signals",
                              f"{self}", "calibrate the gate: evaluation.calibrate_gate")

    def urgencies(self, values: Mapping[str, Tensor]) -> Tensor:
        """u (B,) float64 of signals name -> (B,).

        Raises:
            MismatchError: a signal of the gate is missing.
        """
        missing = sorted(set(self.signals) - set(values))
        if missing:
            raise MismatchError(f"the signals {', '.join(self.signals)}", f"none called {', '.join(missing)}",
                                "read them, or calibrate the gate without them")
        return rank(torch.tensor(self.urgency, dtype=torch.float64), mean_rank(self.signals, self.worth, values))

    def rank_of(self, name: str, values: Tensor) -> Tensor:
        """Ranks (B,) of one signal among practice."""
        return rank(torch.tensor(self.signals[name], dtype=torch.float64), values.double())

    def shares(self, values: Mapping[str, Tensor], count: int, wanted: float, habit: int) -> Tensor:
        """(B,) float64 within [habit / calls, 1]: shares of `calls`, whose mean over practice is `wanted`.

        habit  predictor calls that are spent whatever the share
        """
        require_share(wanted, "a mean share of the planner's calls")
        least = min(1.0, habit / self.calls)
        if not self.urgency or wanted >= 1 or wanted <= least:
            return torch.full((count,), max(wanted, least), dtype=torch.float64)
        table = torch.tensor(self.urgency, dtype=torch.float64)
        return (self.urgencies(values) ** power(wanted, least, rank(table, table))).clamp_min(least)


def require_share(share: float, what: str) -> float:
    """
    Raises:
        ConfigError: it does not lie within [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"{what} within [0, 1]", f"{share}", "0 acts by habit alone, 1 plans with the full budget")
    return share


def power(wanted: float, least: float, practised: Tensor) -> float:
    """p such that the mean of max(u^p, least) over practised u (n,) is `wanted`; least < wanted < 1.

    >>> round(power(0.25, 0.0, torch.linspace(0, 1, 1001, dtype=torch.float64)), 2)
    3.0
    """
    low, high = 0.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        above = float((practised**middle).clamp_min(least).mean()) > wanted
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2


def rank(table: Tensor, values: Tensor) -> Tensor:
    """Of values (B,) among equally spaced quantiles (Q,): the share of them that is lower, within [0, 1]; -inf is 0,
    what is not a number 1."""
    at = torch.searchsorted(table, values).clamp(1, len(table) - 1)
    below, above = table[at - 1], table[at]
    found = (at - 1 + ((values - below) / (above - below).clamp_min(1e-300)).clamp(0, 1)) / (len(table) - 1)
    return torch.where(values == -torch.inf, 0.0, found.nan_to_num(nan=1.0).clamp(0, 1))


def mean_rank(
    tables: Mapping[str, tuple[float, ...]], worth: Mapping[str, float], values: Mapping[str, Tensor]
) -> Tensor:
    """Σ w r / Σ w, (B,)."""
    weights = {name: worth.get(name, 1.0) for name in tables}
    ranks = {name: rank(torch.tensor(table, dtype=torch.float64), values[name].double())
             for name, table in tables.items()}
    return torch.stack([weights[name] * r for name, r in ranks.items()]).sum(0) / sum(weights.values())


def gate_of(
    values: Mapping[str, Tensor], calls: int, *, worth: Mapping[str, float] | None = None, vetoed: float = 1.0
) -> Gate:
    """A gate for signals name -> (n,) as they were in practice; -inf where one said nothing.

    Raises:
        ConfigError: fewer than 20 moments.
    """
    count = min((len(x) for x in values.values()), default=_LEAST_MOMENTS)
    if count < _LEAST_MOMENTS:
        raise ConfigError(f"at least {_LEAST_MOMENTS} practised moments", f"{count}", "practise for longer")
    tables = {name: _quantiles(x) for name, x in values.items()}
    weights = dict(worth or {})
    urgency = _quantiles(mean_rank(tables, weights, values)) if tables else ()
    return Gate(calls=calls, signals=tables, worth=weights, urgency=urgency, vetoed=vetoed)


def _quantiles(values: Tensor) -> tuple[float, ...]:
    """Of finite values; an infinite one above counts as the largest of these."""
    known = values.double()[values > -torch.inf].nan_to_num(nan=torch.inf)
    finite = known[known.isfinite()]
    top = float(finite.max()) if len(finite) else 0.0
    known = known.clamp(max=top) if len(known) else torch.zeros(2, dtype=torch.float64)
    return tuple(known.quantile(torch.linspace(0, 1, QUANTILES + 1, dtype=torch.float64)).tolist())
