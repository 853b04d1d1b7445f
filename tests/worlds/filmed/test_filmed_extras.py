"""Other people's worlds that need their packages: what is drawn, where goals lie, that a restored state goes on."""

from __future__ import annotations

import importlib.util
import math
import os

import msgspec
import numpy as np
import pytest
import torch

from steersman.core import ObservationGoal, UsageError
from steersman.evaluation import drifted
from steersman.evaluation.success import Tally
from steersman.worlds import FILMED, Camera, Habit, make_scene
from steersman.worlds.filmed.control import renderer
from steersman.worlds.filmed.push_t import NEAR, PushT, posed


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


GRIDS = ("empty-8x8", "door-key-6x6", "simple-crossing")


@needs("pygame")
@pytest.mark.parametrize("name", ["pendulum-pixels", "cartpole-pixels", "acrobot-pixels", "mountain-car-pixels"])
def test_gymnasiums_own_worlds_are_drawn_without_a_display_and_goals_differ_from_starts(name: str) -> None:
    told = msgspec.structs.replace(FILMED[name], told="picture")
    trials = told.begin(3, 0)
    goal = trials.goals()
    assert isinstance(goal, ObservationGoal)
    seen = trials.observe()["image"]
    assert seen.shape == goal.observation["image"].shape == (3, 64, 64, 3)
    assert bool((seen != goal.observation["image"]).flatten(1).any(1).all())
    assert torch.equal(seen, FILMED[name].begin(3, 0).observe()["image"]), "taking goals' pictures moved the starts"
    assert "SDL_VIDEODRIVER" not in os.environ


@needs("pygame")
def test_a_smaller_window_shows_the_same_pendulum() -> None:
    import gymnasium

    scene = make_scene("Pendulum-v1")
    whole = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    scene.reset(4)
    whole.reset(seed=4)
    for _ in range(5):
        scene.step(torch.tensor([1.5]))
        whole.step(np.array([1.5]))
    seen, expected = Camera(scene, 32).look()["image"], whole.render()[:496, :496]
    shrunk = expected.reshape(31, 16, 31, 16, 3).mean((1, 3))
    assert np.abs(seen.numpy()[:31, :31].astype(float) - shrunk).mean() < 4


@needs("gym_pusht")
def test_the_table_is_drawn_as_the_environment_observes_it() -> None:
    scene = PushT()
    scene.reset(1)
    scene.step(torch.tensor([100.0, 200.0]))
    env = scene._env
    env.observation_width = env.observation_height = 512
    env.obs_type = "pixels"
    assert np.array_equal(scene.picture(64), env.get_obs())


@needs("gym_pusht")
def test_a_restored_table_goes_on_as_it_did() -> None:
    scene = PushT()
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        scene.reset(seed)
        targets = [scene.scripted(generator) for _ in range(12)]
        for target in targets[:6]:
            scene.step(target)
        pose, there = scene.pose(), scene.truth()
        for target in targets[6:]:
            scene.step(target)
        after = scene.truth()
        scene.put(pose)
        assert np.allclose(scene.truth(), there, atol=1e-3)
        for target in targets[6:]:
            scene.step(target)
        assert np.abs(scene.truth() - after)[:4].max() < 2.0, "px"
        assert np.abs(scene.truth() - after)[4:].max() < 0.05


@needs("gym_pusht")
def test_goals_are_ahead_on_a_logs_motion_and_pictures_show_them() -> None:
    world = FILMED["push-t-by-picture"]
    trials = world.begin(4, 3)
    columns = FILMED["push-t"].begin(4, 3)
    assert torch.equal(trials.truth(), columns.truth())
    targets = columns.goals().targets  # type: ignore[union-attr]
    asked = torch.stack([torch.as_tensor(targets[name]) for name in PushT.columns[2:]], 1)
    assert not bool(columns.solved().any())
    scene = columns.cameras[0].scene
    for i in range(4):
        scene.place(dict(zip(PushT.columns[2:], asked[i].tolist(), strict=True)))
        assert bool(posed(torch.from_numpy(scene.truth()[2:]), asked[i]))
        assert np.allclose(scene.truth()[2:], asked[i], atol=0.01)
        shown = columns.cameras[0].look()["image"].float()
        goal = trials.goals().observation["image"][i].float()  # type: ignore[union-attr]
        moved = (shown - goal).abs().amax(-1) > 60  # the arm stands elsewhere
        assert int(moved.sum()) < 40


def test_success_at_push_t_is_near_and_turned_alike() -> None:
    asked = torch.tensor([[100.0, 100.0, 1.0, 0.0]])
    for angle, away, there in ((19, 0, True), (21, 0, False), (0, NEAR - 1, True), (0, NEAR + 1, False),
                               (-19, 19, True)):
        turn = math.radians(angle)
        block = torch.tensor([[100.0 + away, 100.0, math.cos(turn), math.sin(turn)]])
        assert bool(posed(block, asked)) is there


@needs("gym_pusht")
def test_the_block_off_the_table_ends_the_episode() -> None:
    scene = PushT()
    scene.reset(0)
    scene.place({"block_x": 515.0, "block_y": 200.0, "cos": 1.0, "sin": 0.0, "agent_x": 100.0, "agent_y": 100.0})
    assert scene.step(torch.tensor([100.0, 100.0])).terminated


@needs("minigrid")
@pytest.mark.parametrize("name", GRIDS)
def test_the_script_stands_on_the_goal_as_its_picture_shows_and_chance_seldom_does(name: str) -> None:
    world = FILMED[name]
    trials = world.begin(6, 1)
    goal = trials.goals().observation["image"]  # type: ignore[union-attr]
    tally, act = Tally(trials, world.limit), trials.following(Habit(scripted=1.0), torch.Generator().manual_seed(0))
    while bool(tally.on.any()):
        tally.step(act())
    assert bool(tally.success.all())
    end = trials.observe()["image"]
    tile = 64 // {"empty-8x8": 8, "door-key-6x6": 6, "simple-crossing": 9}[name]
    for one in (end != goal).any(-1):
        places = one.nonzero()
        assert not len(places) or int((places.amax(0) - places.amin(0)).max()) < tile, "not on the same square"
    floor = drifted(world.begin(20, 1), world.limit, torch.Generator().manual_seed(0))
    assert float(floor.success.float().mean()) < 0.6


@needs("minigrid")
@pytest.mark.parametrize("name", GRIDS)
def test_the_scripts_model_of_a_grid_is_the_grid(name: str) -> None:
    scene = FILMED[name].scene()
    generator = torch.Generator().manual_seed(0)
    for seed in range(6):
        scene.reset(seed)
        if seed % 2:
            scene.scatter(generator)
        for _ in range(60):
            choice = int(torch.randint(scene.action.choices, (1,), generator=generator))
            expected = scene._after(scene._now(), choice)  # type: ignore[attr-defined]
            scene.step(torch.tensor([choice]))
            assert scene._now() == expected  # type: ignore[attr-defined]


@needs("minigrid")
@pytest.mark.parametrize(("values", "words"), [
    ({"x": 1.0}, "a value of 'y' to put MiniGrid-Empty-8x8-v0"), ({"x": 50.0, "y": 1.0}, "a square of the 8 × 8"),
])
def test_a_place_that_a_grid_does_not_have_is_refused(values: dict[str, float], words: str) -> None:
    scene = make_scene("MiniGrid-Empty-8x8-v0")
    scene.reset(0)
    with pytest.raises(UsageError, match=words):
        scene.place(values)


@needs("gym_pusht")
def test_a_block_without_a_place_is_refused() -> None:
    scene = PushT()
    scene.reset(0)
    with pytest.raises(UsageError, match="a value of 'block_y' to put"):
        scene.place({"block_x": 100.0, "cos": 1.0, "sin": 0.0})


@needs("minigrid")
def test_logs_of_grids_go_on_past_the_goal_and_show_all_of_a_way() -> None:
    world = FILMED["door-key-6x6"]
    episodes = list(world.log(12, 60, 0))
    assert [len(e) for e in episodes] == [60] * 12
    truth = world.labelled(300, 0, torch.Generator().manual_seed(0))
    key, opened = (truth.values[:, truth.columns.index(name)] for name in ("key", "open"))
    for share in (float(key.mean()), float(opened.mean())):
        assert 0.1 < share < 0.95


@needs("dm_control")
def test_dm_control_is_drawn_in_software_where_that_works() -> None:
    if renderer(os.environ.get("MUJOCO_GL", "")) is None:
        pytest.skip("nothing here draws without a display")
    world = FILMED["reacher-pixels-by-picture"]
    trials = world.begin(3, 0)
    again = FILMED["reacher-pixels"].begin(3, 0)
    assert torch.equal(trials.truth(), again.truth())
    assert not bool(trials.solved().any())
    goal = trials.goals().observation["image"]  # type: ignore[union-attr]
    assert bool((goal != trials.observe()["image"]).flatten(1).any(1).all())
    scene = again.cameras[0].scene
    scene.place({"to_target_x": 0.0, "to_target_y": 0.0})
    assert np.abs(scene.truth()[2:4]).max() < 1e-6
    with pytest.raises(UsageError, match="a task of dm-control's suite"):
        make_scene("dm_control/reacher-impossible")


@needs("dm_control")
def test_a_renderer_that_does_not_work_brings_nothing_down() -> None:
    assert renderer("no-such-renderer") is None
