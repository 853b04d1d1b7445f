"""AdamW follows its formula, and its state comes back by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steersman.core import CheckpointError
from steersman.nn import AdamW


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))


def descend(net: nn.Module, step: object, clear: object, steps: int = 20, seed: int = 0) -> None:
    g = torch.Generator().manual_seed(seed)
    for i in range(steps):
        x = torch.randn(8, 3, generator=g)
        (net(x) if i % 3 else net[2](net[1](net[0](x).detach()))).square().mean().backward()
        step(0.1 / (i + 1))  # type: ignore[operator]
        clear()  # type: ignore[operator]


def test_equals_the_formula_with_decay_on_matrices_only() -> None:
    net = network()
    beta1, beta2, decay, eps = 0.8, 0.9, 0.3, 1e-8
    optimiser = AdamW(net.named_parameters(), (beta1, beta2), decay)
    plain = [[p.detach().double(), 0.0, 0.0, 0] for p in net.parameters()]

    def step(lr: float) -> None:
        for row, p in zip(plain, net.parameters(), strict=True):
            if p.grad is None:
                continue
            g = p.grad.double()
            theta, m, v, t = row[0], beta1 * row[1] + (1 - beta1) * g, beta2 * row[2] + (1 - beta2) * g * g, row[3] + 1
            shrink = 1 - lr * decay if p.dim() >= 2 else 1.0
            move = lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
            row[:] = [shrink * theta - move, m, v, t]
        optimiser.step(lr)

    descend(net, step, optimiser.forget_gradients)
    assert {row[3] for row in plain} == {13, 20}, "some parameters rested in some steps"
    for row, p in zip(plain, net.parameters(), strict=True):
        torch.testing.assert_close(p.double(), row[0], rtol=1e-4, atol=1e-5)


def test_its_state_continues_exactly() -> None:
    whole, cut = network(), network()
    one = AdamW(whole.named_parameters())
    descend(whole, one.step, one.forget_gradients)
    first = AdamW(cut.named_parameters())
    descend(cut, first.step, first.forget_gradients)
    state = {name: x.clone() for name, x in first.state().items()}
    second = AdamW(cut.named_parameters())
    second.load(state)
    for net, optimiser in ((whole, one), (cut, second)):
        descend(net, optimiser.step, optimiser.forget_gradients, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def test_foreign_state_is_refused() -> None:
    optimiser = AdamW(network().named_parameters())
    state = dict(optimiser.state())
    with pytest.raises(CheckpointError, match=r"first\.0\.weight of shape \(5, 3\) .* got \(3, 5\)"):
        optimiser.load(state | {"first.0.weight": torch.zeros(3, 5)})
    state.pop("steps.2.bias")
    with pytest.raises(CheckpointError, match="got nothing"):
        optimiser.load(state)
