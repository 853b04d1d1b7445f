"""A level: something that changes, the energy that it descends, what it may read, how often. No algorithm."""

from __future__ import annotations

import msgspec


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of the nest of energy minimisers.

    name     "world model", "planner", …
    what     what it updates: parameters, fast weights, actions, a latent variable
    energy   the energy that it descends
    context  what it may read
    period   data points between updates; 0 means several updates per data point, infinity means never
    """

    name: str
    what: str
    energy: str
    context: str
    period: float
