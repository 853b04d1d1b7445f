"""The optimum that the pendulum's evidence prints, against rollouts of Gymnasium's own equations."""

from __future__ import annotations

import math

import gymnasium
import pytest
import torch

from steersman.evidence.pendulum_optimum import optimal_return


def test_upright_and_still_costs_nothing_and_hanging_costs_most() -> None:
    angle = torch.tensor([0.0, 0.3, -0.3, math.pi])
    upright, right, left, hanging = optimal_return(angle, torch.zeros(4)).tolist()
    assert upright == pytest.approx(0, abs=0.01)
    assert right == pytest.approx(left, abs=0.01)
    assert hanging < -200
    assert upright > right > hanging


def test_near_upright_it_is_what_a_good_controller_gets_in_the_environment() -> None:
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    env.state = torch.tensor([0.2, 0.0], dtype=torch.float64).numpy()
    theta, omega, total = 0.2, 0.0, 0.0
    for _ in range(200):
        _, reward, *_ = env.step([-10.0 * theta - 3.0 * omega])
        theta, omega = env.state
        total += reward
    best = float(optimal_return(torch.tensor([0.2]), torch.zeros(1)))
    assert total <= best + 0.02 * abs(total)
    assert best == pytest.approx(total, rel=0.1)
