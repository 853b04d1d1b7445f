"""Search over states of tokens, told apart by what a read-out reads: the same ways as on the places themselves."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from torch import Tensor

from steersman.actor import Search
from steersman.core import (
    ActionSpec,
    Belief,
    ColumnGoal,
    Imagined,
    Latent,
    LatentGoal,
    ObservationSpec,
    PlanningError,
    Problem,
    Readout,
    Signature,
    Task,
    WorldModel,
)
from steersman.cost import GoalCost

ACTION = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
SIGNATURE = Signature({"image": ObservationSpec("image", (8, 8, 3))}, ACTION)
SMALL = Search.Config(space="read", directions=8, nodes=160, look=16, look_ahead=4)
TOKENS = 4


def moved(place: Tensor, action: Tensor) -> Tensor:
    """A square of side 24 with a wall at 12 that has a door near one end; a step that meets the wall is not taken."""
    ends = place + 2 * action / action.norm(dim=-1, keepdim=True).clamp_min(1)
    free = ((ends >= 0) & (ends <= 24)).all(-1)
    free &= ((ends[..., 0] - 12).abs() >= 2.1) | ((ends[..., 1] - 20).abs() <= 3)
    return torch.where(free[..., None], ends, place)


def tokens(place: Tensor) -> Tensor:
    """(…, 2) -> (…, N, 3): the place hidden in tokens whose other numbers say where it is only wildly."""
    turned = torch.stack([torch.sin(40 * place.sum(-1) + i) for i in range(TOKENS)], -1)
    each = place[..., None, :].expand(*place.shape[:-1], TOKENS, 2) * torch.arange(1, TOKENS + 1)[:, None]
    return torch.cat([each, 50 * turned[..., None]], -1)


class Hidden(WorldModel):
    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        states = [belief.state[:, None].expand(-1, actions.shape[1], -1, -1)]
        for t in range(actions.shape[2]):
            states.append(tokens(moved(states[-1][..., 0, :2], actions[:, :, t])))
        return Imagined(torch.stack(states, 2), belief.context)


class Place(Readout):
    columns = ("x", "y")
    scale = MappingProxyType({"x": 4.0, "y": 4.0})

    def read(self, states, context=None):
        return states[..., 0, :2]


def problem(place, goal, decision=0, warm=None) -> Problem:
    n = len(place)
    return Problem(Hidden(), Belief(tokens(place)), (GoalCost(Place()),), Task(goal), ACTION, torch.arange(n),
                   torch.full((n,), decision), warm=warm)


def built(config=SMALL, readout=Place):
    planner = config.build()
    planner.prepare(SIGNATURE, None if readout is None else readout(), (TOKENS, 3))
    return planner


def play(planner, place, goal, steps=40):
    trail, warm = [place], None
    while len(trail) <= steps:
        plan = planner.plan(problem(trail[-1], goal, len(trail), warm))
        warm = plan.warm
        for t in range(planner.execute):
            trail.append(moved(trail[-1], plan.actions[:, t]))
    return torch.stack(trail, 1)


START = torch.tensor([[4.0, 4.0], [8.0, 12.0], [3.0, 21.0]])
END = torch.tensor([[20.0, 4.0], [17.0, 3.0], [20.0, 8.0]])


@pytest.mark.parametrize("goal", [
    LatentGoal(Latent(tokens(END))), ColumnGoal({"x": END[:, 0], "y": END[:, 1]}, {"x": 4.0, "y": 4.0})])
def test_the_door_is_found_by_what_is_read_of_tokens(goal):
    path = play(built(), START, goal)
    assert bool(((path - END[:, None]).norm(dim=-1) < 3.6).any(1).all())


def test_a_goal_on_one_column_is_met_by_every_place_with_that_value():
    path = play(built(), START, ColumnGoal({"x": torch.full((3,), 20.0)}, {"x": 4.0}), steps=30)
    assert bool(((path[..., 0] - 20).abs() < 3).any(1).all())


def test_a_plan_is_the_same_alone_and_beside_others():
    planner, goal = built(), LatentGoal(Latent(tokens(END)))
    whole = planner.plan(problem(START, goal))
    for i in range(3):
        one = problem(START[i : i + 1], LatentGoal(Latent(tokens(END[i : i + 1]))))
        alone = planner.plan(replace(one, seeds=torch.tensor([i])))
        assert torch.equal(alone.actions[0], whole.actions[i])
        assert int(alone.warm.count[0]) == int(whole.warm.count[i])


def test_what_is_kept_of_a_graph_is_what_was_read_and_no_states():
    graph = built().plan(problem(START, LatentGoal(Latent(tokens(END))))).warm
    assert graph.nodes.shape == (3, 160, 2)
    assert graph.via.shape[-1] == 2


def test_it_says_what_it_lacks():
    goal = LatentGoal(Latent(tokens(END)))
    with pytest.raises(PlanningError, match="fit one to labels"):
        built(readout=None).plan(problem(START, goal))
    with pytest.raises(PlanningError, match='`space` = "read"'):
        built(Search.Config(directions=8, nodes=160)).plan(problem(START, goal))
    with pytest.raises(PlanningError, match="latent goal of shape"):
        built().plan(problem(START, LatentGoal(Latent(END))))
