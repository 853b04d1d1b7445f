"""Latent variables that are given: the next state of a table, and a simulator's dice."""

from __future__ import annotations

import pytest
import torch

from steersman.core import Belief, ConfigError, Latent
from steersman.world_model import TabularModel
from steersman.world_model.latent_variable import NextState, Noise
from steersman.worlds import TabularMDP


def test_a_table_leaves_its_next_state_to_chance_and_a_certain_one_nothing():
    mdp = TabularMDP.random(5, 2, seed=0)
    model = TabularModel(mdp.transition)
    assert isinstance(model.latent_variable, NextState)
    assert model.chance == 1
    assert list(model.state_dict()) == ["transition"]
    sure = TabularModel(torch.eye(3).roll(1, 0)[None])
    assert sure.latent_variable is None
    assert sure.chance == 0


def test_what_was_seen_tells_the_next_state_exactly_and_minus_log_of_its_probability():
    mdp = TabularMDP.random(6, 2, seed=1, outcomes=3)
    variable, p = NextState(mdp.transition), mdp.transition[1]
    after = torch.stack([row.argmax() for row in p])
    found = variable.posterior(torch.eye(6), torch.ones(6, 1, dtype=torch.long), torch.eye(6)[after])
    assert torch.equal(found.z.argmax(1), after)
    torch.testing.assert_close(found.information, -p[range(6), after].log())
    never = (p == 0).long().argmax(1)
    found = variable.posterior(torch.eye(6), torch.ones(6, 1, dtype=torch.long), torch.eye(6)[never])
    assert torch.equal(found.z.argmax(1), after)
    torch.testing.assert_close(found.information, torch.zeros(6))


def test_bayes_weighs_what_was_seen_vaguely_against_the_table():
    p = torch.tensor([[[0.5, 0.3, 0.2]] * 3])
    likelihood = torch.tensor([0.1, 0.5, 0.9])
    found = NextState(p).posterior(torch.eye(3)[:1], torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 3),
                                   lambda z: -(z @ likelihood).log())
    posterior = p[0, 0] * likelihood / (p[0, 0] @ likelihood)
    assert int(found.z.argmax()) == int(posterior.argmax())
    torch.testing.assert_close(found.information, (posterior * (posterior / p[0, 0]).log()).sum()[None])


def test_a_sampled_walk_is_explained_as_it_went_and_what_was_seen_surprises_nobody():
    mdp = TabularMDP.random(6, 2, seed=2, outcomes=2)
    model = TabularModel(mdp.transition)
    g = torch.Generator().manual_seed(0)
    actions, u = torch.randint(2, (4, 1, 5, 1), generator=g), torch.rand(4, 1, 5, 1, generator=g)
    belief = Belief(torch.eye(6)[:4])
    walk = model.imagine(belief, actions, u=u).states[:, 0]
    found, nats = model.explain(belief, actions[:, 0], walk[:, 1:])
    assert torch.equal(found.states[:, 0], walk)
    before, after = walk[:, :-1].argmax(-1), walk[:, 1:].argmax(-1)
    torch.testing.assert_close(nats, -mdp.transition[actions[:, 0, :, 0], before, after].log())
    surprise = model.filter(Latent(walk), actions[:, 0]).surprise
    assert float(surprise.energy.abs().max()) == 0


def test_noise_is_handed_on_as_it_is():
    noise, u = Noise(2), torch.rand(3, 2)
    assert torch.equal(noise.draw(u, torch.zeros(3, 1), torch.zeros(3, 1)), u)
    assert noise.posterior(torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3, 1)).information.tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="leave `latent_variable` None"):
        Noise(0)
