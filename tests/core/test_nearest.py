"""Names that somebody got wrong are answered by those that there are, the nearest first."""

from __future__ import annotations

import pytest

from steersman.core import UsageError
from steersman.core.nearest import by_nearness, require_known


def test_the_nearest_comes_first_and_nothing_is_left_out():
    assert by_nearness("gaol", ["comfort", "goal", "risk"]) == ["goal", "comfort", "risk"]
    assert by_nearness("cosine", ["sin", "cos", "speed"]) == ["cos", "sin", "speed"]  # as alike, but for the beginning
    assert by_nearness("x", []) == []


def test_a_known_name_passes_and_an_unknown_one_is_told_what_there_is():
    assert require_known("goal", {"goal"}, "a term", "correct it") == "goal"
    with pytest.raises(UsageError, match="expected a term of goal, risk; got 'gaol'; correct it"):
        require_known("gaol", {"risk", "goal"}, "a term", "correct it")
    with pytest.raises(UsageError, match="expected a term; got 'gaol', and there is none; correct it"):
        require_known("gaol", (), "a term", "correct it")
