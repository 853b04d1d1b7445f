"""A value by temporal differences: exact on a chain, better than the log with an expectile, a term and a critic."""

from __future__ import annotations

import pytest
import torch

from steersman.agent.fitted.additions import record_cost
from steersman.core import ConfigError, DataError, Imagined, LatentGoal, PlanningError, Task
from steersman.core.types import Latent
from steersman.cost import TDValue

STATES, DISCOUNT = 7, 0.9


def _chain(steps: int = 4000):
    """Steps of a walk on a line that ends at its right end for good: each costs 1, the left end holds."""
    generator = torch.Generator().manual_seed(0)
    here = torch.randint(STATES - 1, (steps,), generator=generator)
    move = torch.where(torch.rand(steps, generator=generator) < 0.5, 1, -1)
    after = (here + move).clamp(min=0)
    return here, after, after == STATES - 1


def _exact() -> torch.Tensor:
    """(I - γ P)⁻¹ 1 for the log's own frequencies P, nothing to come at the end."""
    here, after, _ = _chain()
    p = torch.zeros(STATES, STATES, dtype=torch.float64)
    p.index_put_((here, after), torch.ones(len(here), dtype=torch.float64), accumulate=True)
    p /= p.sum(1, keepdim=True).clamp(min=1)
    cost = torch.ones(STATES, dtype=torch.float64)
    cost[-1] = 0
    return torch.linalg.solve(torch.eye(STATES, dtype=torch.float64) - DISCOUNT * p, cost)


def _fitted(expectile: float = 0.5, steps: int = 700) -> TDValue:
    here, after, ended = _chain()
    eye = torch.eye(STATES)
    config = TDValue.Config(discount=DISCOUNT, expectile=expectile, hidden=(32,), steps=steps, lr=1e-2, target=0.1)
    value = config.build((STATES,))
    value.fit(eye[here], torch.ones(len(here)), eye[after], ended)
    return value


def test_the_value_is_the_exact_one_of_a_chain() -> None:
    found, exact = _fitted().value(torch.eye(STATES))[:-1], _exact()[:-1].float()
    untrained = TDValue.Config(hidden=(32,)).build((STATES,)).value(torch.eye(STATES))[:-1]
    assert (found - exact).abs().max() < 0.2  # values from 4 to 9
    assert (untrained - exact).abs().max() > 2


def test_a_small_expectile_is_the_way_straight_on() -> None:
    best = (1 - DISCOUNT ** torch.arange(STATES - 1, 0, -1)) / (1 - DISCOUNT)
    found = _fitted(0.03, 1200).value(torch.eye(STATES))[:-1]
    assert (found - best).abs().max() < 0.5 * (_exact()[:-1].float() - best).abs().max()


def test_a_term_counts_at_the_last_step_alone() -> None:
    value = _fitted(steps=1)
    states = torch.randn(2, 3, 5, STATES)
    task = Task(LatentGoal(Latent(torch.zeros(1, STATES))))
    energy = value.energy(Imagined(states), torch.zeros(2, 3, 4, 1), task)
    assert energy.shape == (2, 3, 4)
    assert not energy[..., :-1].any()
    assert torch.allclose(energy[..., -1], value.value(states[:, :, -1]))
    one = torch.stack([value.value(states[i, j, -1]) for i in range(2) for j in range(3)]).view(2, 3)
    assert torch.allclose(energy[..., -1], one, atol=1e-5)


def test_bad_input_is_refused_in_words() -> None:
    value, states = TDValue((2,)), torch.zeros(4, 2)
    with pytest.raises(PlanningError, match="a fitted value"):
        value.energy(Imagined(torch.zeros(1, 1, 3, 2)), torch.zeros(1, 1, 2, 1), Task(LatentGoal(Latent(states[:1]))))
    with pytest.raises(DataError, match="a cost"):
        value.fit(states, torch.zeros(3), states)
    with pytest.raises(DataError, match="finite states"):
        value.fit(states * torch.nan, torch.zeros(4), states)
    with pytest.raises(DataError, match="finite costs"):
        value.fit(states, torch.full((4,), torch.inf), states)
    with pytest.raises(ConfigError, match="0 <= discount < 1"):
        TDValue.Config(discount=1.0)


def test_a_run_keeps_it() -> None:
    value = _fitted(steps=2)
    record, tensors = record_cost(value, (STATES,))
    assert record.fitted is not None
    built = record.fitted.build(record.latent_shape)
    assert isinstance(built, TDValue)
    built.load_state_dict(tensors)
    states = torch.randn(5, STATES)
    assert torch.equal(built.value(states), value.value(states))
