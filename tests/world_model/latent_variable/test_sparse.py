"""The sparse latent variable: its minimum against a grid, draws against the prior, nats by hand, gradients."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch

from steersman.core import ActionSpec, ConfigError, LatentVariableConfig, ObservationSpec, Signature
from steersman.core.parts import convert
from steersman.world_model import ResidualModel
from steersman.world_model.latent_variable import Sparse

ACTION = ActionSpec("continuous", (-1.0,), (1.0,))
SIGNATURE = Signature({"state": ObservationSpec("vector", (2,))}, ACTION)
CONFIG = Sparse.Config(size=2, width=8, temperature=0.1, steps=40)


def build(config: Sparse.Config = CONFIG) -> Sparse:
    torch.manual_seed(0)
    return config.build(SIGNATURE, (2,), 1)


def rows(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(n, 1), torch.zeros(n, 1)


def curved(z: torch.Tensor) -> torch.Tensor:
    """Energies of six rows with minima off the axes, (6, O, 2) -> (6, O)."""
    wanted = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-0.7, 0.4], [0.05, 0.0], [2.0, -2.0], [0.0, 1.5]])
    apart = z - wanted[:, None]
    return 0.5 * apart.square().sum(-1) + 0.2 * apart[..., 0] * apart[..., 1] + 0.05 * apart[..., 0] ** 4


def test_inference_finds_the_least_priced_energy_and_its_zeros() -> None:
    z = build().posterior(*rows(6), torch.zeros(6, 2), curved).z
    line = torch.linspace(-3, 3, 601)
    grid = torch.cartesian_prod(line, line)
    price = torch.cat([curved(part.expand(6, -1, -1)) / 0.1 + part.abs().sum(-1) for part in grid.split(20_000)], 1)
    torch.testing.assert_close(z, grid[price.argmin(1)], atol=0.02, rtol=0)
    assert bool((z == 0).any(1)[[0, 1, 3]].all())
    assert z[0].tolist() == [0.0, 0.0]


def test_a_higher_price_of_numbers_leaves_fewer() -> None:
    found = [build(msgspec.structs.replace(CONFIG, sparsity=price)).posterior(*rows(6), torch.zeros(6, 2), curved).z
             for price in (0.1, 3.0, 100.0)]
    counts = [int((z != 0).sum()) for z in found]
    assert counts[0] > counts[1] > counts[2] == 0


def tilted() -> Sparse:
    """A prior that is not the first one, and whose second number depends on the first."""
    variable = build()
    with torch.no_grad():
        for head in variable.to_prior:
            head[2].weight.normal_(generator=torch.Generator().manual_seed(1))
            head[2].bias.copy_(torch.tensor([0.2, 0.5, -0.4, 0.1, -0.6, -1.0, -0.5]))
    return variable


@torch.no_grad()
def test_draws_have_the_shares_and_quantiles_of_the_prior() -> None:
    variable, n = tilted(), 40_000
    g = torch.Generator().manual_seed(2)
    u = torch.stack([(torch.arange(n) + 0.5) / n, torch.rand(n, generator=g)], 1)
    z = variable.draw(u, *rows(n))
    log, middle, spread = variable._prior(0, variable._known(*rows(1)), [])
    share = torch.stack([(z[:, 0] < 0), (z[:, 0] == 0), (z[:, 0] > 0)]).float().mean(1)
    torch.testing.assert_close(share, log[0].exp(), atol=0.01, rtol=0)
    for side, sign in enumerate((-1, 1)):
        size = z[z[:, 0] * sign > 0, 0].abs().log()
        torch.testing.assert_close(size.mean(), middle[0, side], atol=0.03, rtol=0)
        torch.testing.assert_close(size.std(), spread[0, side], atol=0.03, rtol=0)
    first = z[:, 0] == 0
    log, _, _ = variable._prior(1, variable._known(*rows(1)), [torch.zeros(1)])
    torch.testing.assert_close((z[first, 1] > 0).float().mean(), log[0, 2].exp(), atol=0.02, rtol=0)
    order = variable.draw(torch.tensor([[0.001, 0.5], [0.01, 0.5], [0.99, 0.5], [0.999, 0.5]]), *rows(4))[:, 0]
    assert order[1] < 0 < order[2]
    assert order[2] != order[3]
    edge = variable.draw(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), *rows(2))
    assert bool(torch.isfinite(edge).all())


@torch.no_grad()
def test_what_is_expected_is_most_probable() -> None:
    z = tilted().expected(*rows(3))
    assert z.shape == (3, 2)
    assert z[:, 0].tolist() == [0.0, 0.0, 0.0]


def test_information_is_that_of_signs_and_magnitudes_and_teaches_the_prior_alone() -> None:
    variable = tilted()
    energy = lambda z: 5 * (z - torch.tensor([1.0, 0.0])).square().sum(-1)  # noqa: E731
    found = variable.posterior(*rows(1), torch.zeros(1, 2), energy)
    assert float(found.z[0, 0]) == pytest.approx(0.99, abs=0.01)
    assert float(found.z[0, 1]) == 0
    known = variable._known(*rows(1))
    log, middle, spread = (x.detach() for x in variable._prior(0, known, []))
    m, v, blur = float(middle[0, 1]), float(spread[0, 1]), 0.1
    apart = math.log(float(found.z[0, 0])) - m
    told = -float(log[0, 2]) + math.log(v / blur) + (blur**2 + apart**2) / (2 * v**2) - 0.5
    log = variable._prior(1, known, [found.z[:, 0]])[0].detach()
    assert float(found.information.detach()) == pytest.approx(told - float(log[0, 1]), rel=1e-4)
    assert not found.z.requires_grad
    found.information.sum().backward()
    assert all(x.grad is not None and bool(x.grad.any()) for x in variable.to_prior[0][2].parameters())


def test_a_sample_is_blurred_where_it_is_not_zero() -> None:
    n = 4000
    energy = lambda z: 5 * (z - torch.tensor([1.0, 0.0])).square().sum(-1)  # noqa: E731
    u = torch.rand(n, 2, generator=torch.Generator().manual_seed(3))
    z = build().posterior(*rows(n), torch.zeros(n, 2), energy, u).z
    assert float(z[:, 0].log().std()) == pytest.approx(0.1, abs=0.01)
    assert not bool(z[:, 1].any())


def test_it_is_stored_built_into_a_predictor_and_refuses_what_is_wrong() -> None:
    config = ResidualModel.Config(width=16, latent_variable=CONFIG)
    assert isinstance(CONFIG, LatentVariableConfig)
    model = convert(msgspec.to_builtins(config), type(config)).build(SIGNATURE, (2,))
    assert model.chance == 2
    with pytest.raises(ConfigError, match="energy"):
        build().posterior(*rows(1), torch.zeros(1, 2))
    for wrong in ({"size": 0}, {"sparsity": 0.0}, {"temperature": -1.0}, {"blur": 0.0}):
        with pytest.raises(ConfigError, match=">= 1"):
            Sparse.Config(**wrong)
