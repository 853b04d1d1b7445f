"""Beliefs over time: parallel filters equal loops in float64, long streams stay small, surprise by age and chance."""

from __future__ import annotations

import pytest
import torch
from test_predictors import CONFIGS, D, build, problem

from steersman.core import Belief, Latent, PlanningError, WorldModel
from steersman.core.records import tensors
from steersman.world_model import ObserverModel, TabularModel, TransformerModel

PARALLEL = ("residual", "ensemble", "transformer", "transformer-1", "transformer-8", "transformer-heads")


def streamed(model, latent, past, inputs, reset=None, measured=None):
    belief, surprises = None, []
    for t in range(latent.state.shape[1]):
        since = slice(max(t - 1, 0), t)
        belief, surprise = model.observe(
            belief, past[:, since], Latent(latent.state[:, t]), inputs[:, since],
            None if measured is None else measured[:, t], None if reset is None else reset[:, t])
        surprises.append(surprise)
    return belief, surprises


@pytest.mark.parametrize("name", CONFIGS)
def test_begin_filter_and_observe_believe_the_same(name):
    model = build(CONFIGS[name]).requires_grad_(False)
    latent, past, inputs, actions, coming = problem(history=9)
    begun = model.begin(latent, past, inputs)
    wanted = model.imagine(begun, actions, coming).states
    belief, _ = streamed(model, latent, past, inputs)
    filtered = model.filter(latent, past, inputs)
    for other in (belief, filtered.belief):
        torch.testing.assert_close(other.state, begun.state, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(model.imagine(other, actions, coming).states, wanted, rtol=1e-11, atol=1e-11)
    assert float((wanted[:, :, 1] - wanted[:, :, 0]).abs().min()) > 1e-6


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("ahead", [1, 4, 20])
def test_moments_worked_through_together_equal_one_by_one(name, ahead):
    model = build(CONFIGS[name]).requires_grad_(False)
    latent, past, inputs, actions, coming = problem(history=8)
    reset = torch.zeros(3, 8, dtype=torch.bool)
    reset[1, 3] = reset[2, 1] = reset[2, 7] = True
    assert (model.beliefs(latent, past, inputs) is not None) == (name in PARALLEL)
    for anew in (None, reset):
        fast = model.filter(latent, past, inputs, reset=anew, ahead=ahead)
        slow = WorldModel._one_by_one(model, latent, past, inputs, None, anew, ahead)
        assert fast.surprise.energy.shape == (3, 8, ahead, D)
        assert torch.equal(fast.surprise.known, slow.surprise.known)
        assert torch.equal(fast.surprise.horizon, slow.surprise.horizon)
        torch.testing.assert_close(fast.surprise.energy, slow.surprise.energy, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(fast.states, slow.states, rtol=1e-11, atol=1e-11)
        for a, b in ((fast.belief, slow.belief),):
            torch.testing.assert_close(model.imagine(a, actions, coming).states,
                                       model.imagine(b, actions, coming).states, rtol=1e-9, atol=1e-9)


def test_surprise_of_an_age_is_the_square_of_what_that_prediction_missed():
    model = build(CONFIGS["recurrent"]).requires_grad_(False)
    latent, past, inputs, _, _ = problem(history=6)
    measured = torch.rand(3, 6, D, generator=torch.Generator().manual_seed(0)) < 0.7
    measured[:, 0] = True
    found = model.filter(latent, past, inputs, measured, ahead=3).surprise
    belief, _ = streamed(model, Latent(latent.state[:, :3]), past, inputs, measured=measured)
    foreseen = model.imagine(belief, past[:, None, 2:5], inputs[:, 2:5]).states[:, 0]
    for age in (1, 2, 3):
        error = (latent.state[:, 2 + age] - foreseen[:, age]).square()
        error = error * measured[:, 2 + age]
        torch.testing.assert_close(found.energy[:, 2 + age, age - 1], error, rtol=1e-11, atol=1e-11)
        assert torch.equal(found.known[:, 2 + age, age - 1], measured[:, 2 + age])
    assert found.horizon[0].tolist() == [[0, 0, 0], [1, 0, 0], [1, 2, 0], [1, 2, 3], [1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("name", ["residual", "observer", "recurrent", "transformer-8"])
def test_a_thousand_moments_leave_a_belief_as_small_and_as_exact_as_ten(name):
    """Rows begin anew at different moments; at the end each equals its last episode alone."""
    model = build(CONFIGS[name]).float().requires_grad_(False)
    if name == "observer":
        model.gain.weight.mul_(0.1)[:D].add_(0.5 * torch.eye(D))  # random ones run away
    g = torch.Generator().manual_seed(0)
    latent = Latent(torch.randn(3, 1000, D, generator=g))
    past, inputs = torch.rand(3, 999, 2, generator=g), torch.randn(3, 999, 2, generator=g)
    reset = torch.zeros(3, 1000, dtype=torch.bool)
    reset[1, 400] = reset[1, 994] = reset[2, 998] = True
    early, _ = streamed(model, Latent(latent.state[:, :10]), past[:, :9], inputs[:, :9])
    belief, _ = streamed(model, latent, past, inputs, reset)
    sizes = [{name: tuple(x.shape) for name, x in tensors(b).items()} for b in (early, belief)]
    assert sizes[0] == sizes[1]
    actions, coming = torch.rand(3, 2, 4, 2, generator=g), torch.randn(3, 4, 2, generator=g)
    got = model.imagine(belief, actions, coming).states
    for row, first in enumerate((0, 994, 998)):
        one = slice(row, row + 1)
        alone = model.begin(Latent(latent.state[one, first:]), past[one, first:], inputs[one, first:])
        wanted = model.imagine(alone, actions[one], coming[one]).states
        torch.testing.assert_close(got[one], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("context", [3, 8])
def test_a_transformer_goes_on_from_what_begin_gave_and_branches_in_rows_of_any_age(context):
    model = build(TransformerModel.Config(width=16, depth=2, heads=2, head_width=8, hidden=32, context=context))
    model.requires_grad_(False)
    latent, past, inputs, actions, coming = problem(history=5)
    belief = model.begin(Latent(latent.state[:, :4]), past[:, :3], inputs[:, :3])
    belief, _ = model.observe(belief, past[:, 3:], Latent(latent.state[:, 4]), inputs[:, 3:],
                              reset=torch.tensor([False, True, False]))
    whole = model.imagine(belief, actions, coming)
    half = model.imagine(belief, actions[:, :, :3], coming[:, :3])
    rest = model.branch(belief, half.states[:, :, -1], actions[:, :, 3:], coming[:, 3:], carry=half.carry)
    torch.testing.assert_close(rest.states[:, :, 1:], whole.states[:, :, 4:], rtol=1e-10, atol=1e-10)
    assert belief.carry[-1].tolist() == [min(4, context - 1), 0, min(4, context - 1)]


def test_an_observer_is_corrected_only_by_what_was_measured():
    model = build(ObserverModel.Config(width=16, disturbances=3)).requires_grad_(False)
    latent, past, inputs, _, _ = problem(history=2)
    before = model.begin(Latent(latent.state[:, :1]), past[:, :0], inputs[:, :0])
    foreseen = model.imagine(before, past[:, None], inputs).last()
    measured = torch.tensor([True, False, True, False, False, True])
    after, _ = model.observe(before, past, Latent(latent.state[:, 1]), inputs, measured)
    error = torch.where(measured, latent.state[:, 1] - foreseen.state, 0.0)
    torch.testing.assert_close(after.state, foreseen.state + error @ model.gain.weight[:D].T)
    torch.testing.assert_close(after.carry[0], error @ model.gain.weight[D:].T)


def test_where_something_is_left_to_chance_the_outcome_that_explains_best_counts():
    table = torch.tensor([[[0.5, 0.5, 0.0], [0.0, 0.1, 0.9], [0.0, 0.0, 1.0]]])
    model, eye = TabularModel(table), torch.eye(3)
    still = torch.zeros(1, 4, 1, dtype=torch.long)
    possible = model.filter(Latent(eye[torch.tensor([[0, 0, 1, 1, 2]])]), still, ahead=3).surprise
    assert float(possible.energy[:, :, 0].max()) < 1e-9
    assert bool(possible.known[:, 1:, 0].all())
    impossible = model.filter(Latent(eye[torch.tensor([[0, 2, 2, 0, 0]])]), still).surprise
    assert impossible.energy[0, 1, 0].tolist() == [0, 1, 1] or impossible.energy[0, 1, 0].tolist() == [1, 0, 1]
    assert impossible.energy[0, 3, 0].tolist() == [1, 0, 1]
    assert float(impossible.energy[0, 2].max()) == float(impossible.energy[0, 4].max()) == 0
    slow = WorldModel._one_by_one(model, Latent(eye[torch.tensor([[0, 0, 1, 1, 2]])]), still, None, None, None, 3)
    torch.testing.assert_close(slow.surprise.energy, possible.energy)


def test_an_episode_that_begins_must_be_measured():
    model = build(CONFIGS["residual"])
    none = torch.zeros(2, 0, 2)
    with pytest.raises(PlanningError, match="observe its first moment"):
        model.observe(None, none, None)
    with pytest.raises(PlanningError, match="observe its first moment"):
        model.observe(Belief(torch.zeros(2, D)), none, None, reset=torch.tensor([False, True]))
