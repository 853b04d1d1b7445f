"""A level: something that changes, the energy that it descends, what it may read, how often. No algorithm."""

from __future__ import annotations

import msgspec


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of the nest of energy minimisers.

    name     "world model", "planner", …
    what     what it updates: parameters, fast weights, actions, a latent variable
    energy   the energy that it descends
    context  what it may read
    period   data points from one update to the next: below 1 for several updates a data point, 0 where an answer is
             computed anew whenever it is asked for, infinity for what never changes. A data point is one step of one
             episode; a single moment where there are no steps
    """

    name: str
    what: str
    energy: str
    context: str
    period: float
