"""Names that somebody got wrong, answered by those that there are, the nearest first. Knows no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from steersman.core.errors import UsageError


def by_nearness(name: str, known: Iterable[str]) -> list[str]:
    """The known names, those most like `name` first: by the share of letters in common, then of those at the beginning.

    >>> by_nearness("gaol", ["comfort", "goal", "risk"])
    ['goal', 'comfort', 'risk']
    """
    names = sorted(known)
    likeness = {other: difflib.SequenceMatcher(None, name, other).ratio() for other in names}
    near = sorted((other for other in names if likeness[other] >= 0.5),
                  key=lambda other: (-likeness[other], -_alike(name, other)))
    return [*near, *(other for other in names if other not in near)]


def _alike(a: str, b: str) -> int:
    """Letters at the beginning that are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def require_known(name: str, known: Iterable[str], what: str, fix: str) -> str:
    """The name, if it is known.

    what  of what it is the name, in words: "a cost term"; fix: what to do beside correcting it

    Raises:
        UsageError: it is not; says which names there are.
    """
    names = by_nearness(name, known)
    if name in names:
        return name
    listed = f" of {', '.join(names)}" if names else ""
    raise UsageError(f"{what}{listed}", f"{name!r}" + ("" if names else ", and there is none"), fix)
