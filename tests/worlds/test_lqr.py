"""The linear world: its Riccati solution against a quadratic programme, closed loop against open loop, and limits."""

from __future__ import annotations

import pytest
import torch

from steersman.core import Belief, ConfigError, Task
from steersman.core.task import CallableGoal
from steersman.world_model import LinearModel
from steersman.worlds import LQR, LQRCost

TASK = Task(CallableGoal(lambda columns, imagined: imagined.states[:, :, 1:, 0]))


def least_squares(world, state, horizon):
    """The least energy by solving for all actions at once: J is quadratic in them."""
    actions = torch.zeros(horizon, world.control.shape[1], dtype=torch.float64, requires_grad=True)
    exact = world.map(lambda x: x.double())
    gradient = torch.autograd.functional.jacobian(lambda a: exact.energy(state.double(), a), actions).flatten()
    hessian = torch.autograd.functional.hessian(lambda a: exact.energy(state.double(), a), actions)
    hessian = hessian.reshape(len(gradient), -1)
    best = torch.linalg.solve(hessian, -gradient).view_as(actions)
    return best.detach(), exact.energy(state.double(), best).detach()


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_riccati_is_the_least_energy_of_all_action_sequences(seed, final):
    world = LQR.random(3, 2, seed)
    if final:
        world = LQR(world.transition, world.control, world.state_weight, world.action_weight, 5 * torch.eye(3))
    state = torch.randn(3, generator=torch.Generator().manual_seed(seed))
    actions, energy = least_squares(world, state, 6)
    torch.testing.assert_close(world.optimal_energy(state, 6), energy)
    torch.testing.assert_close(world.optimal_actions(state.double(), 6), actions, rtol=1e-5, atol=1e-7)


def test_stationary_value_makes_short_plans_optimal_for_ever():
    world = LQR.double_integrator()
    gain, value = world.stationary()
    patient = LQR(world.transition, world.control, world.state_weight, world.action_weight, value.float())
    torch.testing.assert_close(patient.riccati(2)[0], gain.expand(2, -1, -1), rtol=1e-5, atol=1e-6)


def test_a_world_beyond_control_is_refused():
    world = LQR(2 * torch.eye(2), torch.zeros(2, 1), torch.eye(2), torch.eye(1))
    with pytest.raises(ConfigError, match="stabilise"):
        world.stationary(limit=2000)


def test_model_and_cost_agree_with_the_world():
    world = LQR.double_integrator(axes=2)
    g = torch.Generator().manual_seed(0)
    state, actions = torch.randn(3, 4, generator=g), torch.randn(3, 5, 6, 2, generator=g)
    imagined = LinearModel(world.transition, world.control).imagine(Belief(state), actions)
    ours = LQRCost(world).energy(imagined, actions, TASK).sum(2)
    theirs = world.energy(state[:, None].expand(-1, 5, -1), actions)
    torch.testing.assert_close(ours, theirs)


def test_matrices_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="correct the matrices"):
        LQR(torch.eye(2), torch.ones(3, 1), torch.eye(2), torch.eye(1))
    with pytest.raises(ConfigError, match="positive definite"):
        LQR(torch.eye(2), torch.ones(2, 1), torch.eye(2), torch.zeros(1, 1))
