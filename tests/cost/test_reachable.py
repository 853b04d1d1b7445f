"""The cost of a trained head: as likely as the head says, within the steps that remain, and kept with a run."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from steersman.core import (
    ActionSpec,
    ColumnGoal,
    ConfigError,
    Imagined,
    Latent,
    LatentGoal,
    PlanningError,
    Task,
    check_cost,
)
from steersman.cost import ReachableCost
from steersman.nn.pair_head import PairHead


def built(shape=(3,), **config):
    torch.manual_seed(0)
    settings = ReachableCost.Config(**{"budgets": (1, 2, 8), "width": 16, "beyond": 1, **config})
    size = torch.Size(shape).numel()
    head = PairHead(size, settings.width, len(settings.budgets))
    return settings.build(shape).take(head.state_dict()), head


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_energy_is_that_of_the_head_step_by_step(shape):
    cost, head = built(shape, beyond=2)
    states, goal = torch.randn(2, 4, 7, *shape), torch.randn(2, *shape)
    energy = cost.energy(Imagined(states), torch.zeros(2, 4, 6, 1), Task(LatentGoal(Latent(goal))))
    assert energy.shape == (2, 4, 6)
    for b in range(2):
        for k in range(4):
            for t in range(1, 7):
                logits = head(states[b, k, t].flatten(), goal[b].flatten()).detach()
                remaining = 6 - t + 2  # 7, 6, 5, 4, 3, 2
                share = (torch.tensor(remaining).log() - torch.tensor(2).log()) / torch.tensor(4.0).log()
                logit = logits[1] + share * (logits[2] - logits[1])
                assert float(energy[b, k, t - 1]) == pytest.approx(float(F.softplus(-logit)), rel=1e-4, abs=1e-6)


def test_more_time_is_never_less_likely_and_budgets_are_met_exactly():
    cost, head = built()
    states, goal = torch.randn(50, 3), torch.randn(50, 3)
    found = [cost.probability(states, goal, torch.full((50,), n)) for n in range(12)]
    assert all(bool((later >= sooner - 1e-6).all()) for sooner, later in pairwise(found))
    for k, n in enumerate((1, 2, 8)):
        torch.testing.assert_close(found[n], torch.sigmoid(head(states, goal)[:, k].detach()))
    torch.testing.assert_close(found[11], found[8])
    torch.testing.assert_close(found[0], found[1])
    single, _ = built(budgets=(4,))
    assert single.probability(states, goal, torch.full((50,), 9)).shape == (50,)


def test_it_keeps_the_promises_of_a_cost():
    cost, _ = built()
    task = Task(LatentGoal(Latent(torch.randn(1, 3))), {"reachable": 1.0})
    check_cost(cost, ActionSpec("continuous", (-1.0,), (1.0,)), (3,), task=task)


def test_what_it_cannot_judge_is_refused():
    cost, _ = built()
    imagined, actions = Imagined(torch.randn(1, 2, 3, 3)), torch.zeros(1, 2, 2, 1)
    with pytest.raises(PlanningError, match="a goal that is an observation or a latent"):
        cost.energy(imagined, actions, Task(ColumnGoal({"x": 1.0})))
    untrained = ReachableCost.Config(budgets=(1,), width=4).build((3,))
    with pytest.raises(PlanningError, match=r"training.reachable_cost\(run\)"):
        untrained.energy(imagined, actions, Task(LatentGoal(Latent(torch.zeros(1, 3)))))
    with pytest.raises(ConfigError, match="growing budgets"):
        ReachableCost.Config(budgets=(2, 1), width=4)
