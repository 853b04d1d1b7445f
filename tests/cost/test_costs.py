"""Energies of goals, actions and disagreement against loops; resolving goals; boxes."""

from __future__ import annotations

import math

import pytest
import torch

from steersman.core import (
    ActionSpec,
    CallableGoal,
    ColumnGoal,
    Imagined,
    Latent,
    LatentGoal,
    ObservationGoal,
    ObservationSpec,
    PlanningError,
    Readout,
    Signature,
    SteersmanError,
    Task,
    check_cost,
)
from steersman.core.parts import CostConfig, convert
from steersman.cost import (
    Box,
    DisagreementCost,
    EffortCost,
    GoalCost,
    Sealed,
    SmoothnessCost,
    column_names,
    resolve,
)
from steersman.perception import VectorEncoder

B, K, H, D = 2, 3, 4, 5
SIGNATURE = Signature(
    {"pose": ObservationSpec("vector", (2,), ("x", "y")), "extra": ObservationSpec("vector", (1,))},
    ActionSpec("continuous", (-1.0, 0.0), (3.0, 1.0)),
)


class First(Readout):
    """Names the first coordinates of the state."""

    def __init__(self, *names):
        super().__init__()
        self.names = names

    @property
    def columns(self):
        return self.names

    def read(self, states, context=None):
        return states[..., : len(self.names)]


def imagined(seed=0, tokens=False):
    g = torch.Generator().manual_seed(seed)
    shape = (B, K, H + 1, 1, D) if tokens else (B, K, H + 1, D)
    actions = torch.rand(B, K, H, 2, generator=g) * torch.tensor([4.0, 1.0]) - torch.tensor([1.0, 0.0])
    return Imagined(torch.randn(shape, generator=g), disagreement=torch.rand(B, K, H, generator=g)), actions


@pytest.mark.parametrize("distance", ["squared", "absolute", "cosine"])
@pytest.mark.parametrize("goals", [1, B])
@pytest.mark.parametrize("tokens", [False, True])
def test_latent_distance_equals_a_loop(distance, goals, tokens):
    future, actions = imagined(tokens=tokens)
    goal = torch.randn(goals, *future.states.shape[3:])
    energy = GoalCost(distance=distance).energy(future, actions, Task(LatentGoal(Latent(goal))))
    assert energy.shape == (B, K, H)
    for b in range(B):
        for k in range(K):
            for t in range(H):
                s, g = future.states[b, k, t + 1].flatten(), goal[b % goals].flatten()
                expected = {
                    "squared": (s - g).square().mean(), "absolute": (s - g).abs().mean(),
                    "cosine": 1 - s @ g / (s.norm() * g.norm()),
                }[distance]
                torch.testing.assert_close(energy[b, k, t], expected)


def test_over_last_counts_the_end_only():
    future, actions = imagined()
    task = Task(LatentGoal(Latent(torch.zeros(1, D))))
    every = GoalCost().energy(future, actions, task)
    last = GoalCost(over="last").energy(future, actions, task)
    assert torch.equal(last[..., -1], every[..., -1])
    assert not bool(last[..., :-1].any())


def test_columns_are_compared_in_units_of_their_scale():
    future, actions = imagined()
    cost = GoalCost(First("x", "y", "z"), scale={"x": 2.0, "y": 4.0})
    goal = ColumnGoal({"x": 1.0, "y": torch.tensor([0.5, -0.5])}, {"y": 3.0})
    energy = cost.energy(future, actions, Task(goal))
    for b in range(B):
        x, y = future.states[b, :, 1:, 0], future.states[b, :, 1:, 1]
        expected = ((x - 1.0) / 2.0).square() + ((y - [0.5, -0.5][b]) / 3.0).square()
        torch.testing.assert_close(energy[b], expected)


def test_a_callable_sees_named_columns():
    future, actions = imagined()
    goal = CallableGoal(lambda columns, imagined: columns["y"] * 2 + imagined.states[:, :, 1:, 4])
    energy = GoalCost(First("x", "y")).energy(future, actions, Task(goal))
    torch.testing.assert_close(energy, future.states[:, :, 1:, 1] * 2 + future.states[:, :, 1:, 4])


@pytest.mark.parametrize(
    ("cost", "goal", "match"),
    [
        (GoalCost(), ColumnGoal({"x": 1.0}), "a read-out"),
        (GoalCost(First("x")), ColumnGoal({"w": 1.0}), "targets among x; got w"),
        (GoalCost(First("x")), ColumnGoal({}), "at least one target"),
        (GoalCost(First("x")), ColumnGoal({"x": 1.0}, {"x": 0.0}), "scale > 0"),
        (GoalCost(), LatentGoal(Latent(torch.zeros(3, D))), "latent goal"),
        (GoalCost(), LatentGoal(Latent(torch.zeros(1, D + 1))), "latent goal"),
        (GoalCost(), ObservationGoal({"pose": torch.zeros(2)}), "resolve"),
    ],
)
def test_goals_that_cannot_be_scored_are_refused(cost, goal, match):
    future, actions = imagined()
    with pytest.raises(PlanningError, match=match):
        cost.energy(future, actions, Task(goal))


def test_effort_and_smoothness_are_in_units_of_half_the_range():
    future, actions = imagined()
    task = Task(ColumnGoal({}))
    unit = (actions - torch.tensor([1.0, 0.5])) / torch.tensor([2.0, 0.5])
    torch.testing.assert_close(EffortCost(SIGNATURE.action).energy(future, actions, task), unit.square().mean(-1))
    rough = SmoothnessCost(SIGNATURE.action).energy(future, actions, task)
    assert not bool(rough[..., 0].any())
    for t in range(1, H):
        torch.testing.assert_close(rough[..., t], (unit[:, :, t] - unit[:, :, t - 1]).square().mean(-1))


def test_choices_have_no_effort_and_are_rough_where_they_change():
    future, _ = imagined()
    spec, task = ActionSpec("discrete", choices=3), Task(ColumnGoal({}))
    actions = torch.tensor([0, 0, 2, 1])[None, None, :, None].expand(B, K, H, 1)
    assert not bool(EffortCost(spec).energy(future, actions, task).any())
    assert SmoothnessCost(spec).energy(future, actions, task)[0, 0].tolist() == [0, 0, 1, 1]


def test_disagreement_is_passed_on_or_missed():
    future, actions = imagined()
    assert DisagreementCost().energy(future, actions, Task(ColumnGoal({}))) is future.disagreement
    with pytest.raises(PlanningError, match="members > 1"):
        DisagreementCost().energy(Imagined(future.states), actions, Task(ColumnGoal({})))


def test_curiosity_is_disagreement_the_other_way_round_under_a_name_of_its_own():
    future, actions = imagined()
    cost = DisagreementCost(curious=True)
    check_cost(cost, ActionSpec("discrete", choices=3), (D,))
    assert torch.equal(cost.energy(future, actions, Task(ColumnGoal({}))), -future.disagreement)
    assert (cost.name, DisagreementCost().name) == ("curiosity", "disagreement")
    with pytest.raises(PlanningError, match="members > 1"):
        cost.energy(Imagined(future.states), actions, Task(ColumnGoal({})))


@pytest.mark.parametrize("tag", ["disagreement", "curiosity", "effort", "smoothness"])
def test_a_configuration_builds_a_term_of_its_tag_with_its_unit_and_comes_back(tag):
    for stored, unit in (({"type": tag}, 1.0), ({"type": tag, "unit": 0.25}, 0.25)):
        config = convert(stored, CostConfig)
        cost = config.build(SIGNATURE)
        assert (cost.name, cost.unit, Sealed(cost).unit, cost.config) == (tag, unit, unit, config)
        assert ("unit" in vars(cost)) == (unit != 1.0), "what an instance holds is part of seals that were stored"
    with pytest.raises(SteersmanError, match="a unit above 0"):
        convert({"type": tag, "unit": 0.0}, CostConfig)


def test_a_box_is_safe_exactly_where_every_column_is_within_its_limits():
    future, actions = imagined()
    box = Box(First("x", "y", "z"), {"x": (-1.0, 0.8), "z": (-math.inf, 0.5)}, scale={"x": 2.0}, margin={"z": 0.1})
    margin = box.margin(future, actions)
    x, z = future.states[:, :, 1:, 0], future.states[:, :, 1:, 2]
    assert torch.equal(margin <= 0, (x >= -1) & (x <= 0.8) & (z <= 0.4))
    outside = x > 0.8
    assert bool((margin[outside] >= (x[outside] - 0.8) / 2 - 1e-6).all())
    assert box.name == "x in [-1, 0.8], z in [-inf, 0.5]"
    assert Box(First("x"), {"x": (0, 1)}, name="tank").name == "tank"


@pytest.mark.parametrize(
    ("limits", "more", "match"),
    [
        ({"w": (0, 1)}, {}, "among x"),
        ({}, {}, "among x"),
        ({"x": (1, 0)}, {}, "low <= high"),
        ({"x": (0, 1)}, {"margin": {"x": 0.6}}, "low <= high"),
        ({"x": (0, 1)}, {"scale": {"x": 0.0}}, "scale > 0"),
        ({"x": (math.nan, 1)}, {}, "low <= high"),
    ],
)
def test_boxes_that_cannot_be_are_refused(limits, more, match):
    with pytest.raises(PlanningError, match=match):
        Box(First("x"), limits, **more)


def perception():
    return VectorEncoder.Config(size=D, hidden=(8,)).build(SIGNATURE)


def test_an_observation_goal_becomes_columns_where_the_readout_knows_them():
    goal = ObservationGoal({"pose": torch.tensor([1.0, 2.0]), "extra": torch.tensor([3.0])})
    assert column_names(SIGNATURE) == ("extra[0]", "x", "y")
    resolved = resolve(goal, perception(), SIGNATURE, First(*column_names(SIGNATURE)))
    assert isinstance(resolved, ColumnGoal)
    assert resolved.targets == {"extra[0]": 3.0, "x": 1.0, "y": 2.0}
    partial = resolve(ObservationGoal({"pose": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}), perception(), SIGNATURE,
                      First(*column_names(SIGNATURE)))
    assert partial.targets["y"].tolist() == [2.0, 4.0]


def test_an_observation_goal_is_encoded_otherwise():
    encoder = perception()
    goal = ObservationGoal({"pose": torch.tensor([1.0, 2.0]), "extra": torch.tensor([3.0])})
    for readout, space in [(None, "auto"), (First("x"), "auto"), (First(*column_names(SIGNATURE)), "latent")]:
        resolved = resolve(goal, encoder, SIGNATURE, readout, space)
        assert isinstance(resolved, LatentGoal)
        observation = {name: value[None, None] for name, value in goal.observation.items()}
        torch.testing.assert_close(resolved.latent.state, encoder.encode(observation).state[:, 0])
    batch = ObservationGoal({"pose": torch.zeros(7, 2), "extra": torch.zeros(7, 1)})
    assert resolve(batch, encoder, SIGNATURE).latent.state.shape == (7, D)


@pytest.mark.parametrize(
    ("observation", "space", "match"),
    [
        ({"pose": torch.zeros(3)}, "auto", "goal observation of"),
        ({"place": torch.zeros(2)}, "auto", "place of shape"),
        ({"pose": torch.zeros(4, 2), "extra": torch.zeros(1)}, "auto", "one per problem"),
        ({}, "auto", "none"),
        ({"pose": torch.zeros(2)}, "columns", "whose columns a read-out knows"),
    ],
)
def test_goal_observations_that_do_not_fit_are_refused(observation, space, match):
    with pytest.raises(PlanningError, match=match):
        resolve(ObservationGoal(observation), perception(), SIGNATURE, None, space)


def test_other_goals_pass():
    goal = ColumnGoal({"x": 1.0})
    assert resolve(goal, perception(), SIGNATURE) is goal
