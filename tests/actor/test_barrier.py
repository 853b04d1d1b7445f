"""The filter on the executed action: what it lets pass, what it puts in place of the rest, and that it says so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import pytest
import torch
from problems import Limit, LinearWorld, choose, reach

from steersman.actor import CEM, Barrier
from steersman.agent import AgentConfig
from steersman.core import Budget, ConfigError, Guardrail, Plan, Planner, PlanningError, Problem
from steersman.core.parts import convert
from steersman.perception import VectorEncoder
from steersman.world_model import ResidualModel


@dataclass
class Below(Guardrail):
    """A direction of the state stays below a value; the state alone tells."""

    direction: torch.Tensor
    limit: float
    title: str = "below"

    @property
    def name(self):
        return self.title

    def margin(self, imagined, actions):
        return self.standing(imagined.states[:, :, 1:])

    def standing(self, states, context=None):
        return states @ self.direction - self.limit


class Says(Planner):
    """Always the same plan, whatever the guardrails."""

    def __init__(self, *actions, execute=1):
        self.actions, self.execute = actions, execute

    def plan(self, problem: Problem) -> Plan:
        b = len(problem)
        actions = torch.stack([torch.as_tensor(a) for a in self.actions]).expand(b, -1, -1)
        imagined = problem.model.imagine(problem.belief, actions[:, None])
        yes, none = torch.ones(b, dtype=torch.bool), torch.zeros(b, dtype=torch.int64)
        return Plan(actions, imagined, {"goal": torch.zeros(b, len(self.actions))}, yes, none, {}, ("said",) * b,
                    none, 0.0)


def barrier(planner, alpha=0.5, fan=256):
    return Barrier(Barrier.Config(alpha=alpha, fan=fan), planner)


X = torch.tensor([1.0, 0.0])
EAST = (torch.tensor([1.0, 0.0]),) * 3


def test_a_plan_that_keeps_the_barrier_passes_untouched():
    problem = reach([[0.0, 0.0]], [[3.0, 0.0]], guardrails=[Below(X, 10.0)])
    inner = CEM(CEM.Config(samples=30, iterations=3, elites=5, horizon=4))
    plain, filtered = inner.plan(problem), barrier(inner).plan(problem)
    assert torch.equal(plain.actions, filtered.actions)
    assert plain.reason == filtered.reason
    assert int(filtered.vetoed["barrier: below"]) == 0
    assert int(filtered.calls) == int(plain.calls) + 1


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_the_reserve_shrinks_no_faster_than_alpha_and_the_limit_holds(alpha):
    position, positions = torch.zeros(1, 2), [0.0]
    for _ in range(12):
        plan = barrier(Says(*EAST), alpha).plan(reach(position, [[9.0, 0.0]], guardrails=[Below(X, 2.0)]))
        position = position + plan.action
        positions.append(float(position[0, 0]))
    reserve = 2.0 - torch.tensor(positions)
    assert bool((reserve[1:] >= (1 - alpha) * reserve[:-1] - 1e-6).all())
    assert bool((reserve >= -1e-6).all())
    assert float(reserve[-1]) < 0.3  # it does get there


def test_from_outside_it_comes_back_at_the_rate():
    guardrail = Below(X, 0.0)
    plan = barrier(Says(*EAST), 0.5).plan(reach([[1.0, 0.0]], [[9.0, 0.0]], guardrails=[guardrail]))
    assert float(plan.action[0, 0]) <= -0.5 + 1e-6
    assert "below" in plan.reason[0]


def test_the_replacement_is_the_nearest_action():
    slanted = Below(torch.tensor([0.6, 0.8]), 0.3)
    wanted = torch.tensor([0.9, 0.2])
    plan = barrier(Says(wanted, wanted), 1.0, fan=2048).plan(reach([[0.0, 0.0]], [[3.0, 0.0]], guardrails=[slanted]))
    nearest = wanted - (slanted.direction @ wanted - 0.3) * slanted.direction
    assert bool(slanted.margin(plan.imagined, plan.actions[:, None])[0, 0, 0] <= 0)
    assert float((plan.action[0] - wanted).norm()) <= float((nearest - wanted).norm()) + 0.08
    assert "became" in plan.reason[0]
    assert "said" in plan.reason[0]


def test_all_steps_that_will_be_executed_are_filtered():
    plan = barrier(Says(*EAST, execute=3), 1.0).plan(
        reach([[0.0, 0.0]], [[9.0, 0.0]], guardrails=[Below(X, 2.5)])
    )
    assert float(plan.actions[0, :3, 0].sum()) <= 2.5
    assert bool(plan.feasible)
    assert barrier(Says(execute=3)).execute == 3


def test_where_no_action_keeps_it_the_fallback_is_taken_and_said():
    guardrails = [Below(X, -3.0, "far"), Below(-X, 3.0, "near")]  # x must be <= -3, as it can not
    plan = barrier(Says(*EAST), 1.0).plan(
        reach([[0.0, 0.0]], [[9.0, 0.0]], guardrails=guardrails, fallback=torch.tensor([0.0, -1.0]))
    )
    assert plan.action.tolist() == [[0.0, -1.0]]
    assert not bool(plan.feasible)
    assert plan.reason[0].startswith("INFEASIBLE: no action keeps the barrier of far")
    assert int(plan.vetoed["barrier: far"]) > 240
    assert int(plan.vetoed["barrier: near"]) == 0


def test_a_margin_that_is_not_a_number_is_a_violation():
    class Broken(Limit):
        def margin(self, imagined, actions):
            return super().margin(imagined, actions) * torch.nan

    plan = barrier(Says(*EAST)).plan(reach([[0.0, 0.0]], [[1.0, 0.0]], guardrails=[Broken()]))
    assert not bool(plan.feasible)
    assert plan.action.tolist() == [[0.0, 0.0]]


def test_without_a_level_the_margin_is_asked():
    plan = barrier(Says(*EAST), 0.1).plan(reach([[0.0, 0.0]], [[9.0, 0.0]], guardrails=[Limit(0, 0.5)]))
    assert 0.4 <= float(plan.action[0, 0]) <= 0.5


def test_the_rest_of_the_plan_keeps_the_guardrails_if_it_can():
    plan = barrier(Says(*EAST), 1.0).plan(reach([[0.0, 0.0]], [[9.0, 0.0]], guardrails=[Below(X, 0.5)]))
    assert bool(plan.feasible)
    assert bool((plan.imagined.states[:, 0, 1:, 0] <= 0.5).all())
    assert torch.equal(plan.imagined.states[:, 0, 1:], plan.actions.cumsum(1))


def test_choices_are_replaced_by_the_one_of_least_energy():
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
    problem = choose([[0.0, 0.0]], [[0.5, 2.0]], table, guardrails=(Below(X, 0.5),))
    plan = barrier(Says(torch.tensor([0]), torch.tensor([0]))).plan(problem)
    assert plan.action.tolist() == [[1]]
    assert plan.action.dtype == torch.int64


def test_a_problem_is_filtered_alone_as_in_a_batch():
    start = torch.tensor([[0.0, 0.0], [1.9, 0.3], [2.5, 0.0], [1.2, -4.0]])
    guardrails = [Below(X, 2.0), Below(torch.tensor([0.6, 0.8]), 1.5)]
    inner = CEM(CEM.Config(samples=20, iterations=2, elites=4, horizon=3))
    together = barrier(inner).plan(reach(start, [[5.0, 1.0]], guardrails=guardrails, seeds=[1, 2, 3, 4]))
    for b in range(4):
        alone = barrier(inner).plan(reach(start[b : b + 1], [[5.0, 1.0]], guardrails=guardrails, seeds=[b + 1]))
        torch.testing.assert_close(alone.actions[0], together.actions[b])
        assert alone.reason[0] == together.reason[b]
        assert int(alone.calls) == int(together.calls[b])
        assert all(int(alone.vetoed[name]) == int(together.vetoed[name][b]) for name in alone.vetoed)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("fan", [2, 17, 300])
def test_actions_stay_within_bounds(size, fan):
    spec_low, spec_high = -0.1, 0.7
    wanted = torch.full((size,), 0.7)
    guardrail = Below(torch.ones(size), -0.05)
    problem = reach(torch.zeros(3, size), torch.ones(1, size), low=spec_low, high=spec_high, guardrails=[guardrail])
    plan = barrier(Says(wanted), 1.0, fan).plan(problem)
    assert bool((plan.actions.double() >= spec_low).all() & (plan.actions.double() <= spec_high).all())


def test_the_filter_stays_within_the_budget():
    problem = reach([[0.0, 0.0]], [[9.0, 0.0]], guardrails=[Below(X, 0.5)], budget=Budget(calls=400))
    inner = CEM(CEM.Config(samples=40, iterations=30, elites=5, horizon=4))
    plan = barrier(inner, 0.1).plan(problem)
    assert int(plan.calls) <= 400
    with pytest.raises(PlanningError, match="budget"):
        barrier(Says(*EAST)).plan(replace(problem, task=replace(problem.task, budget=Budget(calls=8))))


def test_imagination_is_asked_once_for_the_whole_fan():
    class Counting(LinearWorld):
        asked = 0

        def imagine(self, *args, **more):
            type(self).asked += 1
            return super().imagine(*args, **more)

    world = Counting(torch.eye(2), torch.eye(2))
    barrier(Says(*EAST)).plan(reach([[0.0, 0.0]], [[9.0, 0.0]], guardrails=[Below(X, 0.5)], model=world))
    assert Counting.asked == 4  # the planner's own, its action, the fan, how the plan goes on


def test_without_guardrails_there_is_nothing_to_filter():
    inner = Says(*EAST)
    plan = barrier(inner).plan(reach([[0.0, 0.0]], [[9.0, 0.0]]))
    assert plan.vetoed == {}
    assert plan.reason == ("said",)


def test_a_configuration_travels_with_the_planner_inside():
    config = AgentConfig(
        perception=VectorEncoder.Config(), world_model=ResidualModel.Config(),
        planner=Barrier.Config(planner=CEM.Config(horizon=7), alpha=0.3),
    )
    assert convert(msgspec.to_builtins(config), AgentConfig) == config
    built = config.planner.build()
    assert built.planner.config.horizon == 7
    for wrong in ({"alpha": 0.0}, {"alpha": 1.5}, {"fan": 1}):
        with pytest.raises(ConfigError, match="alpha"):
            Barrier.Config(**wrong)
