"""What is left to chance: outcomes are listed with their probabilities; members of an ensemble stand alone."""

from __future__ import annotations

import torch

from steersman.core import ActionSpec, Belief, ObservationSpec, Signature
from steersman.world_model import ResidualModel, TabularModel
from steersman.worlds import TabularMDP


def test_outcomes_of_a_table_are_its_row_and_each_u_leads_to_its_own():
    mdp = TabularMDP.random(7, 3, seed=0)
    model = TabularModel(mdp.transition)
    state, choice = torch.arange(7).repeat_interleave(3), torch.arange(3).repeat(7)
    starts, actions = mdp.one_hot(state)[None], choice[None, :, None]
    outcomes = model.support(Belief(torch.zeros(1, 7)), starts, actions)
    count = outcomes.probability.shape[-1]
    assert outcomes.u.shape == (1, 21, count, 1)
    torch.testing.assert_close(outcomes.probability.sum(-1), torch.ones(1, 21))
    row = torch.zeros(21, 7)
    for o in range(count):
        after = model.branch(Belief(torch.zeros(1, 7)), starts, actions[:, :, None], u=outcomes.u[:, :, o, None])
        row += outcomes.probability[0, :, o, None] * after.states[0, :, 1]
    torch.testing.assert_close(row, mdp.transition[choice, state])


def test_a_table_without_chance_has_no_outcomes_and_most_models_have_none():
    sure = TabularModel(torch.eye(3).roll(1, 0)[None])
    assert sure.support(Belief(torch.eye(3)), torch.eye(3)[None], torch.zeros(1, 3, 1, dtype=torch.long)) is None
    model = residual(1)
    assert model.support(Belief(torch.zeros(1, 3)), torch.zeros(1, 2, 3), torch.zeros(1, 2, 2)) is None
    assert model.singles() == (model,)


def test_each_member_of_an_ensemble_is_a_world_model_and_their_mean_is_the_ensemble():
    model = residual(3)
    state, actions = torch.randn(4, 3), torch.rand(4, 5, 1, 2) * 2 - 1
    with torch.no_grad():
        whole = model.imagine(Belief(state), actions)
        each = torch.stack([single.imagine(Belief(state), actions).states for single in model.singles()])
    assert len(each) == 3
    torch.testing.assert_close(each.mean(0), whole.states)
    spread = each[:, :, :, 1].var(0).mean(-1).sqrt()
    torch.testing.assert_close(spread, whole.disagreement[..., 0])


def residual(members):
    torch.manual_seed(0)
    spec = ActionSpec("continuous", (-1.0,) * 2, (1.0,) * 2)
    signature = Signature({"state": ObservationSpec("vector", (3,))}, spec)
    return ResidualModel.Config(width=16, members=members).build(signature, (3,)).eval()
