"""The evidence for control beside others, in small: every figure that is promised, and what its parts rest on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from steersman import evidence
from steersman.core import ColumnGoal, ConfigError, Imagined, PlanningError, Readout, Task, UsageError
from steersman.evidence import control
from steersman.evidence.control_worlds import RANGES, WORLDS, StageCost, control_world, draw, told
from steersman.evidence.peers import pets, sac, tdmpc2
from steersman.runs.artefacts import Picture, Table, read_all

SMALL = control.Sizes(episodes=1, trips=1, steps=400, ours=2, td_mpc2=2, policies=2, nodes=60)
WANTED = ("cartpole/pets", "cartpole/td-mpc2", "rooms/qrl")


class Columns(Readout):
    """The state is its columns."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names

    @property
    def columns(self):
        return self._names

    def read(self, states, context=None):
        return states


def test_small_cells_give_every_figure(tmp_path: Path) -> None:
    def cells(seed: int) -> tuple[evidence.Cell, ...]:
        return tuple(cell for cell in control.cells(seed, SMALL) if cell.row in WANTED and cell.seed == seed)

    short = evidence.Experiment("control", cells, control.summary)
    result, _ = evidence.perform(short, tmp_path / "run", evidence.Order(0, full=True))
    assert not result.failed
    assert set(result.figures) == set(WANTED)
    for name, figures in result.figures.items():
        assert {"score", "random_score", "score_by_seed", "episodes", "steps"} <= set(figures), name
        planner = name.partition("/")[2] in ("ours", "pets", "td-mpc2")
        assert ("score_equal_calls" in figures) == planner
        if planner:
            assert 0 < figures["equal_calls"] <= control_world(name.partition("/")[0]).calls
    assert set(RANGES) <= set(result.figures["rooms/qrl"])
    assert len(read_all(tmp_path / "run", Table)[0][0].rows) == len(WANTED)
    assert len(read_all(tmp_path / "run", Picture)[0]) == 1


@pytest.mark.parametrize("name", WORLDS)
def test_what_a_step_costs_is_minus_the_reward_of_the_world(name: str, tmp_path: Path) -> None:
    """Of Gymnasium's worlds: over an episode, up to what the rewards count at its first and last step."""
    world = control_world(name)
    if world.rooms:
        here = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
        assert float(world.stage(here, torch.zeros(1, 2), torch.tensor([[0.5, 1.5]]))) == 1.0
        return
    from steersman.worlds import GymnasiumWorld, make_env

    env = GymnasiumWorld(make_env(world.env))
    env.reset(3)
    generator, returned, cost, rows = torch.Generator().manual_seed(0), 0.0, 0.0, 0
    spec = env.signature.action
    while True:
        u = torch.rand(spec.size, generator=generator)
        action = (u * spec.choices).long() if spec.kind == "discrete" else 4 * u - 2
        step = env.step(action)
        seen = step.observation["vector"]
        cost += float(world.stage(seen, action.float(), seen[:0]))
        returned, rows = returned + step.reward, rows + 1
        if step.over:
            break
    offset = {"pendulum": 0.0, "cartpole": rows, "acrobot": 0.0}[name]  # CartPole earns 1 for every step
    assert returned == pytest.approx(offset - cost, rel=0.03, abs=1.5)
    assert world.over is None or bool(world.over(seen)) == step.terminated


def test_a_cost_reads_columns_and_the_goal_of_each_problem() -> None:
    world = control_world("rooms")
    states, goal = torch.rand(2, 3, 5, 4), ColumnGoal({"x": torch.tensor([0.0, 1.0]), "y": 2.0})
    found = StageCost(world, Columns(world.columns)).energy(Imagined(states), torch.zeros(2, 3, 4, 2), Task(goal))
    for b in range(2):
        for k in range(3):
            for t in range(4):
                apart = states[b, k, t + 1, :2] - torch.tensor([float(b), 2.0])
                assert found[b, k, t] == pytest.approx(float(apart.norm()))
    with pytest.raises(PlanningError, match="a goal on x, y"):
        told(world, Task(ColumnGoal({"x": 0.0})), 1, states)


def test_td_mpc2_learns_values_that_random_networks_do_not_have(tmp_path: Path) -> None:
    world = control_world("pendulum")
    log = world.log(tmp_path / "log", 0, 1000)
    config = tdmpc2.Config(width=32, size=8, steps=120, batch_size=64, target=0.05)
    learned = tdmpc2.train(world, log, config).networks
    fresh = tdmpc2.train(world, log, tdmpc2.Config(width=32, size=8, steps=1, batch_size=64)).networks
    generator = torch.Generator().manual_seed(1)
    pieces = draw(world, log, 512, 1, generator)
    z = [networks.encoded(pieces.seen[:, 0]) for networks in (learned, fresh)]
    acted = learned.actions(pieces.actions[:, 0])
    error = [float((networks.rewarded(s, acted, pieces.goal) - pieces.cost[:, 0]).square().mean().detach())
             for networks, s in zip((learned, fresh), z, strict=True)]
    assert error[0] < 0.3 * error[1]
    spread = learned.valued(z[0], acted, pieces.goal).mean(0)
    assert torch.corrcoef(torch.stack([spread, pieces.cost[:, 0]]))[0, 1] > 0.5  # worse now, worse to come


def test_settings_and_names_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="a world of pendulum"):
        control_world("pendulumm")
    with pytest.raises(ConfigError, match="members >= 2"):
        pets.Config(members=1)
    with pytest.raises(ConfigError, match="values >= 2"):
        tdmpc2.Config(values=1)
    with pytest.raises(ConfigError, match="every and random >= 1"):
        sac.Config(every=0)


def test_without_stable_baselines_there_is_no_sac_and_a_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    gone = "stable_baselines3"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == gone else real(name))
    assert not [cell for cell in control.cells(0) if cell.row.endswith("/sac")]
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(UsageError, match=r"steersman\[sac\]"):
        sac.train(control_world("pendulum"), 10)


def test_an_amount_is_cut_into_choices_and_rooms_show_their_goal() -> None:
    assert sac.chosen(torch.tensor([-1.0, -0.1, 0.1, 1.0]), 2).tolist() == [0, 0, 1, 1]
    assert sac.chosen(torch.tensor([-1.0, 0.0, 0.9]), 3).tolist() == [0, 1, 2]
    rooms = sac.Rooms(5)
    seen, _ = rooms.reset()
    after, reward, _, _, _ = rooms.step(seen[:2] * 0)
    assert seen.shape == (6,)
    assert reward == pytest.approx(-float(((after[:2] - after[4:]) ** 2).sum() ** 0.5), abs=1e-5)
