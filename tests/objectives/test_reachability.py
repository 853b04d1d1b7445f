import math

import pytest
import torch
from objective_batches import STARTS, STEPS, batch, signature
from torch.nn import functional as F

from steersman.core import ConfigError, Imagined, Latent, Window
from steersman.objectives import Reachability


def build(shape=(4,), **config):
    return Reachability.Config(**{"budgets": (1, 2, 4), **config}).build(signature(), shape, None)


def transcribed(b, objective, config):
    """Every pair by itself in float64: both halves of each budget, and the open-loop term."""
    window, state = b.window, b.latent.state.detach()
    sources = [(w, t, state[w, t], 1.0) for w in range(len(state)) for t in range(6)]
    sources += [
        (w, start + i, b.predicted.states[w, s, i].detach(), config.imagined)
        for w in range(len(state)) for s, start in enumerate(STARTS) for i in range(1, STEPS + 1)
    ]
    sums = torch.zeros(4, len(config.budgets), dtype=torch.float64)
    for w, row, source, value in sources:
        goals = [(w, t) for t in range(row, 6)]
        goals += [((w + shift) % len(state), row) for shift in range(1, config.others + 1)]
        for v, t in goals:
            logits = objective.head(source.flatten(), state[v, t].flatten()).double()
            same = window.episode[v] == window.episode[w]
            ahead = int(window.start[v] + t - window.start[w] - row)
            if same and ahead < 0:
                continue
            for k, n in enumerate(config.budgets):
                right = bool(same) and ahead <= n
                sums[0 if right else 1, k] += value * float(F.softplus(-logits[k] if right else logits[k]))
                sums[2 if right else 3, k] += value
    reach = float((sums[0] / sums[2] + sums[1] / sums[3]).mean() / 2)
    loops = weights = 0.0
    for i in range(1, STEPS + 1):
        gaps = [
            (b.predicted.states[w, s, i] - state[w, start + i]).double().square().mean()
            for w in range(len(state)) for s, start in enumerate(STARTS)
        ]
        loops, weights = loops + i**config.rise * float(sum(gaps).detach()) / len(gaps), weights + i**config.rise
    return reach, loops / weights


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
def test_both_terms_equal_the_pairs_one_by_one(shape):
    torch.manual_seed(0)
    b = batch(windows=4, shape=shape)
    place = torch.tensor([0, 0, 0, 7]), torch.tensor([10, 12, 30, 0])  # two windows overlap, one is far, one elsewhere
    b = type(b).rolled(Window(b.window.observations, b.window.actions, None, *place), b.latent, b.starts, b.predicted)
    objective = build(shape, prediction=3.0, rise=2.0, weight=0.5)
    reach, loops = transcribed(b, objective, objective.config)
    loss = objective(b)
    assert float(loss.parts["reachability"]) == pytest.approx(reach, rel=1e-5)
    assert float(loss.parts["open_loop"]) == pytest.approx(loops, rel=1e-5)
    assert float(loss.total.detach()) == pytest.approx(0.5 * reach + 3 * loops, rel=1e-5)


def test_gradients_reach_encoder_model_and_head_or_the_head_alone():
    torch.manual_seed(0)
    for stop in (False, True):
        b, objective = batch(), build(stop_gradient=stop)
        objective(b).total.backward()
        assert all(float(p.grad.abs().sum()) > 0 for p in objective.parameters())
        assert (b.latent.state.grad is None) is stop
        assert (b.predicted.states.grad is None) is stop


def test_a_longer_budget_is_never_less_likely():
    torch.manual_seed(0)
    logits = build(budgets=(1, 2, 4, 8)).head(torch.randn(50, 4) * 5, torch.randn(50, 4) * 5)
    assert bool((logits.diff(dim=-1) >= 0).all())


def walk(windows, generator):
    """Windows of a walk on a line with a step of one: what is n away is reached in n steps, and only so."""
    g = generator
    direction = torch.randint(0, 2, (windows, 1), generator=g) * 2 - 1.0
    place = torch.randn(windows, 1, generator=g) * 8 + direction * torch.arange(6.0)
    state = torch.stack([place / 3, direction.expand_as(place), torch.zeros_like(place), torch.zeros_like(place)], -1)
    b = batch(windows=windows, state=state, sig=signature(image=(1, 1, 1)))
    rows = b.starts[:, None] + torch.arange(STEPS + 1)
    return type(b).rolled(b.window, Latent(state), b.starts, Imagined(state[:, rows]))


def test_the_head_learns_how_far_it_is_and_starts_at_knowing_nothing():
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(1)
    objective = build(width=32, others=4)
    assert float(objective(walk(64, g)).parts["reachability"]) == pytest.approx(math.log(2), abs=0.15)
    optimiser = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        objective(walk(32, g)).total.backward()
        optimiser.step()
    parts = objective(walk(256, g)).parts
    assert float(parts["reachable"]) > 0.93
    assert float(parts["reachability"]) < 0.25


def test_a_single_window_has_no_other_to_compare_with_and_stays_finite():
    b = batch(windows=1)
    loss = build()(b)
    loss.total.backward()
    assert bool(torch.isfinite(loss.total))
    assert bool(torch.isfinite(b.latent.state.grad).all())


@pytest.mark.parametrize("budgets", [(), (0, 1), (2, 2), (4, 2)])
def test_budgets_that_do_not_grow_are_refused(budgets):
    with pytest.raises(ConfigError, match="growing budgets"):
        Reachability.Config(budgets=budgets)
