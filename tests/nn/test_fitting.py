"""Fitting small networks: the same from the same generator, and downhill."""

from __future__ import annotations

import torch

from steersman.nn import fit, mlp, redraw


def test_weights_are_drawn_anew_within_their_bounds_and_from_the_generator_alone() -> None:
    first, second = mlp([7, 5, 1]), mlp([7, 5, 1])
    for network in (first, second):
        torch.rand(int(torch.randint(9, ())))  # the global state has no say
        redraw(network, torch.Generator().manual_seed(3))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        assert float(a.detach().abs().max()) <= a.shape[-1] ** -0.5
    assert float(first[0].weight.detach().abs().max()) > 0.5 * 7**-0.5


def test_a_fit_descends_the_loss_that_it_is_given_and_leaves_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    network, x = mlp([2, 16, 1]), torch.randn(256, 2, generator=generator)
    y = x.prod(1, keepdim=True)

    def loss() -> torch.Tensor:
        rows = torch.randint(len(x), (64,), generator=generator)
        return (network(x[rows]) - y[rows]).square().mean()

    with torch.no_grad():  # as whoever fits may stand in it
        fit(network, loss, generator, steps=200, lr=1e-2, decay=0.0)
    assert float((network(x) - y).detach().square().mean()) < 0.2 * float(y.var())
    assert all(p.grad is None for p in network.parameters())
