"""Learned predictors with a latent variable: planning under risk, trees, surprise, gradients, storing, refusals."""

from __future__ import annotations

import msgspec
import pytest
import torch

from steersman.actor import CEM, MCTS, DynamicProgramming, Gradient, score
from steersman.actor.tree.stepping import Stepper
from steersman.core import (
    ActionSpec,
    Belief,
    Latent,
    LatentGoal,
    LatentVariableConfig,
    ObservationSpec,
    Problem,
    Risk,
    Signature,
    Task,
    WorldModelConfig,
)
from steersman.core.parts import convert
from steersman.cost import GoalCost
from steersman.world_model import RecurrentModel, ResidualModel, TransformerModel
from steersman.world_model.latent_variable import Categorical, Gaussian

CHOICES = ActionSpec("discrete", choices=2)
AMOUNTS = ActionSpec("continuous", (-1.0,), (1.0,))
QUARTERS = torch.tensor([0.25, 0.75])
SMALL = {"width": 16, "depth": 1, "heads": 1, "head_width": 8, "hidden": 16}
KINDS = {
    "residual": lambda z: ResidualModel.Config(width=16, latent_variable=z),
    "ensemble": lambda z: ResidualModel.Config(width=16, members=3, latent_variable=z),
    "recurrent": lambda z: RecurrentModel.Config(width=16, latent_variable=z),
    "transformer": lambda z: TransformerModel.Config(**SMALL, latent_variable=z),
}


def build(kind, latent, action=CHOICES):
    """Two codes of probability 1/4 and 3/4, or a standard normal, in a predictor in which z counts."""
    torch.manual_seed(1)
    signature = Signature({"state": ObservationSpec("vector", (2,))}, action)
    model = KINDS[kind](latent).build(signature, (2,), None).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("latent_variable"):
                parameter.add_(0.4 * torch.randn_like(parameter))
        if isinstance(latent, Categorical.Config):
            model.latent_variable.to_prior[2].bias.copy_(QUARTERS.log())
    return model


CODES = Categorical.Config(codes=2, width=8)


def asked(model, action=CHOICES, **risk) -> Problem:
    latent = Latent(torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]))
    belief = model.settle(model.start(latent, torch.zeros(3, 0, action.size)))
    return Problem(model, belief, (GoalCost(),), Task(LatentGoal(Latent(torch.zeros(1, 2))), risk=Risk(**risk)), action,
                   torch.arange(3), torch.zeros(3, dtype=torch.int64))


def outcomes(problem, actions):
    """States (B, K, 2, D) of one step for each code, and their probabilities."""
    u = torch.tensor([0.125, 0.625]).view(1, 1, 2, 1, 1).expand(3, actions.shape[1], -1, -1, -1)
    each = problem.model.imagine(problem.belief, actions.repeat_interleave(2, 1), None, u.flatten(1, 2))
    return each.states[:, :, 1].unflatten(1, (-1, 2)), QUARTERS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("over", ["mean", "worst", "cvar"])
@torch.no_grad()
def test_risk_over_a_learned_latent_variable_is_that_of_its_listed_outcomes(kind, over):
    problem = asked(build(kind, CODES), scenarios=64, over=over, tail=0.5)
    actions = torch.tensor([0, 1]).view(1, 2, 1, 1).expand(3, -1, -1, -1)
    ends, p = outcomes(problem, actions)
    energy = ends.square().mean(-1)
    assert float((energy[..., 0] - energy[..., 1]).abs().min()) > 1e-3
    first = energy[..., 0] > energy[..., 1]
    half = torch.where(first, 0.5 * energy[..., 0] + 0.5 * energy[..., 1], energy[..., 1])
    wanted = {"mean": energy @ p, "worst": energy.amax(-1), "cvar": half}[over]
    torch.testing.assert_close(score(problem, actions).energy, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["residual", "recurrent", "transformer"])
@torch.no_grad()
def test_trees_weigh_the_outcomes_that_a_learned_prior_lists(kind):
    """The value of two steps is Σ p (e + min Σ p e), by hand."""
    problem = asked(build(kind, CODES))
    model, belief, (b, r) = problem.model, problem.belief, (3, 2)
    actions = torch.tensor([0, 1]).view(1, r, 1, 1).expand(b, -1, -1, -1)
    u = torch.tensor([0.125, 0.625])
    first = model.imagine(belief, actions.repeat_interleave(2, 1), None,
                          u.repeat(b, r).view(b, 4, 1, 1))  # (B, 2·2, …)
    second = model.imagine(first.last(), actions.repeat(4, 2, 1, 1), None,
                           u.repeat_interleave(2).repeat(b * 4, 1).view(b * 4, 4, 1, 1))
    e = [x.states[:, :, 1].square().mean(-1) for x in (first, second)]
    to_come = (e[1].view(b, r, 2, 2, r) * QUARTERS.view(1, 1, 1, 2, 1)).sum(3).amin(3)
    value = ((e[0].view(b, r, 2) + to_come) * QUARTERS).sum(2)
    planners = [MCTS(MCTS.Config(simulations=64, horizon=2))]
    if not belief.carry:
        planners.append(DynamicProgramming(DynamicProgramming.Config(horizon=2, resolution=1e-6)))
    for planner in planners:
        plan = planner.plan(problem)
        assert torch.equal(plan.action[:, 0], value.argmin(1)), planner


@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
@torch.no_grad()
def test_a_tree_asks_the_prior_with_each_states_own_history(kind):
    problem = asked(build(kind, CODES))
    model, variable = problem.model, problem.model.latent_variable
    for parameter in variable.to_prior.parameters():
        parameter.add_(torch.randn_like(parameter))
    stepper = Stepper(problem, 2, 1, 2)
    belief, choice = problem.belief, torch.tensor([[0, 1]]).expand(3, -1)
    first = model.imagine(belief, choice[:, :, None, None])
    second = stepper.step(first.states[:, :, 1], first.carry, choice, 1)
    alone = model.support(first.last(), first.states[:, :, 1].flatten(0, 1)[:, None], choice.reshape(-1, 1, 1),
                          None, tuple(x.flatten(0, 1)[:, None] for x in first.carry))
    blank = model.support(belief, first.states[:, :, 1], choice[..., None], None, tuple(0 * x for x in first.carry))
    torch.testing.assert_close(second.outcomes.probability.flatten(0, 1), alone.probability[:, 0])
    assert float((second.outcomes.probability - blank.probability).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_and_gradient_planners_take_risk_over_a_gaussian(kind):
    problem = asked(build(kind, Gaussian.Config(size=1, width=8), AMOUNTS), AMOUNTS, scenarios=8, over="cvar", tail=0.5)
    for planner in (CEM(CEM.Config(samples=16, iterations=2, elites=4, horizon=3)),
                    Gradient(Gradient.Config(restarts=2, steps=3, horizon=3))):
        plan = planner.plan(problem)
        alone = planner.plan(problem.rows(torch.tensor([1])))
        assert bool(torch.isfinite(plan.energy["goal"]).all())
        torch.testing.assert_close(alone.actions[0], plan.actions[1], rtol=1e-3, atol=1e-3)
    actions = torch.zeros(3, 1, 3, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(score(problem, actions).energy.sum(), actions)
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_surprise_is_that_of_the_outcome_which_explains_the_moment_best(kind):
    model = build(kind, CODES)
    problem = asked(model)
    action = torch.ones(3, 1, 1, dtype=torch.long)
    ends, _ = outcomes(problem, action[:, None])
    for code in (0, 1):
        _, quiet = model.observe(problem.belief, action, Latent(ends[:, 0, code]))
        assert float(quiet.energy.max()) < 1e-8
    _, loud = model.observe(problem.belief, action, Latent(ends[:, 0].mean(1)))
    apart = (ends[:, 0, 0] - ends[:, 0, 1]).square().mean(-1) / 4
    torch.testing.assert_close(loud.pooled(), apart, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_that_is_explained_follows_what_was_seen_and_teaches_every_weight(kind):
    model = build(kind, CODES)
    problem = asked(model)
    g = torch.Generator().manual_seed(2)
    actions, u = torch.randint(2, (3, 4, 1), generator=g), torch.rand(3, 1, 4, 1, generator=g)
    with torch.no_grad():
        walk = model.imagine(problem.belief, actions[:, None], None, u).states
    found, nats = model.explain(problem.belief, actions, walk[:, 0, 1:])
    torch.testing.assert_close(found.states, walk)
    torch.testing.assert_close(nats, -QUARTERS[(u[:, 0, :, 0] >= 0.25).long()].log())
    (found.states.square().sum() + nats.sum()).backward()
    untaught = {name for name, x in model.named_parameters() if x.grad is None or not bool(x.grad.any())}
    assert untaught == {"latent_variable.to_prior.0.weight", "latent_variable.to_prior.0.bias"}  # behind a silent layer


def test_nothing_compiled_or_in_place_runs_past_a_latent_variable():
    plain, model = (ResidualModel.Config(width=16, latent_variable=z).build(
        Signature({"state": ObservationSpec("vector", (2,))}, CHOICES), (2,)).eval() for z in (None, CODES))
    choices = torch.tensor([[0], [1]])
    assert plain.as_perceptron(choices) is not None
    assert model.as_perceptron(choices) is None
    model = build("residual", CODES)
    u = torch.tensor([0.1, 0.9]).view(1, 2, 1, 1)
    with torch.no_grad():
        ends = model.branch(Belief(torch.zeros(1, 2)), torch.zeros(1, 2, 2), torch.zeros(1, 2, 1, 1).long(), None, u)
    assert float((ends.states[0, 0, 1] - ends.states[0, 1, 1]).abs().max()) > 1e-3


def test_members_of_an_ensemble_share_z_and_keep_their_own_fork():
    model = build("ensemble", CODES)
    belief, actions = Belief(torch.randn(4, 2)), torch.randint(2, (4, 3, 1, 1))
    u = torch.rand(4, 3, 1, 1)
    with torch.no_grad():
        whole = model.imagine(belief, actions, None, u)
        each = torch.stack([single.imagine(belief, actions, None, u).states for single in model.singles()])
    torch.testing.assert_close(each.mean(0), whole.states)
    torch.testing.assert_close(each[:, :, :, 1].var(0).mean(-1).sqrt(), whole.disagreement[..., 0])
    assert float(each.var(0).max()) > 1e-4
    model.train()
    found, nats = model.explain(belief, actions[:, 0], torch.randn(4, 1, 2))
    (found.states.sum() + nats.sum()).backward()


@pytest.mark.parametrize("latent", [CODES, Gaussian.Config(size=3), None])
def test_a_configuration_is_stored_and_read_with_its_latent_variable(latent):
    config = ResidualModel.Config(latent_variable=latent)
    assert convert(msgspec.to_builtins(config), WorldModelConfig) == config
    assert latent is None or isinstance(latent, LatentVariableConfig)
    old = {"type": "residual", "width": 128}
    assert convert(old, WorldModelConfig).latent_variable is None


def test_a_model_without_chance_explains_by_what_it_foresees():
    model = ResidualModel.Config(width=16).build(Signature({"state": ObservationSpec("vector", (2,))}, CHOICES), (2,))
    belief, actions = Belief(torch.randn(3, 2)), torch.randint(2, (3, 4, 1))
    found, nats = model.explain(belief, actions, torch.randn(3, 4, 2))
    torch.testing.assert_close(found.states, model.imagine(belief, actions[:, None]).states)
    assert nats.tolist() == torch.zeros(3, 4).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_is_explained_by_nothing(kind):
    model = build(kind, CODES)
    found, nats = model.explain(asked(model).belief, torch.zeros(3, 0, 1).long(), torch.zeros(3, 0, 2))
    assert found.states.shape == (3, 1, 1, 2)
    assert nats.shape == (3, 0)
