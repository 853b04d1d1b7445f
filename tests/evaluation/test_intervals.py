import math

import pytest

from steersman.evaluation.intervals import wilson, zero_of


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),  # Newcombe 1998, table I, method 3; and the ends
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_newcombes_table(wins, n, low, high):
    assert wilson(wins, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_is_symmetric_and_stays_within_0_and_1():
    for n in (1, 7, 100):
        for wins in range(n + 1):
            low, high = wilson(wins, n)
            mirrored = wilson(n - wins, n)
            assert 0 <= low <= wins / n <= high <= 1
            assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))
    assert wilson(0, 0) == (0.0, 1.0)


def test_zero_of_n_leaves_a_rate_that_would_have_shown_with_95_percent():
    for n in (1, 20, 200):
        assert (1 - zero_of(n)) ** n == pytest.approx(0.05)
    assert zero_of(1000) == pytest.approx(3 / 1000, rel=0.01)
    assert zero_of(0) == 1.0
    assert zero_of(10, level=0.5) == pytest.approx(1 - math.sqrt(0.5) ** 0.2)
