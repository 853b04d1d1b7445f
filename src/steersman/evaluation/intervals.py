"""Intervals for shares and means; nothing else."""

from __future__ import annotations

import math


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a share, 95% by default (Wilson 1927).

    >>> low, high = wilson(98, 100); round(low, 3), round(high, 3)
    (0.93, 0.994)
    """
    if n == 0:
        return 0.0, 1.0
    p, square = successes / n, z * z
    centre = (p + square / (2 * n)) / (1 + square / n)
    half = z * math.sqrt(p * (1 - p) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def zero_of(n: int, level: float = 0.95) -> float:
    """Largest rate that 0 events in n independent trials leave standing: 1 - (1 - level)^(1/n), about 3 / n.

    >>> round(zero_of(200), 4)
    0.0149
    """
    return 1 - (1 - level) ** (1 / n) if n else 1.0
