"""Path integral control: against pytorch-mppi and against a loop; what weighs nothing; what is checked."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from problems import MOVES, Limit, choose, reach

from steersman.actor import MPPI, score
from steersman.actor.ground.bounds import Bounds
from steersman.actor.sampling.mppi import _Amounts
from steersman.core import ConfigError, PlanningError
from steersman.core.random import Streams


def plain(**changes):
    """MPPI as it was published: no refit, no normalisation, the control cost."""
    settings = {"samples": 50, "iterations": 4, "horizon": 6, "temperature": 0.7, "normalise": "none", "refit": 0.0}
    return MPPI.Config(**{**settings, "control": 1.0, **changes})


COVARIANCE = ((0.2, 0.08), (0.08, 0.1))


@pytest.mark.parametrize("covariance", [(), COVARIANCE], ids=["diagonal", "full"])
def test_the_mean_is_that_of_pytorch_mppi_given_the_same_noise(covariance):
    mppi = pytest.importorskip("pytorch_mppi").MPPI
    bounds, config = 1.5, plain(covariance=covariance)
    problem = reach([[0.0, 0.0]], [[3.0, -2.0]], low=-bounds, high=bounds, seeds=[11])
    sigma = (torch.tensor(covariance) if covariance else 0.25 * torch.eye(2)) * bounds**2
    factor = torch.linalg.cholesky(sigma)
    streams = Streams(problem.seeds, problem.decision)

    class GivenNoise(mppi):
        def _sample_noise(self, shape):
            if len(shape) == 1:
                return torch.zeros(*shape, 2)
            noise = streams.normal(*shape, 2)[0] @ factor.mT
            noise[0] = 0
            return noise

    goal = torch.tensor([3.0, -2.0])
    other = GivenNoise(
        lambda state, action: state + action, lambda state, action: (state + action - goal).square().mean(-1), 2,
        sigma, num_samples=config.samples, horizon=config.horizon, lambda_=config.temperature,
        u_min=torch.full((2,), -bounds), u_max=torch.full((2,), bounds), U_init=torch.zeros(config.horizon, 2),
    )
    other._running_cost_fn = lambda state, action, t: (state - goal).square().mean(-1)  # after the step, as ours
    for _ in range(config.iterations):
        other.command(torch.zeros(2), shift_nominal_trajectory=False)
    plan = config.build().plan(problem)
    torch.testing.assert_close(plan.actions[0], other.U, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalise", ["none", "deviation", "range"])
@pytest.mark.parametrize("elites", [0, 7])
def test_weights_equal_a_loop_over_problems_and_candidates(normalise, elites):
    limit = Limit(0, 0.4)
    config = plain(normalise=normalise, elites=elites, refit=1.0, floor=0.0, spread=0.5, control=0.0)
    starts = [[0.0, 0.0], [-3.0, 1.0], [9.0, 0.0]]  # some candidates break the limit, none does, all do
    problem = reach(starts, [[0.8, -2.0]], guardrails=[limit])
    proposal = _Amounts(config, problem, 6)
    actions = proposal.sample(0, 50)
    scores = score(problem, actions)
    order = torch.stack([
        torch.tensor(sorted(range(50), key=lambda k, b=b: (
            not scores.feasible[b, k], float(scores.energy[b, k] if scores.feasible[b, k] else scores.violation[b, k])
        ))) for b in range(3)
    ])
    proposal.refit(actions, scores, order)
    assert scores.feasible.any(1).tolist() == [True, True, False]
    for b in range(3):
        some = bool(scores.feasible[b].any())
        counted = [k for k in range(50) if not some or bool(scores.feasible[b, k])]
        if elites:
            counted = [k for k in order[b].tolist() if k in counted][:elites]
        value = {k: float((scores.energy if some else scores.violation)[b, k]) for k in counted}
        mean = sum(value.values()) / len(value)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in value.values()) / len(value))
        unit = {"none": 1.0, "deviation": deviation, "range": max(value.values()) - min(value.values())}[normalise]
        weight = {k: math.exp(-(v - min(value.values())) / (0.7 * unit)) for k, v in value.items()}
        total = sum(weight.values())
        centre = sum(w / total * actions[b, k] for k, w in weight.items())
        torch.testing.assert_close(proposal.distribution.mean[b], centre, rtol=1e-4, atol=1e-5)
        spread = sum(w / total * (actions[b, k] - centre).square() for k, w in weight.items()).sqrt()
        torch.testing.assert_close(proposal.distribution.deviation[b], spread, rtol=1e-3, atol=1e-5)


class Apart(Limit):
    """The middle is forbidden: |x| >= below after every step."""

    def margin(self, imagined, actions):
        return self.below - imagined.states[:, :, 1:, self.index].abs()


def test_a_mean_of_feasible_candidates_that_is_not_feasible_is_not_the_answer():
    """Left and right of a forbidden strip cost the same; half of each lies in it."""
    problem = reach([[0.0]], [[0.0]], guardrails=[Apart(0, 0.4)], low=-1.0, high=1.0)
    problem = replace(problem, task=replace(problem.task, horizon=1))
    config = MPPI.Config(samples=400, iterations=1, horizon=1, temperature=50.0)
    mean = config.build()
    proposal = _Amounts(config, problem, 1)
    actions = proposal.sample(0, 400)
    scores = score(problem, actions)
    proposal.refit(actions, scores, scores.energy.argsort(1))
    assert abs(float(proposal.distribution.mean)) < 0.4
    plan = mean.plan(problem)
    assert bool(plan.feasible)
    assert abs(float(plan.actions)) >= 0.4


def test_the_mean_is_the_answer_where_it_keeps_every_guardrail_and_the_better_one_if_asked():
    problem = reach([[0.0, 0.0]] * 3, [[2.0, 1.0]], guardrails=[Limit(0, 50.0)])
    mean = plain(control=0.0).build().plan(problem)
    best = plain(control=0.0, answer="best").build().plan(problem)
    assert bool(mean.feasible.all())
    assert bool((best.energy["goal"].sum(1) <= mean.energy["goal"].sum(1)).all())
    torch.testing.assert_close(mean.actions, Bounds(problem.action, torch.zeros(1)).clamp(mean.warm.mean))


def test_choices_move_to_weighted_frequencies():
    problem = choose([[0.0, 0.0], [3.0, 1.0]], [[2.0, -2.0]], MOVES)
    plan = MPPI.Config(samples=300, iterations=12, horizon=4, temperature=0.3).build().plan(problem)
    assert plan.actions.dtype == torch.int64
    reached = plan.imagined.states[:, 0, -1]
    torch.testing.assert_close(reached[0], torch.tensor([2.0, -2.0]))
    torch.testing.assert_close(reached[1], torch.tensor([2.0, -2.0]))


@pytest.mark.parametrize("changes", [
    {"temperature": 0.0}, {"refit": 2.0}, {"covariance": ((1.0, 2.0), (2.0, 1.0))}, {"covariance": ((1.0,), (2.0,))},
])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ConfigError):
        plain(**changes)


def test_a_covariance_for_another_action_is_refused():
    with pytest.raises((ConfigError, PlanningError), match="covariance of 1 rows"):
        plain(covariance=COVARIANCE).build().plan(reach([[0.0]], [[1.0]]))
