"""Worlds behind a camera in evaluation: lazy pictures, aims in columns, what is sustained, protocols by name."""

from __future__ import annotations

from pathlib import Path

import dot
import msgspec
import pytest
import torch

from steersman.core import ActionError, ColumnGoal, ConfigError, UsageError
from steersman.evaluation import PROTOCOLS, drifted, fitting
from steersman.evaluation.success import Tally
from steersman.worlds import FILMED, FilmedReach, Habit, make_world

DOT = f"{Path(dot.__file__)}:make"
RIGHT = FilmedReach(id=DOT, size=16, goal={"x": 60.0}, reached={"x": (40.0, 60.0)}, limit=30, hold=5.0)
MOVE = torch.tensor([1.0, 0.0])


def drawn(trials) -> list[int]:  # type: ignore[no-untyped-def]
    return [camera.scene.env.unwrapped.drawn for camera in trials.cameras]


def test_pictures_are_drawn_when_somebody_looks_and_once() -> None:
    trials = RIGHT.begin(3, 0)
    assert drawn(trials) == [0, 0, 0]
    for _ in range(4):
        trials.step(MOVE.expand(3, 2))
    assert drawn(trials) == [0, 0, 0]
    one, two = trials.observe(), trials.observe()
    assert torch.equal(one["image"], two["image"])
    assert drawn(trials) == [1, 1, 1]
    trials.step(MOVE.expand(3, 2), torch.tensor([True, False, True]))
    assert torch.equal(trials.observe()["image"][1], one["image"][1])
    assert drawn(trials) == [2, 1, 2]


def test_episodes_that_do_not_move_stay_and_the_first_few_are_those() -> None:
    trials = RIGHT.begin(4, 2)
    start = trials.truth()
    trials.step(MOVE.expand(4, 2), torch.arange(4) % 2 == 0)
    assert ((trials.truth() - start)[:, 0] == torch.tensor([4.0, 0, 4, 0])).all()
    assert trials.returns.tolist() == [1, 0, 1, 0]
    few = trials.first(2)
    assert len(few) == 2
    assert torch.equal(few.solved(), trials.solved()[:2])
    assert torch.equal(few.observe()["image"], trials.observe()["image"][:2])
    assert isinstance(goal := few.goals(), ColumnGoal)
    assert torch.as_tensor(goal.targets["x"]).tolist() == [60, 60]


def test_a_place_that_is_reached_ends_the_episode_and_one_to_keep_does_not() -> None:
    keep = msgspec.structs.replace(RIGHT, sustained=True, reached={"x": (40.0, 50.0)})
    for world, wins in ((RIGHT, 6), (keep, 0)):
        tally = Tally(world.begin(6, 1), world.limit)
        while bool(tally.on.any()):
            tally.step(MOVE.expand(6, 2))
        assert int(tally.success.sum()) == wins, "beyond the place at the end, though it was there on the way"
        assert bool(tally.trials.over().all()) is world.sustained
    still = Tally(keep.begin(6, 1), 9)
    while bool(still.on.any()):
        still.step(MOVE.expand(6, 2) if still.time < 8 else 0 * MOVE.expand(6, 2))
    there = still.trials.solved()
    assert bool(there.any())
    assert torch.equal(still.success, there)


def test_starts_are_a_function_of_the_seed_and_not_there() -> None:
    near = msgspec.structs.replace(RIGHT, reached={"x": (0.0, 8.0)})
    one, two, other = (near.begin(8, seed) for seed in (4, 4, 5))
    assert torch.equal(one.truth(), two.truth())
    assert not torch.equal(one.truth(), other.truth())
    assert not bool(one.solved().any())
    with pytest.raises(ConfigError, match="1000 inside"):
        msgspec.structs.replace(RIGHT, reached={"x": (0.0, 60.0)}).begin(1, 0)
    with pytest.raises(ConfigError, match=r"columns x, y.*got z"):
        msgspec.structs.replace(RIGHT, goal={"z": 0.0}).begin(1, 0)


@pytest.mark.parametrize("changes", [
    {"size": 4}, {"limit": 0}, {"hold": 0.5}, {"scripted": 2.0}, {"goal": {"x": float("nan")}},
    {"reached": {"x": (5.0, 4.0)}}, {"reached": {"x": (float("nan"), 4.0)}},
])
def test_an_impossible_world_is_refused_before_it_is_drawn(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        msgspec.structs.replace(RIGHT, **changes)


def test_a_world_whose_goals_nobody_can_picture_says_so() -> None:
    with pytest.raises(UsageError, match="a way to put"):
        msgspec.structs.replace(RIGHT, told="picture").begin(1, 0)


def test_actions_that_are_refused() -> None:
    trials = RIGHT.begin(2, 0)
    with pytest.raises(ActionError, match=r"actions \(2, 2\)"):
        trials.step(MOVE)
    for wrong in (2.0, float("nan")):
        with pytest.raises(ActionError, match="bound the plan"):
            trials.step(torch.full((2, 2), wrong))


def test_returns_are_figures_where_a_world_is_scored_by_them() -> None:
    from steersman.evaluation import Evaluation, PlanningProtocol

    for world, expected in ((RIGHT, {"mean_return", "worst_return", "random_mean_return", "random_worst_return"}),
                            (msgspec.structs.replace(RIGHT, scored="success"), set())):
        trials = world.begin(3, 0)
        returns = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64) if expected else None
        won = torch.ones(3, dtype=torch.bool)
        figures = Evaluation(PlanningProtocol(world=world), 0, won, ~won, None, torch.ones(3), torch.ones(3), won, ~won,
                             returns, returns, 0, 0, {}, None, trials).figures()
        assert {key for key in figures if "return" in key} == expected
        if expected:
            assert (figures["mean_return"], figures["worst_return"]) == (3, 1)


def test_chance_gives_a_floor() -> None:
    floor = drifted(RIGHT.begin(30, 0), RIGHT.limit, torch.Generator().manual_seed(0))
    assert 0 < float(floor.success.float().mean()) < 1


@pytest.mark.parametrize("name", FILMED)
def test_names_have_protocols_and_signatures_without_drawing(name: str) -> None:
    world = FILMED[name]
    assert world.signature.observations["image"].shape == (64, 64, 3)
    assert PROTOCOLS[name].world is world
    assert world.success
    again = msgspec.json.decode(msgspec.json.encode(world), type=type(world))
    assert again == world


def test_a_run_finds_the_filmed_world_by_its_actions() -> None:
    for name in ("pendulum-pixels", "cartpole-pixels", "push-t", "mountain-car-pixels"):
        assert fitting(FILMED[name].signature) == name
    assert fitting(PROTOCOLS["two-rooms"].world.signature) == "two-rooms"


@pytest.mark.parametrize(("id", "columns", "goal"), [
    ("Pendulum-v1", ("cos", "sin", "speed"), {"cos": 1.0, "sin": 0.0, "speed": 0.0}),
    ("CartPole-v1", ("position", "speed", "angle", "turn"), {"angle": 0.1, "position": -1.0}),
    ("Acrobot-v1", ("cos1", "sin1", "cos2", "sin2", "speed1", "speed2", "height"), {"height": 1.5}),
    ("MountainCarContinuous-v0", ("position", "speed"), {"position": 0.46}),
])
def test_gymnasiums_own_worlds_are_read_placed_and_scripted(
        id: str, columns: tuple[str, ...], goal: dict[str, float]) -> None:
    from steersman.worlds import make_scene

    scene = make_scene(id)
    scene.reset(0)
    assert scene.columns == columns
    scene.place(goal)
    there = dict(zip(columns, scene.truth().tolist(), strict=True))
    assert {name: there[name] for name in goal} == pytest.approx(goal, abs=1e-6)


def test_a_place_without_the_columns_that_decide_it_is_refused() -> None:
    from steersman.worlds import make_scene

    with pytest.raises(UsageError, match="a value of 'cos' to put Pendulum-v1 somewhere; got sin"):
        make_scene("Pendulum-v1").place({"sin": 0.0})


@pytest.mark.parametrize(("name", "least"), [
    ("pendulum-pixels", -250.0), ("cartpole-pixels", 400.0), ("acrobot-pixels", -130.0), ("mountain-car-pixels", 80.0),
])
def test_scripts_do_what_their_worlds_ask(name: str, least: float) -> None:
    world = FILMED[name]
    trials = world.begin(5, 0)
    tally, act = Tally(trials, world.limit), trials.following(Habit(scripted=1.0), torch.Generator().manual_seed(0))
    while bool(tally.on.any()):
        tally.step(act())
    assert float(trials.returns.mean()) > least
    assert bool(tally.success.all())


def test_a_world_by_name_is_an_environment() -> None:
    assert make_world("pendulum-pixels").signature == FILMED["pendulum-pixels"].signature
