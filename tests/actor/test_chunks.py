"""Planners of chunks: what they try lasts within a chunk and beyond, and one action a step is as it was."""

from __future__ import annotations

import pytest
import torch

from steersman.actor import CEM, ICEM, MPPI, PredictiveSampling
from steersman.actor.sampling.noise import coloured_basis, in_chunks, steps_of
from steersman.core import ActionSpec, Belief, Latent, LatentGoal, Problem, Task
from steersman.cost import GoalCost
from steersman.world_model import LinearModel

SINGLE = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
CHUNK = SINGLE.chunked(4)


def test_noise_of_the_worlds_steps_becomes_chunks_in_their_order() -> None:
    noise = torch.arange(2 * 12 * 2.0).view(1, 2, 12, 2)
    assert torch.equal(in_chunks(noise, 4).view(1, 2, 3, 4, 2), noise.view(1, 2, 3, 4, 2))
    assert in_chunks(noise, 1) is noise
    assert steps_of(CHUNK) == (4, 2)
    assert steps_of(ActionSpec("discrete", choices=3).chunked(2)) == (1, 1)


def test_coloured_noise_turns_no_faster_at_the_border_of_a_chunk_than_inside() -> None:
    white = torch.randn(4000, 1, 2 * (12 // 2 + 1), generator=torch.Generator().manual_seed(0))
    steps = (white @ coloured_basis(12, 2.0))[:, 0]
    change = steps.diff(dim=1).square().mean(0)
    assert change.max() / change.min() < 1.3


@pytest.mark.parametrize("planner", [
    CEM.Config(samples=64, iterations=4, elites=8, horizon=5), ICEM.Config(samples=64, elites=8, horizon=5),
    MPPI.Config(samples=64, horizon=5), MPPI.Config(samples=64, horizon=5, beta=2.0),
    PredictiveSampling.Config(samples=64, horizon=5),
])
def test_every_sampling_planner_reaches_a_goal_by_chunks(planner) -> None:  # type: ignore[no-untyped-def]
    """s' = s + sum of the chunk / 10, in two dimensions: the goal is far enough that all pushes must agree."""
    drive = torch.eye(2).repeat(1, 4) / 10
    model = LinearModel(torch.eye(2), drive)
    goal = LatentGoal(Latent(torch.tensor([[1.0, -1.0]])))
    problem = Problem(model, Belief(torch.zeros(1, 2)), (GoalCost.Config().build(None),), Task(goal), CHUNK,
                      torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    plan = planner.build().plan(problem)
    assert plan.actions.shape == (1, 5, 8)
    assert (plan.imagined.states[0, 0, -1] - torch.tensor([1.0, -1.0])).norm() < 0.7
