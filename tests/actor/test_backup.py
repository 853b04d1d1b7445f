"""The planner with a way out: a cart that must brake before a wall, moving hazards, certificates that go on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steersman.actor import ICEM, Backup
from steersman.actor.safety.backup import Judge, Ways
from steersman.agent.flight.watching import Sheet
from steersman.core import ActionSpec, Belief, Budget, ColumnGoal, ConfigError, Imagined, Policy, Problem, Readout, Task
from steersman.cost import Box, GoalCost, OnColumns
from steersman.world_model import LinearModel

STEP = 0.2  # s; the action is the acceleration, at most 1 m/s²
WALL = 5.0
ACTION = ActionSpec("continuous", (-1.0,), (1.0,))


class Columns(Readout):
    columns = ("x", "v")

    def read(self, states, context=None):
        return states


class Brake(Policy):
    def propose(self, belief, task):
        return (-belief.state[:, 1:] / STEP).clamp(-1, 1)[:, None]


MODEL = LinearModel(torch.tensor([[1.0, STEP], [0.0, 1.0]]), torch.tensor([[STEP**2 / 2], [STEP]]))
WALLS = Box(Columns(), {"x": (-WALL, WALL)}, name="wall")
REST = OnColumns(Columns(), lambda y: y["v"].abs() - 0.05, name="rest")


def problem(states, decision=0, warm=None, target=20.0, limits=(WALLS,)):
    states = torch.as_tensor(states)
    task = Task(ColumnGoal({"x": target}), guardrails=limits)
    b = len(states)
    return Problem(MODEL, Belief(states), (GoalCost(Columns()),), task, ACTION, torch.arange(b),
                   torch.full((b,), decision), warm=warm)


def planner(**sizes):
    """The inner planner looks one second ahead: too short to brake from 2 m/s."""
    inner = ICEM.Config(samples=32, iterations=2, elites=5, horizon=5)
    return Backup(inner.build(), Brake(), rest=REST, config=Backup.Config(steps=20, directions=2, **sizes))


def drive(chosen, states, steps):
    """Where the cart is after each step, (B, steps), and the plans."""
    states, warm, path, plans = torch.as_tensor(states), None, [], []
    for t in range(steps):
        plan = chosen.plan(problem(states, t, warm))
        warm = plan.warm
        states = MODEL.imagine(Belief(states), plan.actions[:, None, :1]).states[:, 0, -1]
        path.append(states[:, 0])
        plans.append(plan)
    return torch.stack(path, 1), plans


def test_a_short_sighted_planner_brakes_in_time():
    starts = [[0.0, 0.0], [2.0, 2.0], [3.5, 1.5]]
    path, plans = drive(planner(), starts, 40)
    assert float(path.max()) <= WALL + 1e-4
    assert float(path[:, -1].min()) > WALL - 1.0  # and still goes as far as it may
    assert all(bool(plan.feasible.all()) for plan in plans)  # once certified, always certified
    alone, _ = drive(planner().planner, starts, 40)
    assert float(alone.max()) > WALL


def test_every_plan_but_a_hopeless_one_is_a_certificate():
    states = [[0.0, 0.0], [4.0, 1.3], [4.9, 2.0]]
    plan = planner().plan(problem(states))
    certificate = plan.warm.certificate
    imagined = MODEL.imagine(Belief(torch.tensor(states)), certificate[:, None]).states[:, 0]
    assert plan.feasible.tolist() == [True, True, False]
    assert bool((imagined[:2, :, 0] <= WALL).all())
    assert float(imagined[:2, -1, 1].abs().max()) <= 0.05
    assert torch.equal(plan.actions[:, 0], certificate[:, 0])


def test_where_nothing_helps_it_does_least_harm_and_says_so():
    plan = planner().plan(problem([[4.9, 2.0]]))
    assert plan.reason[0].startswith("INFEASIBLE")
    assert float(plan.action) == pytest.approx(-1.0)
    assert int(plan.vetoed["backup: wall"]) > 0


def test_where_no_way_keeps_the_margins_one_that_keeps_the_limit_is_taken():
    """Braking keeps the limit of 1 m/s, but not its late margins; speeding up breaks it, by less than those margins."""
    margins = [0.0] * 4 + [5.0] * 16
    hump = OnColumns(Columns(), lambda y: torch.where(y["x"] > 0, y["v"] - 1.0, -10 * y["v"] - 5.0), margin=margins)
    states = [[0.5, 0.9]]
    plan = planner().plan(problem(states, limits=(hump,)))
    assert not bool(plan.feasible)
    imagined = MODEL.imagine(Belief(torch.tensor(states)), plan.warm.certificate[:, None])
    assert bool((hump.bare().margin(imagined, plan.actions) <= 0).all())


def test_candidates_rank_by_certificates_then_by_the_share_of_the_margins_that_they_keep():
    n = 5
    ways = Ways(
        actions=torch.zeros(1, n, 1, 1), imagined=Imagined(torch.zeros(1, n, 2, 1)),
        energy=torch.tensor([[0.0, 1.0, 9.0, 0.0, 8.0]]), parts={}, guardrails=1,
        worst=torch.tensor([[[0.02], [0.09], [-0.1], [0.08], [-0.1]]]),
        share=torch.tensor([[-1.0, 0.2, 3.0, 0.9, 2.0]]),
    )
    assert ways.order.tolist() == [[4, 2, 3, 1, 0]]


def test_a_share_is_the_least_part_of_a_margin_that_is_kept():
    """Clear of the wall by .2 now and by .3 later, where .1 and .6 are kept for errors: half a margin at worst."""
    rail = Box(Columns(), {"x": (-9.0, WALL)}, margin={"x": [0.1, 0.6]})
    plain = Box(Columns(), {"v": (-9.0, 1.0)})  # without margins its own clearance counts, and it is ample
    imagined = Imagined(torch.tensor([[[[0.0, 0.0], [4.8, 0.0], [4.7, 0.0]], [[0.0, 0.0], [4.8, 0.0], [5.3, 0.0]]]]))
    actions = torch.zeros(1, 2, 2, 1)
    seen = problem([[0.0, 0.0]], limits=(rail, plain))
    shares = Judge.shares(seen, imagined, actions, [g.margin(imagined, actions) for g in (rail, plain)])
    assert shares.flatten(2).amin(2)[0].tolist() == pytest.approx([0.5, -0.5], abs=1e-4)


def test_ways_are_bent_until_they_keep_a_limit_that_no_direction_keeps():
    """Speeds must fall slowly until 1 m: braking falls below, full thrust goes above, something between keeps it."""
    def band(y):
        return torch.where(y["x"] < 1.0, (y["v"] - 0.9 + 0.225 * y["x"]).abs() - 0.04, -1.0)

    states, limits = [[0.4, 0.8]], (OnColumns(Columns(), band),)
    rest = OnColumns(Columns(), lambda y: y["v"].abs() - 1.0, name="slow")
    made = lambda rounds: Backup(  # noqa: E731
        ICEM.Config(samples=4, iterations=1, elites=1, horizon=3).build(), Brake(), rest=rest,
        config=Backup.Config(steps=6, commit=(1,), directions=2, lengths=(1, 5), rounds=rounds))
    straight, bent = (made(rounds).plan(problem(states, limits=limits)) for rounds in (0, 60))
    assert not bool(straight.feasible)
    assert bool(bent.feasible)
    imagined = MODEL.imagine(Belief(torch.tensor(states)), bent.warm.certificate[:, None])
    assert bool((limits[0].margin(imagined, bent.actions) <= 0).all())


def test_a_watched_planner_decides_the_same():
    limits = (Box(Columns(), {"x": (-WALL, WALL)}, name="wall", margin={"x": 0.3}),)
    seen = problem([[3.9, 1.45], [4.9, 2.0]], limits=limits)
    plain = planner().plan(seen)
    assert torch.equal(planner().plan(Sheet(seen).problem).warm.certificate, plain.warm.certificate)


def test_a_manoeuvre_in_place_of_a_plan_is_said():
    state = [[3.9, 1.45]]  # braking at once just suffices
    plan = planner().plan(problem(state))
    assert bool(plan.feasible)
    assert "backup" in plan.reason[0]
    assert float(plan.action) == pytest.approx(-1.0)


def test_what_was_left_of_a_certificate_stays_available():
    """A limit that only the last certificate's own way keeps: no fan direction held for 1 step does."""
    chosen = planner(commit=(1,), lengths=(1,))
    first = chosen.plan(problem([[0.0, 0.0]]))
    way = torch.tensor([1.0] * 3 + [-1.0] * 3 + [0.0] * 14)[None, :, None]
    states = MODEL.imagine(Belief(torch.zeros(1, 2)), way[:, None]).states[0, 0]
    speeds = states[2:, 1].max()
    fast = OnColumns(Columns(), lambda y: torch.where(y["x"] < 0.2, 0.35 - y["v"], y["v"] - float(speeds) - 1e-3))
    warm = replace(first.warm, certificate=way)
    plan = chosen.plan(problem(states[1:2], 1, warm, target=-9.0, limits=(fast,)))
    assert bool(plan.feasible) == bool(_keeps(fast, states[1:2], way[:, 1:]))
    torch.testing.assert_close(plan.actions[:, :4], way[:, 1:5])


def _keeps(guardrail, state, actions):
    imagined = MODEL.imagine(Belief(state), actions[:, None])
    return (guardrail.margin(imagined, actions[:, None]) <= 0).all()


def test_a_problem_does_not_depend_on_its_neighbours():
    states = torch.tensor([[0.0, 0.0], [4.0, 1.3], [4.9, 2.0]])
    whole = planner().plan(problem(states))
    for b in range(3):
        single = problem(states[b : b + 1])
        single = replace(single, seeds=torch.tensor([b]))
        torch.testing.assert_close(planner().plan(single).actions[0], whole.actions[b])


def test_without_guardrails_it_is_the_planner_inside():
    free = problem([[0.0, 0.0]], limits=())
    inner = planner().planner.plan(free)
    assert torch.equal(planner().plan(free).actions, inner.actions)


def test_a_certificate_shorter_than_what_it_begins_with_is_refused():
    with pytest.raises(ConfigError, match="steps"):
        Backup.Config(steps=5, commit=(6,))


def test_a_model_without_gradients_is_served_without_bending():
    class Opaque(LinearModel):
        def imagine(self, belief, actions, exogenous=None, u=None):
            with torch.no_grad():
                return super().imagine(belief, actions, exogenous)

    seen = replace(problem([[4.9, 2.0]]), model=Opaque(MODEL.transition, MODEL.control))
    plain = Backup(planner().planner, Brake(), rest=REST, config=Backup.Config(steps=20, directions=2, rounds=0))
    assert torch.equal(planner().plan(seen).actions, plain.plan(seen).actions)


def test_bending_works_where_an_agent_decides_and_is_watched():
    """Agents decide in inference mode; what is noted of guardrails must not get lost there."""
    told = []
    for mode in (False, True):
        with torch.inference_mode(mode):
            sheet = Sheet(problem([[4.9, 2.0]]))
            plan = planner().plan(sheet.problem)
            told.append((plan.actions.tolist(), sheet.limits({})["wall"].looked))
    assert told[0] == told[1]


def test_bending_stays_within_the_budget():
    spent = {}
    for name, budget in {"ample": Budget(), "calls": Budget(calls=3000), "late": Budget(seconds=1e-9)}.items():
        seen = problem([[4.9, 2.0]])
        plan = planner().plan(replace(seen, task=replace(seen.task, budget=budget)))
        spent[name] = int(plan.calls)
        assert plan.reason[0].startswith("INFEASIBLE")
    assert max(spent["calls"], spent["late"]) <= 3000 < spent["ample"]
