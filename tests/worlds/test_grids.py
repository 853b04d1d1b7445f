"""Tables: value iteration against every policy and every sequence, discounting, slipping, ways in a maze."""

from __future__ import annotations

import itertools

import pytest
import torch

from steersman.core import Belief, ConfigError, Task
from steersman.core.task import CallableGoal
from steersman.world_model import TabularModel
from steersman.worlds import Grid, TabularCost, TabularMDP

TASK = Task(CallableGoal(lambda columns, imagined: imagined.states[:, :, 1:, 0]))


def expectation(mdp, policy, state, t=0):
    """J of a closed-loop policy (H, S) by walking the tree of outcomes."""
    if t == len(policy):
        return 0.0 if mdp.final is None else float(mdp.final[state])
    choice = policy[t][state]
    ahead = sum(
        float(mdp.transition[choice, state, s]) * expectation(mdp, policy, s, t + 1) for s in range(mdp.states)
    )
    return float(mdp.energies[state, choice]) + mdp.discount * ahead


def test_value_iteration_is_the_best_of_all_policies():
    mdp = TabularMDP.random(3, 2, seed=1, outcomes=2, discount=0.9)
    mdp = TabularMDP(mdp.transition, mdp.energies, torch.tensor([0.5, 0.0, 1.0]), 0.9)
    rules = list(itertools.product(range(2), repeat=3))
    best = min(expectation(mdp, policy, 0) for policy in itertools.product(rules, repeat=2))
    values, policy = mdp.solve(2)
    assert float(values[0, 0]) == pytest.approx(best, rel=1e-5)
    assert expectation(mdp, policy.tolist(), 0) == pytest.approx(best, rel=1e-5)


def test_infinite_horizon_is_the_limit_of_long_ones():
    mdp = TabularMDP.random(6, 3, seed=2, discount=0.8)
    value, policy = mdp.solve_for_ever()
    values, policies = mdp.solve(200)
    torch.testing.assert_close(value, values[0])
    assert torch.equal(policy, policies[0])
    with pytest.raises(ConfigError, match="discount"):
        TabularMDP.random(3, 2, seed=0).solve_for_ever(limit=100)


def test_energy_of_imagined_distributions_is_the_open_loop_expectation():
    mdp = TabularMDP.random(5, 3, seed=3, discount=0.7)
    mdp = TabularMDP(mdp.transition, mdp.energies, torch.rand(5, generator=torch.Generator().manual_seed(0)), 0.7)
    actions = torch.randint(3, (2, 4, 3, 1), generator=torch.Generator().manual_seed(1))
    start = torch.tensor([1, 4])
    imagined = TabularModel(mdp.transition).imagine(Belief(mdp.one_hot(start)), actions)
    ours = TabularCost(mdp).energy(imagined, actions, TASK).sum(2).flatten()
    torch.testing.assert_close(ours.double(), mdp.open_loop_energy(start.repeat_interleave(4), actions.flatten(0, 1)),
                               rtol=1e-5, atol=1e-6)
    energy, sequence = mdp.solve_open_loop(1, 3)
    assert float(energy) <= float(ours[:4].min()) + 1e-6
    torch.testing.assert_close(mdp.open_loop_energy(start[:1], sequence[None])[0], energy)


def test_without_slipping_a_grid_s_value_is_the_length_of_the_way():
    grid = Grid.sample(Grid.Config(width=5, height=4, walls=0.25), seed=3)
    values, policy = grid.mdp.solve(20)
    distance = grid.distance()
    reachable = torch.isfinite(distance)
    assert 5 < int(reachable.sum()) < 20
    torch.testing.assert_close(values[0][reachable], distance[reachable])
    state = grid.free[torch.isfinite(distance[grid.free])]
    for t in range(20):
        state = grid.mdp.step(state, policy[t][state][:, None])
    assert bool((state == grid.goal).all())


def test_slipping_goes_to_the_sides_and_costs():
    config = Grid.Config(width=3, height=3, walls=0.0, slip=0.2)
    grid = Grid(config, torch.zeros(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool), goal=8)
    assert grid.mdp.transition[1, 4].tolist() == pytest.approx([0, 0.1, 0, 0, 0, 0.8, 0, 0.1, 0])
    assert float(grid.mdp.solve(50)[0][0, 0]) > float(grid.distance()[0]) == 4


def test_a_pit_is_avoided():
    config = Grid.Config(width=3, height=2, walls=0.0, pits=0.1, pit=10)
    pit = torch.tensor([[False, True, False], [False, False, False]])
    grid = Grid(config, torch.zeros(2, 3, dtype=torch.bool), pit, goal=2)
    assert float(grid.mdp.solve(10)[0][0, 0]) == 4
