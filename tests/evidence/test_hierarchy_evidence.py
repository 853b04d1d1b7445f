"""The evidence for goals beyond a flat horizon, in small: every figure that is promised, for rooms, car and reasons."""

from __future__ import annotations

from pathlib import Path

from steersman import evidence
from steersman.agent import Agent
from steersman.agent.believing import Boxes
from steersman.agent.remembered import ways_from
from steersman.core import Task
from steersman.data import Dataset
from steersman.evidence import hierarchy, hierarchy_pendulum, hierarchy_pixels, reach
from steersman.runs.artefacts import Picture, Table, read_all

SMALL = hierarchy.Sizes(episodes=12, steps=4, played=2, flat=2, car=2, car_steps=4, nodes=60)


def test_small_cells_give_every_figure(tmp_path: Path) -> None:
    wanted = {"rooms/reach", "rooms/leaks", "rooms/flat-15", "mountain-car/white"}

    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        return tuple(cell for cell in hierarchy.cells(seed, SMALL) if cell.row in wanted and cell.seed == seed)

    short = evidence.Experiment("hierarchy", cells, hierarchy.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(3, full=True))
    assert not result.failed
    for name in ("rooms/short/reach", "rooms/long/flat-15"):
        assert {"success", "calls", "cpu_seconds", "success_by_seed", "episodes"} <= set(result.figures[name])
        assert 0 <= result.figures[name]["success"] <= 1
    assert 48 <= result.figures["rooms/long/reach"]["calls"] <= 400, "an untrained graph leaks: strategies are tried"
    assert result.figures["mountain-car/white/reach"]["mean_return"] < 100
    for name in ("recipe", "coarse"):
        found = result.figures[f"rooms/leaks/{name}"]
        assert all(0 <= found[f"{key}_{when}"] <= 1 for key in ("leaks", "impossible", "no_way")
                   for when in ("before", "after"))
    table = read_all(tmp_path / "run", Table)[0][0]
    assert {row.group for row in table.rows} >= {"rooms, short", "rooms, long", "mountain-car, white"}
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1


def test_pictures_are_learned_and_a_goal_told_by_one_is_planned_to(tmp_path: Path) -> None:
    sizes = hierarchy_pixels.Filmed(episodes=3, labels=30, steps=2, played=1, nodes=40)
    hierarchy_pixels.learn(evidence.Context(tmp_path, 0, sizes))
    agent = hierarchy_pixels.by_whole_steps(
        Agent.load(tmp_path / "run", planner=hierarchy_pixels.reach_config(sizes.nodes).build()))
    log = Dataset.open(tmp_path / "log").paced(agent.signature.pace)
    by = Boxes(agent.perception, agent.world_model, agent.signature)
    agent.planner.recall(lambda config: ways_from(log, by, agent.readout, config))
    trials = hierarchy_pixels.PROTOCOLS["long"].world.begin(2, 0)
    picture = {"image": trials.observe()["image"].repeat(1, 1, 1, 3)}
    plan = agent.act(picture, Task(trials.goals()))
    assert plan.actions.shape[1:] == (6, 4)
    pushes = plan.actions.unflatten(2, (2, 2))
    assert bool((plan.imagined.states[:, 0].isfinite()).all())
    assert pushes.shape[2] == hierarchy_pixels.PACE.step


def test_figures_of_pictures_and_pendulums_are_means_over_seeds() -> None:
    seen = [hierarchy_pixels.Seen(row="pixels/long/reach", wins=w, episodes=4, calls=9.0) for w in (1, 3)]
    found = hierarchy_pixels.figures(seen)["pixels/long/reach"]
    assert found["success"] == 0.5
    assert found["success_by_seed"] == [0.25, 0.75]
    swung = hierarchy_pendulum.figures([hierarchy_pendulum.Swung([-1.0, -3.0], [-4.0])])
    assert swung["pendulum/reach"]["mean_return"] == -2.0
    assert hierarchy_pendulum.figures([]) == {}


def test_reasons_are_counted(tmp_path: Path) -> None:
    short = evidence.Experiment("reach", lambda seed: reach.cells(seed, SMALL)[:1], reach.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(1))
    assert not result.failed
    figures = result.figures["reach"]
    assert set(figures) == {"tasks", "answered", "reached", "said_why", "wrong_why"}
    assert all(0 <= figures[name] <= 1 for name in ("answered", "reached", "said_why", "wrong_why"))
    assert figures["answered"] == 1
    assert result.figures["reach/outside-the-arena"]["right"] == 1
