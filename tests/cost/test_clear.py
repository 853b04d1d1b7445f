"""Clear: what two clearances and a length say of the way between, exactly for a disc and never too much for others."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import Imagined, PlanningError, Readout
from steersman.cost import Clear, Margins
from steersman.cost.clear import on_the_way


class Shown(Readout):
    """States are columns clearance, x, y."""

    columns = ("clearance", "x", "y")

    def read(self, states, context=None):
        return states


def ways(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = 3 * torch.randn(count, 2, generator=g, dtype=torch.float64)
    return a, a + torch.randn(count, 2, generator=g, dtype=torch.float64)


def along(a, b, n=1001):
    return a[:, None] + torch.linspace(0, 1, n, dtype=torch.float64)[:, None] * (b - a)[:, None]


def guard(places, clearance, **options):
    """g of ways (K, H+1, 2) with what their clearances are (K, H+1), each a candidate -> (K, H)."""
    states = torch.cat([clearance[..., None], places], -1)[None].float()
    return Clear(Shown(), "clearance", ("x", "y"), **options).margin(Imagined(states), torch.zeros(1))[0]


@pytest.mark.parametrize("radius", [0.0, 0.5, 0.9])
def test_it_is_exact_beside_one_disc(radius):
    a, b = ways(4000)
    least = along(a, b).norm(dim=-1).amin(1) - radius
    said = on_the_way(a.norm(dim=1) - radius, b.norm(dim=1) - radius, (b - a).norm(dim=1), radius)
    assert float((said - least).abs().max()) < 2e-3  # the truth is sampled
    assert float((said - least).max()) < 1e-9


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.5])
def test_it_never_promises_too_much_beside_larger_discs(radius):
    g = torch.Generator().manual_seed(1)
    centre = 3 * torch.randn(5, 2, generator=g, dtype=torch.float64)
    size = 0.5 + torch.rand(5, generator=g, dtype=torch.float64)
    clearance = lambda p: ((p[..., None, :] - centre).norm(dim=-1) - size).amin(-1)  # noqa: E731
    a, b = ways(4000, 2)
    outside = (clearance(a) >= 0) & (clearance(b) >= 0)
    a, b = a[outside], b[outside]
    least = clearance(along(a, b, 201)).amin(1)
    said = on_the_way(clearance(a), clearance(b), (b - a).norm(dim=1), radius)
    assert float((said - least).max()) < 1e-9
    assert int((least < 0).sum()) > 50
    assert float(((said < 0) & (least >= 0)).double().mean()) < 0.15


def test_a_way_that_cuts_through_is_a_violation_though_both_ends_are_clear():
    places = torch.tensor([[[-1.2, 0.0], [1.2, 0.0]], [[-1.2, 0.0], [-1.2, 1.0]]])
    g = guard(places, places.norm(dim=-1) - 1.0, round=1.0)
    assert g[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert g[1, 0] == pytest.approx(-0.2, abs=1e-5)


def test_the_margin_is_kept_and_may_grow():
    places = torch.zeros(1, 4, 2)
    clearance = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    torch.testing.assert_close(guard(places, clearance, margin=0.2), torch.full((1, 3), -0.3))
    grown = guard(places, clearance, margin=(0.1, 0.2, 0.3))
    torch.testing.assert_close(grown, torch.tensor([[-0.4, -0.3, -0.2]]))
    lasting = guard(places, clearance, margin=Margins((0.1, 0.2), 0.9, 100, 100, lasting=True))
    torch.testing.assert_close(lasting, torch.tensor([[-0.4, -0.3, -0.3]]))
    limit = Clear(Shown(), "clearance", ("x", "y"), margin=0.2)
    states = torch.tensor([[0.5, 0, 0], [0.1, 0, 0]])[None]
    torch.testing.assert_close(limit.standing(states), torch.tensor([[-0.3, 0.1]]))
    torch.testing.assert_close(limit.bare().standing(states), torch.tensor([[-0.5, -0.1]]))


def test_within_the_margin_only_ways_out_are_safe():
    out = torch.tensor([[0.0, 0.0], [0.0, 0.1]]).expand(4, -1, -1)
    clearance = torch.tensor([[0.1, 0.2], [0.1, 0.05], [0.1, 0.1], [-0.1, 0.0]])
    safe = guard(out, clearance, margin=0.3, round=0.5)[:, 0] <= 0
    assert safe.tolist() == [True, False, False, True]  # outwards, inwards, neither, and out of the inside


def test_what_is_no_number_is_a_violation():
    places = torch.tensor([[[0.0, 0.0], [math.nan, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    clearance = torch.tensor([[1.0, 1.0], [1.0, math.nan]])
    for radius in (0.0, 1.0):
        assert not bool((guard(places, clearance, round=radius) <= 0).any())


def test_it_is_built_again_from_its_configuration():
    limit = Clear(Shown(), "clearance", ("x", "y"), round=0.9, margin=0.2, name="obstacles")
    again = limit.config.build(Shown(), (3,), {})
    assert again.config == limit.config
    assert again.name == "obstacles"


@pytest.mark.parametrize("words", [
    {"clearance": "height"}, {"place": ()}, {"place": ("x", "z")}, {"round": -1.0}, {"round": math.inf},
    {"margin": math.nan},
])
def test_what_does_not_fit_is_refused(words):
    with pytest.raises(PlanningError):
        Clear(Shown(), **({"clearance": "clearance", "place": ("x", "y")} | words))
