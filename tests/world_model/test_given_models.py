"""Models that are given: linear with known inputs, tables as distributions and as samples, branches, refusals."""

from __future__ import annotations

import pytest
import torch

from steersman.core import Belief, ConfigError
from steersman.world_model import LinearModel, TabularModel


def table(seed=0, choices=3, states=4):
    p = torch.rand(choices, states, states, generator=torch.Generator().manual_seed(seed))
    return p / p.sum(-1, keepdim=True)


def test_linear_model_adds_known_inputs_and_an_offset():
    model = LinearModel(torch.eye(2), torch.eye(2), torch.ones(2, 1), torch.tensor([0.0, 10.0]))
    imagined = model.imagine(Belief(torch.zeros(1, 2)), torch.ones(1, 1, 2, 2), torch.tensor([[[1.0], [2.0]]]))
    assert imagined.states[0, 0].tolist() == [[0, 0], [2, 12], [5, 25]]


def test_linear_model_has_gradients_in_actions():
    model, actions = LinearModel(torch.eye(2), torch.eye(2)), torch.zeros(1, 1, 3, 2, requires_grad=True)
    model.imagine(Belief(torch.zeros(1, 2)), actions).states[0, 0, -1].sum().backward()
    assert actions.grad is not None
    assert bool((actions.grad == 1).all())


def test_branches_equal_rollouts_from_those_states():
    g = torch.Generator().manual_seed(0)
    states, actions = torch.randn(2, 3, 2, generator=g), torch.randn(2, 3, 4, 2, generator=g)
    linear = LinearModel(torch.randn(2, 2, generator=g), torch.eye(2))
    ours = linear.branch(Belief(torch.zeros(2, 2)), states, actions).states
    theirs = linear.imagine(Belief(states.flatten(0, 1)), actions.flatten(0, 1)[:, None]).states
    torch.testing.assert_close(ours.flatten(0, 1), theirs[:, 0])


def test_table_gives_the_exact_distribution_of_open_loop_actions():
    p, choices = table(), torch.tensor([[[0], [2]], [[1], [1]]])
    start = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    states = TabularModel(p).imagine(Belief(start), choices[None]).states
    torch.testing.assert_close(states[0, 0, 2], start[0] @ p[0] @ p[2])
    torch.testing.assert_close(states[0, 1, 2], start[0] @ p[1] @ p[1])


def test_samples_of_a_table_have_its_frequencies():
    p, n = table(), 20_000
    start = torch.eye(4)[1].expand(1, 4)
    u = torch.rand(1, n, 2, 1, generator=torch.Generator().manual_seed(0))
    states = TabularModel(p).imagine(Belief(start), torch.zeros(1, n, 2, 1, dtype=torch.long), u=u).states
    assert bool((states.sum(-1) == 1).all())
    assert bool((states.amax(-1) == 1).all())
    assert float((states[0, :, 2].mean(0) - start[0] @ p[0] @ p[0]).abs().max()) < 0.02


def test_a_state_of_probability_zero_is_never_drawn():
    p = torch.tensor([[[0.5, 0.5, 0.0]] * 3])
    u = torch.tensor([0.0, 0.4999999, 0.5, 1 - 2**-24, 1.0]).view(1, 5, 1, 1)
    states = TabularModel(p).imagine(Belief(torch.eye(3)[:1]), torch.zeros(1, 5, 1, 1, dtype=torch.long), u=u).states
    assert states[0, :, 1].argmax(-1).tolist() == [0, 0, 1, 1, 1]


def test_what_is_no_table_is_refused():
    with pytest.raises(ConfigError, match="sum to 1"):
        TabularModel(torch.ones(1, 2, 2))
    with pytest.raises(ConfigError, match="states"):
        TabularModel(torch.ones(2, 2))
    with pytest.raises(ConfigError, match="matrices"):
        LinearModel(torch.eye(2), torch.ones(3, 1))
