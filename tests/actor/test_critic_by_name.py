"""A term that speaks of a future's end alone, weighed by its name: every planner looks past its horizon with it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from problems import reach

from steersman.actor import (
    CEM,
    ICEM,
    MCTS,
    MPPI,
    AStar,
    AugmentedLagrangian,
    Beam,
    DynamicProgramming,
    Gradient,
    Newton,
    PredictiveSampling,
    Search,
)
from steersman.actor.ground.primitives import rays
from steersman.actor.ground.verdict import ends_of, step_terms, terminal_terms
from steersman.core import ActionSpec, Belief, Cost, Latent, LatentGoal, Problem, Task
from steersman.memory import GraphConfig, build_graph
from steersman.world_model import TabularModel
from steersman.worlds import Grid, TabularCost

FEW = {"samples": 48, "iterations": 3, "elites": 6, "horizon": 2}
PLANNERS = {
    "cem": CEM.Config(**FEW), "icem": ICEM.Config(**FEW), "mppi": MPPI.Config(samples=48, iterations=3, horizon=2),
    "predictive-sampling": PredictiveSampling.Config(samples=64, horizon=2), "gradient": Gradient.Config(horizon=2),
    "augmented-lagrangian": AugmentedLagrangian.Config(horizon=2), "newton": Newton.Config(horizon=2),
    "beam": Beam.Config(horizon=2), "dynamic-programming": DynamicProgramming.Config(horizon=2),
    "mcts": MCTS.Config(simulations=60, horizon=2),
}


class Beyond(Cost):
    """e_H = V(s_H)."""

    name: ClassVar[str] = "critic"
    terminal = True

    def __init__(self, value):
        self.value = value

    def energy(self, imagined, actions, task):
        value = self.value(imagined.states[:, :, -1])
        return torch.cat([value.new_zeros(*value.shape, actions.shape[2] - 1), value[..., None]], -1)


def right(states):
    """What comes after a look of two steps speaks for the right, the goal for the left."""
    return (states - torch.tensor([4.0, 0.0])).square().sum(-1)


def asked(weight: float, **more) -> Problem:
    problem = reach([[0.0, 0.0], [0.0, 0.5]], [[-2.0, 0.0]], weights={"goal": 1.0, "critic": weight}, **more)
    return replace(problem, costs=(*problem.costs, Beyond(right)))


@pytest.mark.parametrize("planner", PLANNERS)
def test_what_is_to_come_turns_a_short_look_round(planner) -> None:
    plan = PLANNERS[planner].build().plan(asked(10.0))
    assert bool((plan.actions[:, 0, 0] > 0.5).all())
    assert not plan.energy["critic"][:, :-1].any()
    torch.testing.assert_close(plan.energy["critic"][:, -1], 10 * right(plan.imagined.states[:, 0, -1]))
    without = PLANNERS[planner].build().plan(asked(0.0))
    assert bool((without.actions[:, 0, 0] < -0.5).all())


def test_a_star_hands_it_to_its_follower() -> None:
    problem = asked(10.0)
    log = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 6 - 3
    spec = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
    graph = build_graph([log], [torch.zeros(299, 2)], problem.model, rays(spec, 8), GraphConfig(nodes=60))
    follow = CEM.Config(**FEW)
    for weight, sign in ((10.0, 1), (0.0, -1)):
        plan = AStar(AStar.Config(follow=follow), graph).plan(asked(weight))
        assert bool((sign * plan.actions[:, 0, 0] > 0).all())


@pytest.mark.parametrize("side", [4.0, -4.0])
def test_search_asks_it_where_its_graph_knows_no_way(side) -> None:
    problem, lost = asked(10.0), LatentGoal(Latent(torch.tensor([[0.0, -300.0]])))
    beyond = Beyond(lambda states: (states - torch.tensor([side, 0.0])).square().sum(-1))
    problem = replace(problem, costs=(*problem.costs[:2], beyond), task=replace(problem.task, goal=lost))
    plan = Search(Search.Config(nodes=60)).plan(problem)
    assert bool((plan.actions[:, 0, 0] * side > 0).all())
    straight = replace(problem, task=replace(problem.task, weights={"goal": 1.0}))
    assert bool((Search(Search.Config(nodes=60)).plan(straight).actions[:, 0, 0].abs() < 0.5).all())


def test_exact_ends_make_a_short_tree_exact_and_are_told_apart_from_steps() -> None:
    mdp = Grid.sample(Grid.Config(width=4, height=4, slip=0.2), 1).mdp
    values, _ = mdp.solve(40)
    beyond = Beyond(lambda states: (states.double() @ values[0]).float())
    starts = torch.arange(mdp.states)
    task = Task(LatentGoal(Latent(torch.zeros(1, mdp.states))), weights={"tabular": 1.0, "critic": 1.0}, horizon=1)
    problem = Problem(TabularModel(mdp.transition), Belief(torch.eye(mdp.states)[starts]), (TabularCost(mdp), beyond),
                      task, ActionSpec("discrete", choices=mdp.choices), starts, torch.zeros_like(starts))
    plan = DynamicProgramming.Config().build().plan(problem)
    best = (mdp.energies.double() + (mdp.transition.double() @ values[0]).T).amin(1)
    torch.testing.assert_close((plan.energy["tabular"] + plan.energy["critic"]).sum(1).double(), best,
                               rtol=1e-4, atol=1e-4)
    found = MCTS.Config(simulations=200, horizon=1).build().plan(problem)
    reached = (mdp.energies.double() + (mdp.transition.double() @ values[0]).T)[starts, found.action[:, 0]]
    assert float((reached - best).max()) < 1e-3
    assert terminal_terms(problem) == ("critic",)
    assert step_terms(problem) == ("tabular",)
    torch.testing.assert_close(ends_of(problem, problem.belief.state[:, None])["critic"][:, 0], values[0].float())
