"""Planners that are their configuration: made without one, they have the default; a refusal names what is bad."""

from __future__ import annotations

import math

import pytest

from steersman.actor import (
    CEM,
    ICEM,
    MCTS,
    MPPI,
    AugmentedLagrangian,
    Beam,
    BreadthFirst,
    DynamicProgramming,
    Gradient,
    Greedy,
    Newton,
    PredictiveSampling,
    Search,
)
from steersman.core import ConfigError


@pytest.mark.parametrize("kind", [
    CEM, ICEM, MPPI, PredictiveSampling, Gradient, AugmentedLagrangian, Beam, DynamicProgramming, MCTS, Greedy, Newton,
    Search, BreadthFirst,
])
def test_a_planner_without_a_configuration_has_the_default(kind):
    assert kind().config == kind.Config() == kind.Config().build().config
    assert kind().execute == getattr(kind.Config(), "execute", 1)


@pytest.mark.parametrize(("kind", "values", "said"), [
    (CEM, {"spread": 0.0}, "spread > 0"), (CEM, {"momentum": 1.0, "floor": 2.0}, "0 <= momentum < 1, 0 <= floor <= 1"),
    (ICEM, {"decay": 0.9}, "decay >= 1"), (ICEM, {"beta": -1.0, "keep": 2.0}, "beta >= 0, 0 <= keep <= 1"),
    (MPPI, {"temperature": 0.0}, "temperature > 0"), (MPPI, {"control": -1.0}, "control >= 0"),
    (PredictiveSampling, {"decay": 0.0}, "0 < decay <= 1"), (Gradient, {"rate": math.nan}, "rate > 0"),
    (AugmentedLagrangian, {"most": 0.5}, "most >= rho"), (AugmentedLagrangian, {"fan": 2}, "fan >= 3"),
    (Newton, {"beta": -1.0}, "beta >= 0"),
])
def test_only_what_is_out_of_range_is_named(kind, values, said):
    with pytest.raises(ConfigError) as error:
        kind.Config(**values)
    assert error.value.expected == said
    assert next(iter(values)) in error.value.got
