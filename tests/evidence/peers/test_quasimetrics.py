"""Quasimetrics: the interval union against intervals merged by hand, and the laws that a quasimetric obeys."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ConfigError
from steersman.evidence.peers.quasimetrics import Kind, Quasimetric, interval_union


def merged(intervals: list[tuple[float, float]]) -> float:
    """Length of the union, by walking through sorted intervals."""
    length, end = 0.0, -float("inf")
    for low, high in sorted(intervals):
        length += max(0.0, high - max(low, end))
        end = max(end, high)
    return length


def test_the_union_of_intervals_is_what_merging_them_gives() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 50, 3, 5)
    found = interval_union(x, y)
    for b in range(50):
        for k in range(3):
            by_hand = merged([(a, max(a, c)) for a, c in zip(x[b, k].tolist(), y[b, k].tolist(), strict=True)])
            assert float(found[b, k]) == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("kind", ["iqe", "mrn"])
def test_the_laws_of_a_quasimetric_hold(kind: Kind) -> None:
    torch.manual_seed(1)
    distance = Quasimetric(kind, 24, 6)
    x, y, z = torch.randn(3, 400, 24)
    distance.requires_grad_(False)
    there, back = distance(x, y), distance(y, x)
    assert float(distance(x, x).abs().max()) < 1e-3
    assert float(there.min()) >= 0
    assert bool((distance(x, z) <= there + distance(y, z) + 1e-4).all())
    assert float((there - back).abs().mean()) > 0.05                                        # not the same as back


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="components divide"):
        Quasimetric("iqe", 10, 4)
