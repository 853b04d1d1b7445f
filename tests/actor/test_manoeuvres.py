"""Manoeuvres by name, and a planner with a way out that is all configuration: the same as one built from parts."""

from __future__ import annotations

import msgspec
import pytest
import torch

from steersman.actor import ICEM, Backup, Barrier, Brake, Constant
from steersman.core import (
    ActionSpec,
    Belief,
    ColumnGoal,
    ConfigError,
    ObservationSpec,
    PlannerConfig,
    PlanningError,
    Problem,
    Readout,
    Signature,
    Task,
)
from steersman.core.parts import convert
from steersman.cost import Box, GoalCost
from steersman.world_model import LinearModel

STEP = 0.2
ACTION = ActionSpec("continuous", (-1.0,), (1.0,))
SIGNATURE = Signature({"vector": ObservationSpec("vector", (2,), ("x", "v"))}, ACTION)
BUTTONS = Signature(SIGNATURE.observations, ActionSpec("discrete", choices=3))
TWO = Signature(SIGNATURE.observations, ActionSpec("continuous", (-1.0, 0.0), (1.0, 4.0)))
MODEL = LinearModel(torch.tensor([[1.0, STEP], [0.0, 1.0]]), torch.tensor([[STEP**2 / 2], [STEP]]))
TASK = Task(ColumnGoal({"x": 20.0}))


class Columns(Readout):
    columns = ("x", "v")

    def read(self, states, context=None):
        return states


NAMED = Backup.Named(
    planner=ICEM.Config(samples=32, iterations=2, elites=5, horizon=5), steps=20, directions=2,
    manoeuvre=Brake.Config(columns=("v",), gain=1 / STEP), rest=Box.Config(limits={"v": (-0.05, 0.05)}),
)


def problem(states):
    b = len(states)
    task = Task(ColumnGoal({"x": 20.0}), guardrails=(Box(Columns(), {"x": (-5.0, 5.0)}, name="wall"),))
    return Problem(MODEL, Belief(torch.tensor(states)), (GoalCost(Columns()),), task, ACTION, torch.arange(b),
                   torch.zeros(b, dtype=torch.long))


def test_named_is_the_same_as_built_from_parts():
    by_name = convert(msgspec.to_builtins(NAMED), PlannerConfig).build()
    by_name.prepare(SIGNATURE, Columns(), (2,))
    parts = Backup(NAMED.planner.build(), Brake(ACTION, Columns(), ("v",), 1 / STEP),
                   rest=Box(Columns(), {"v": (-0.05, 0.05)}), config=Backup.Config(steps=20, directions=2))
    asked = problem([[0.0, 0.0], [3.9, 1.45], [4.9, 2.0]])
    first, second = by_name.plan(asked), parts.plan(asked)
    assert torch.equal(first.actions, second.actions)
    assert first.reason == second.reason
    assert first.feasible.tolist() == [True, True, False]


def test_planners_hand_on_what_they_are_told():
    outer = Barrier.Config(planner=NAMED).build()
    with pytest.raises(PlanningError, match="a manoeuvre; got one that is only named"):
        outer.planner.plan(problem([[0.0, 0.0]]))
    outer.prepare(SIGNATURE, Columns(), (2,))
    assert isinstance(outer.planner.manoeuvre, Brake)


@pytest.mark.parametrize(("config", "signature", "action"), [
    (Constant.Config(), SIGNATURE, [0.0]), (Constant.Config(action=(-0.5,)), SIGNATURE, [-0.5]),
    (Constant.Config(), BUTTONS, [0]), (Constant.Config(action=(2,)), BUTTONS, [2]),
    (Constant.Config(), TWO, [0.0, 2.0]),
    (Brake.Config(columns=("v",)), SIGNATURE, [-0.25]), (Brake.Config(columns=("v",), gain=9.0), SIGNATURE, [-1.0]),
    (Brake.Config(columns=("v", "v"), gain=(1.0, -2.0)), TWO, [-0.25, 2.5]),
])
def test_what_a_manoeuvre_does(config, signature, action):
    policy = config.build(signature, Columns())
    done = policy.propose(Belief(torch.tensor([[1.0, 0.25]] * 3)), TASK)
    assert done.dtype == (torch.int64 if signature is BUTTONS else torch.float32)
    torch.testing.assert_close(done, torch.tensor(action).expand(3, 1, -1))


@pytest.mark.parametrize(("config", "signature", "readout", "error", "said"), [
    (Constant.Config(action=(2.0,)), SIGNATURE, None, ConfigError, r"within \[-1.0\] to \[1.0\]; got \[2.0\]"),
    (Constant.Config(action=(0.0, 0.0)), SIGNATURE, None, ConfigError, "of 1 numbers"),
    (Constant.Config(action=(0.5,)), BUTTONS, None, ConfigError, "constant action"),
    (Brake.Config(columns=("v",)), BUTTONS, Columns(), ConfigError, "use the manoeuvre 'constant'"),
    (Brake.Config(columns=("v", "v")), SIGNATURE, Columns(), ConfigError, "each of 1 continuous"),
    (Brake.Config(columns=("speed",)), SIGNATURE, Columns(), PlanningError, "among x, v; got speed"),
    (Brake.Config(columns=("v",)), SIGNATURE, None, PlanningError, "among no columns"),
])
def test_a_manoeuvre_that_does_not_fit_is_refused(config, signature, readout, error, said):
    with pytest.raises(error, match=said):
        config.build(signature, readout)
