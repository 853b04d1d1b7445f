"""Trajectory sampling: each future as by a loop over it, all promises of a world model, PETS' way of judging."""

from __future__ import annotations

import pytest
import torch

from steersman.actor import CEM
from steersman.actor.ground.verdict import score
from steersman.core import (
    ActionSpec,
    CallableGoal,
    ConfigError,
    Latent,
    ObservationSpec,
    Problem,
    Risk,
    Signature,
    Task,
)
from steersman.core.checks import check_world_model
from steersman.cost import GoalCost
from steersman.world_model import RecurrentModel, ResidualModel, TrajectorySampling

ACTION = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
SIGNATURE = Signature({"vector": ObservationSpec("vector", (3,), ("a", "b", "c"))}, ACTION)


def _ensemble(kind=ResidualModel, members: int = 3):
    torch.manual_seed(0)
    return kind.Config(width=16, members=members).build(SIGNATURE, (3,), None).eval()


@pytest.mark.parametrize("keep", ["infinity", "one"])
def test_a_future_is_what_a_loop_over_its_steps_gives(keep) -> None:
    ensemble = _ensemble()
    model, members = TrajectorySampling(ensemble, keep), ensemble.singles()
    belief = model.begin(Latent(torch.randn(2, 1, 3)), torch.zeros(2, 0, 2))
    actions, u = torch.rand(2, 5, 4, 2) * 2 - 1, torch.rand(2, 5, 4, 1)
    found = model.imagine(belief, actions, None, u).states
    for b in range(2):
        for k in range(5):
            state = belief.state[b]
            for t in range(4):
                which = int(u[b, k, 0 if keep == "infinity" else t, 0] * 3)
                start = members[which].begin(Latent(state[None, None]), torch.zeros(1, 0, 2))
                state = members[which].imagine(start, actions[b, k, t].view(1, 1, 1, 2)).states[0, 0, 1]
                assert torch.allclose(found[b, k, t + 1], state, atol=1e-5)


@pytest.mark.parametrize(("kind", "keep"), [(ResidualModel, "infinity"), (RecurrentModel, "one")])
def test_it_keeps_what_world_models_promise(kind, keep) -> None:
    assert "draws outcomes as often as it says" in check_world_model(
        TrajectorySampling(_ensemble(kind), keep), ACTION, (3,))


def test_a_candidate_is_judged_by_futures_of_every_member() -> None:
    """Scenarios as many as members: the mean energy is the mean over members, which the mean member's is not."""
    ensemble = _ensemble()
    goal = CallableGoal(lambda columns, imagined: imagined.states[:, :, 1:].square().sum(-1))
    task = Task(goal, risk=Risk(scenarios=3))
    model = TrajectorySampling(ensemble)
    belief = model.begin(Latent(torch.randn(2, 1, 3)), torch.zeros(2, 0, 2))
    problem = Problem(model, belief, (GoalCost(),), task, ACTION, torch.arange(2), torch.zeros(2, dtype=torch.int64))
    actions = torch.rand(2, 6, 4, 2) * 2 - 1
    found = score(problem, actions).energy
    alone = [single.imagine(single.begin(Latent(belief.state[:, None]), torch.zeros(2, 0, 2)), actions)
             for single in ensemble.singles()]
    each = torch.stack([way.states[:, :, 1:].square().sum((-1, -2)) for way in alone])
    assert torch.allclose(found, each.mean(0), rtol=1e-4)
    plan = CEM.Config(samples=8, iterations=1, elites=2, horizon=4).build().plan(problem)
    assert plan.calls.tolist() == [8 * 4 * 3] * 2


def test_no_ensemble_is_refused() -> None:
    with pytest.raises(ConfigError, match="an ensemble"):
        TrajectorySampling(_ensemble(members=1))
    with pytest.raises(ConfigError, match="infinity"):
        TrajectorySampling(_ensemble(), "two")
