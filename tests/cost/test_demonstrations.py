"""Weights and energies learned from demonstrations."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, Cost, Imagined, Latent, LatentGoal, PlanningError, Task, check_cost
from steersman.cost import LearnedCost, recover_weights, term_energies

TASK = Task(LatentGoal(Latent(torch.zeros(1, 2))))


class Apart(Cost):
    """Squared distance from a place, in units that differ from term to term."""

    def __init__(self, name, place, unit):
        self.name, self.place, self.unit = name, torch.tensor(place), unit

    def energy(self, imagined, actions, task):
        return self.unit * (imagined.states[:, :, 1:] - self.place).square().sum(-1)


TERMS = (Apart("home", [0.0, 0.0], 1.0), Apart("east", [2.0, 0.0], 50.0), Apart("north", [0.0, 3.0], 0.02))


def best(weights, noise=0.0, generator=None):
    """The terms' energies at the exact optimum of their weighted sum, a mean of places, for 4 problems."""
    mass = torch.tensor([weights[c.name] * c.unit for c in TERMS])
    place = (mass[:, None] * torch.stack([c.place for c in TERMS])).sum(0) / mass.sum()
    if generator is not None:
        place = place + noise * torch.randn(4, 1, 1, 2, generator=generator)
    states = place.expand(4, 1, 2, 2)
    return term_energies(TERMS, Imagined(states), torch.zeros(4, 1, 1, 1), TASK)[:, 0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_weights_are_recovered_whatever_the_units(seed, noise):
    g = torch.Generator().manual_seed(seed)
    mass = torch.exp(torch.randn(3, generator=g))
    true = mass / torch.tensor([c.unit for c in TERMS])
    true = dict(zip([c.name for c in TERMS], (true / true.sum()).tolist(), strict=True))
    found = recover_weights(TERMS, best(true), lambda w: best(w, noise, g if noise else None), steps=60)
    assert abs(sum(found.weights.values()) - 1) < 1e-9
    for name in true:
        assert found.weights[name] == pytest.approx(true[name], rel=0.04 if not noise else 0.2)
    assert abs(found.gap[-1]) < 0.01
    assert all(abs(ratio - 1) < 0.1 for ratio in found.terms[-1].values())


def test_terms_are_means_over_steps_and_unweighted():
    states = torch.randn(2, 3, 5, 2, generator=torch.Generator().manual_seed(0))
    energies = term_energies(TERMS, Imagined(states), torch.zeros(2, 3, 4, 1), TASK)
    assert energies.shape == (2, 3, 3)
    torch.testing.assert_close(energies[..., 1], 50 * (states[:, :, 1:] - TERMS[1].place).square().sum(-1).mean(2))


@pytest.mark.parametrize(
    ("terms", "demonstrated", "plan", "match"),
    [
        (TERMS[:1], torch.ones(4, 1), None, "at least two terms"),
        ((TERMS[0], TERMS[0]), torch.ones(4, 2), None, "different names"),
        (TERMS, torch.ones(4, 2), None, "demonstrated energies"),
        (TERMS, -torch.ones(4, 3), None, "at least 0"),
        (TERMS, torch.full((4, 3), torch.nan), None, "finite"),
        (TERMS, torch.ones(4, 3), lambda w: torch.ones(3, 3), "planned energies"),
    ],
)
def test_what_says_nothing_is_refused(terms, demonstrated, plan, match):
    with pytest.raises(PlanningError, match=match):
        recover_weights(terms, demonstrated, plan)


def test_a_learned_energy_is_low_where_demonstrations_went_and_plans_go_there():
    g = torch.Generator().manual_seed(0)
    spot = torch.tensor([1.0, -0.5])
    seen = spot + 0.1 * torch.randn(200, 2, generator=g)
    cost = LearnedCost((2,), LearnedCost.Config(hidden=(32,)))
    rail = torch.cartesian_prod(torch.linspace(-2, 2, 17), torch.linspace(-2, 2, 17))

    def energies():
        states = rail[:, None, None].expand(-1, 1, 2, -1)
        return cost.energy(Imagined(states), torch.zeros(len(rail), 1, 1, 1), TASK)[:, 0, 0]

    def plan():
        return rail[energies().topk(20, largest=False).indices]

    gaps = cost.fit(seen, plan)
    assert len(gaps) == 15
    chosen = rail[energies().argmin()]
    assert float((chosen - spot).norm()) < 0.4
    assert not any(p.requires_grad for p in cost.parameters())
    check_cost(cost, ActionSpec("discrete", choices=2), (2,), differentiable=True)
    with pytest.raises(PlanningError, match="finite states"):
        cost.fit(torch.zeros(5, 3), plan)
