"""A linear-Gaussian toy world solved exactly: quantiles, posterior, information, and expected costs of scenarios."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from steersman.actor import DynamicProgramming, score
from steersman.core import (
    ActionSpec,
    Belief,
    ConfigError,
    Cost,
    Imagined,
    Latent,
    LatentGoal,
    ObservationSpec,
    Problem,
    Risk,
    Signature,
    Task,
    WorldModel,
)
from steersman.cost import GoalCost
from steersman.world_model import ResidualModel
from steersman.world_model.latent_variable import Gaussian

ACTION = ActionSpec("continuous", (-1.0,), (1.0,))
SIGNATURE = Signature({"state": ObservationSpec("vector", (1,))}, ACTION)
MEAN, STD = torch.tensor([0.3, -0.5]), torch.tensor([0.5, 2.0])


def toy(mean=MEAN, std=STD, latent=(3,), nodes=0) -> Gaussian:
    """Its prior is N(mean, std²), whatever state and action."""
    torch.manual_seed(0)
    variable = Gaussian.Config(size=len(mean), width=4, nodes=nodes).build(SIGNATURE, latent, 1)
    with torch.no_grad():
        variable.to_prior[2].bias.copy_(torch.cat([mean, 5 * (std.log() / 5).atanh()]))
    return variable


def rows(n):
    return torch.zeros(n, 1), torch.zeros(n, 1)


def test_uniform_noise_becomes_the_quantiles_of_the_prior():
    u = torch.tensor([[0.5, 0.5], [0.975, 0.025], [0.1586553, 0.8413447]])
    expected = torch.stack([MEAN, MEAN + STD * torch.tensor([1.959964, -1.959964]), MEAN + STD * torch.tensor([-1, 1])])
    torch.testing.assert_close(toy().draw(u, *rows(3)), expected, rtol=1e-5, atol=1e-5)
    edge = toy().draw(torch.tensor([[0.0, 1.0]]), *rows(1))
    assert bool(torch.isfinite(edge).all())
    n = 20_000
    u = torch.stack([(torch.arange(n) + 0.5) / n, (torch.randperm(n) + 0.5) / n], 1)
    z = toy().draw(u, *rows(n))
    torch.testing.assert_close(z.mean(0), MEAN, atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(0), STD, atol=2e-3, rtol=0)


def solved(noise: torch.Tensor):
    """y = C z + N(0, noise²): posterior mean (N, 2) and covariance of what was seen, in float64."""
    g = torch.Generator().manual_seed(3)
    c, seen = torch.randn(3, 2, generator=g), torch.randn(5, 3, generator=g)
    precision = torch.diag(STD.double() ** -2) + c.double().T @ torch.diag(noise.double() ** -2) @ c.double()
    covariance = torch.linalg.inv(precision)
    mean = (MEAN.double() / STD.double() ** 2 + (seen.double() / noise.double() ** 2) @ c.double()) @ covariance
    energy = lambda z: 0.5 * ((seen[:, None] - z @ c.T) / noise).square().sum(-1)  # noqa: E731
    return seen, energy, mean, covariance


def test_the_posterior_of_a_linear_gaussian_world_and_its_information_are_exact():
    seen, energy, mean, covariance = solved(torch.tensor([0.5, 1.0, 2.0]))
    found = toy().posterior(*rows(5), seen, energy)
    torch.testing.assert_close(found.z.double(), mean, rtol=1e-4, atol=1e-5)
    prior = MultivariateNormal(MEAN.double(), torch.diag(STD.double() ** 2))
    nats = torch.stack([kl_divergence(MultivariateNormal(m, covariance), prior) for m in mean])
    torch.testing.assert_close(found.information.double(), nats, rtol=1e-4, atol=1e-5)


def test_samples_of_the_posterior_have_its_mean_and_covariance():
    noise = torch.tensor([0.5, 1.0, 2.0])
    seen, _, mean, covariance = solved(noise)
    g, n = torch.Generator().manual_seed(3), 20_000
    c = torch.randn(3, 2, generator=g)
    u = torch.stack([(torch.arange(n) + 0.5) / n, (torch.randperm(n, generator=g) + 0.5) / n], 1)
    energy = lambda z: 0.5 * ((seen[0] - z @ c.T) / noise).square().sum(-1)  # noqa: E731
    z = toy().posterior(*rows(n), seen[:1].expand(n, -1), energy, u).z.double()
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.01, rtol=0)
    torch.testing.assert_close(z.T.cov(), covariance, atol=0.01, rtol=0)


def test_a_posterior_by_energy_finds_the_bottom_of_a_curved_one_and_an_empty_one_leaves_the_prior():
    found = toy().posterior(*rows(4), torch.zeros(4, 3), lambda z: 0 * z.sum(-1))
    torch.testing.assert_close(found.z, MEAN.expand(4, -1))
    torch.testing.assert_close(found.information, torch.zeros(4), atol=1e-6, rtol=0)
    seen = torch.tensor([2.0, -3.0, 10.0])
    energy = lambda z: 5 * (z[..., 0].sinh() - seen[:, None]).square() + z[..., 1].cos()  # noqa: E731
    z = toy().posterior(*rows(3), torch.zeros(3, 3), energy).z
    grid = torch.linspace(-4, 4, 8001)
    total = 5 * (grid.sinh() - seen[:, None]).square() + 0.5 * ((grid - MEAN[0]) / STD[0]).square()
    torch.testing.assert_close(z[:, 0], grid[total.argmin(1)], atol=2e-3, rtol=0)


def test_what_q_learned_tells_the_closed_form_of_its_information_and_has_gradients():
    variable = toy()
    with torch.no_grad():
        variable.to_posterior[2].weight.normal_()
    given, actions, seen = torch.randn(6, 1), torch.rand(6, 1), torch.randn(6, 3)
    found, u = variable.posterior(given, actions, seen), torch.full((6, 2), 0.8413447)
    width = variable.posterior(given, actions, seen, u=u).z - found.z
    nats = kl_divergence(Normal(found.z, width), Normal(*[x if i == 0 else x.exp() for i, x in enumerate(
        variable.prior(given, actions))])).sum(-1)
    torch.testing.assert_close(found.information, nats, rtol=1e-4, atol=1e-4)
    (found.z.sum() + found.information.sum()).backward()
    assert all(float(p.grad.abs().sum()) > 0 for n, p in variable.named_parameters() if "2." in n)


def test_nodes_of_a_quadrature_have_the_moments_of_the_prior():
    assert toy().support(*rows(1)) is None
    variable = toy(nodes=3)
    support = variable.support(*rows(2))
    assert support.u.shape == (2, 9, 2)
    assert not support.exhaustive
    z = variable.draw(support.u[0], *rows(9))
    p = support.probability[0]
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    torch.testing.assert_close(p @ z, MEAN)
    torch.testing.assert_close(p @ (z - MEAN).square(), STD**2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(p @ (z - MEAN).pow(4), 3 * STD**4, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(p @ (z - MEAN).prod(1), torch.tensor(0.0), rtol=0, atol=1e-5)


def test_bad_sizes_are_refused():
    for wrong in ({"size": 0}, {"nodes": -1}):
        with pytest.raises(ConfigError, match="size and width >= 1"):
            Gaussian.Config(**wrong)
    with pytest.raises(ConfigError, match="use fewer nodes"):
        Gaussian.Config(size=8, nodes=3)


class Walk(WorldModel):
    """s' = s + a + z."""

    def __init__(self):
        super().__init__()
        self.latent_variable = toy(torch.tensor([0.2]), torch.tensor([0.5]), (1,), nodes=3)

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        flat, variable = actions.flatten(0, 2), self.latent_variable
        z = variable.expected(flat, flat) if u is None else variable.draw(u.flatten(0, 2), flat, flat)
        way = (actions + z.view_as(actions)).cumsum(2) + belief.state[:, None, None]
        return Imagined(torch.cat([belief.state[:, None, None].expand(-1, way.shape[1], -1, -1), way], 2))


class Place(Cost):
    """The last state: linear, so that its conditional value at risk is known."""

    name = "place"

    def energy(self, imagined, actions, task):
        last = torch.arange(actions.shape[2]) == actions.shape[2] - 1
        return imagined.states[:, :, 1:, 0] * last


@pytest.mark.parametrize(("over", "tail"), [("mean", 0.1), ("cvar", 0.1), ("cvar", 0.5)])
def test_energies_of_scenarios_are_the_closed_form(over, tail):
    """s_H = s + Σ a + H μ + √H σ ε: (s_H - g)² has the mean (·)² + H σ², CVaR_α of s_H is mean + √H σ φ(Φ⁻¹(α))/α."""
    horizon, mu, sigma, goal = 4, 0.2, 0.5, 1.5
    task = Task(LatentGoal(Latent(torch.full((1, 1), goal))), weights={"place": 1.0},
                risk=Risk(scenarios=4096, over=over, tail=tail))
    problem = Problem(Walk(), Belief(torch.tensor([[0.0], [1.0]])), (Place(), GoalCost(over="last")), task,
                      ACTION, torch.arange(2), torch.zeros(2, dtype=torch.int64))
    actions = torch.tensor([-0.5, 0.0, 0.5]).view(1, 3, 1, 1).expand(2, -1, horizon, -1)
    middle = problem.belief.state + horizon * (actions[:, :, 0, 0] + mu)
    spread, normal = horizon**0.5 * sigma, Normal(0.0, 1.0)
    share = torch.tensor(tail if over == "cvar" else 1 - 1e-7)
    excess = spread * normal.log_prob(normal.icdf(share)).exp() / share
    found = score(problem, actions).energy
    torch.testing.assert_close(found, middle + excess, atol=0.04, rtol=0)
    if over == "mean":
        squared = score(replace(problem, task=replace(task, weights={"goal": 1.0})), actions).energy
        torch.testing.assert_close(squared, (middle - goal).square() + spread**2, atol=0.08, rtol=0.02)


def test_a_tree_weighs_a_gaussian_by_its_spread_and_not_by_its_mean_alone():
    """E[(s + a + z)²] = (s + a + μ)² + σ², exactly from 3 nodes; the mean alone would leave σ² out."""
    task = Task(LatentGoal(Latent(torch.zeros(1, 1))))
    problem = Problem(Walk(), Belief(torch.tensor([[0.9], [0.0]])), (GoalCost(),), task, ACTION, torch.arange(2),
                      torch.zeros(2, dtype=torch.int64))
    plan = DynamicProgramming(DynamicProgramming.Config(horizon=1, fan=2)).plan(problem)
    expected = (torch.tensor([0.9, 0.0]) + plan.actions[:, 0, 0] + 0.2).square() + 0.25
    torch.testing.assert_close(plan.energy["goal"][:, 0], expected, rtol=1e-4, atol=1e-5)
    assert plan.action.flatten().tolist() == [-1.0, 0.0]


def test_a_drift_that_nobody_foresees_is_learned_by_its_posterior():
    """s' = s + N(0, .5²): the prior of what moves the state comes to have that deviation."""
    torch.manual_seed(0)
    model = ResidualModel.Config(width=16, depth=1, latent_variable=Gaussian.Config(size=1, width=16)).build(
        SIGNATURE, (1,))
    g = torch.Generator().manual_seed(0)
    state, moved = torch.randn(512, 1, generator=g), 0.5 * torch.randn(512, 1, generator=g)
    actions, following = torch.zeros(512, 1, 1), (state + moved)[:, None]
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(200):
        found, nats = model.explain(Belief(state), actions, following, u=torch.rand(512, 1, 1, generator=g))
        loss = 50 * (found.states[:, 0, 1:] - following).square().mean() + nats.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    u = ((torch.arange(1000) + 0.5) / 1000).view(1, 1000, 1, 1)
    drawn = model.imagine(Belief(torch.zeros(1, 1)), torch.zeros(1, 1000, 1, 1), u=u).states[0, :, 1, 0].detach()
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.08)
    surprise = model.observe(Belief(state), actions, Latent(state + moved))[1].energy
    foreseen = (model.imagine(Belief(state), actions[:, None]).states[:, 0, 1] - state - moved).square()
    assert float(surprise.detach().mean()) < 0.1 * float(foreseen.detach().mean())
