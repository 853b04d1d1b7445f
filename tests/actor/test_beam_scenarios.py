"""Beam search over scenarios against every sequence there is, judged with the same draws."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from steersman.actor import MCTS, Beam, score
from steersman.actor.tree.stepping import choices
from steersman.core import (
    ActionSpec,
    Belief,
    Guardrail,
    Imagined,
    Latent,
    LatentGoal,
    PlanningError,
    Problem,
    Risk,
    Task,
    WorldModel,
)
from steersman.cost import GoalCost
from steersman.world_model.latent_variable import Noise

AMOUNT = ActionSpec("continuous", (-1.0,), (1.0,))


class Gusts(WorldModel):
    """s' = s + a, and with probability .3 back by twice what was pushed forward."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_variable = Noise(1)

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        state = belief.state[:, None].expand(-1, actions.shape[1], -1)
        states = [state]
        for t in range(actions.shape[2]):
            push, noise = actions[:, :, t], 1.0 if u is None else u[:, :, t]
            state = state + push - 2 * push.clamp(min=0) * (torch.as_tensor(noise) < 0.3)
            states.append(state)
        return Imagined(torch.stack(states, 2))


class Behind(Guardrail):
    name = "not behind"

    def margin(self, imagined, actions):
        return -0.4 - imagined.states[:, :, 1:, 0]


def problem(risk: Risk, rails: tuple[Guardrail, ...] = ()) -> Problem:
    task = Task(LatentGoal(Latent(torch.tensor([[2.0]]))), guardrails=rails, risk=risk)
    return Problem(Gusts(), Belief(torch.tensor([[0.0], [0.5], [2.5]])), (GoalCost(),), task, AMOUNT,
                   torch.tensor([4, 7, 9]), torch.zeros(3, dtype=torch.int64))


def every(problem: Problem, hold: int, depth: int) -> torch.Tensor:
    """All sequences (B, K, H, A) of the fan's choices."""
    table = choices(problem, 3)
    index = torch.tensor(list(itertools.product(range(len(table)), repeat=depth)))
    return table[index].repeat_interleave(hold, 1).expand(len(problem), -1, -1, -1)


@pytest.mark.parametrize("risk", [Risk(8), Risk(8, "worst"), Risk(8, "cvar", 0.3), Risk(1)], ids=lambda r: r.over)
@pytest.mark.parametrize("hold", [1, 2])
def test_a_wide_beam_finds_the_best_of_all_sequences(risk, hold) -> None:
    asked, depth = problem(risk), 4 // hold
    planner = Beam(Beam.Config(width=100, fan=3, hold=hold, horizon=4))
    plan = planner.plan(asked)
    whole = score(asked, every(asked, hold, depth))
    torch.testing.assert_close(plan.energy["goal"].sum(1), whole.energy.amin(1))
    alone = planner.plan(asked.rows(torch.tensor([1])))
    assert torch.equal(alone.actions[0], plan.actions[1])
    r = len(choices(asked, 3))
    assert plan.calls[0] == risk.scenarios * hold * sum(r**t for t in range(1, depth + 1))


def test_a_guardrail_may_be_broken_in_its_share_of_scenarios() -> None:
    strict, loose = (problem(Risk(10, broken=share), (Behind(),)) for share in (0.0, 0.5))
    planner = Beam(Beam.Config(width=100, fan=3, horizon=3))
    plans = [planner.plan(one) for one in (strict, loose)]
    for asked, plan in zip((strict, loose), plans, strict=True):
        whole = score(asked, every(asked, 1, 3))
        best = whole.energy.masked_fill(~whole.feasible, torch.inf).amin(1)
        torch.testing.assert_close(plan.energy["goal"].sum(1), best)
    assert float(plans[0].energy["goal"][0].sum()) > float(plans[1].energy["goal"][0].sum())


def test_equal_ends_in_every_scenario_count_once_and_a_budget_counts_scenarios() -> None:
    asked = problem(Risk(6))
    merged = Beam(Beam.Config(width=100, fan=3, horizon=4, merge=1e-4)).plan(asked)
    torch.testing.assert_close(merged.energy["goal"].sum(1), score(asked, every(asked, 1, 4)).energy.amin(1))
    task = asked.task
    tight = replace(asked, task=replace(task, budget=replace(task.budget, calls=6 * 3 * 4 + 6 * 4)))
    assert int(Beam(Beam.Config(width=100, fan=3, horizon=4)).plan(tight).calls.max()) <= 6 * 3 * 4 + 6 * 4
    small = replace(asked, task=replace(task, budget=replace(task.budget, calls=20)))
    with pytest.raises(PlanningError, match="budget"):
        Beam(Beam.Config(width=100, fan=3, horizon=4)).plan(small)


def test_a_tree_that_reacts_to_outcomes_still_refuses_scenarios_that_it_cannot_list() -> None:
    with pytest.raises(PlanningError, match="'beam'"):
        MCTS(MCTS.Config(simulations=8, horizon=2)).plan(problem(Risk(6)))
