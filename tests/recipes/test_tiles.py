"""The recipe on pictures of tiles: the log says how large they are, and goals are reached in layouts never seen."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
import tiled_walk as walk
import torch

from steersman.agent import Agent
from steersman.core import (
    ActionSpec,
    ConfigError,
    Episode,
    ObservationGoal,
    ObservationSpec,
    Pace,
    Signature,
    Task,
)
from steersman.data import CacheWriter, Dataset
from steersman.perception import PatchEncoder
from steersman.recipes import pixels
from steersman.runs import Run
from steersman.training import create_run, settled, stored_config, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    dataset = walk.record(folder / "log", episodes=120, steps=30)
    config = msgspec.structs.replace(pixels.recipe(tiles=True, steps=160, held_out=0.0), gauge_every=0)
    with create_run(folder / "run", config, dataset, recipe="pixels") as made:
        train(config, dataset, made)
    return Run.open(folder / "run")


def succeeded(agent, count=20, seed=99):
    """Share of goals reached in layouts that no log has shown."""
    layouts = walk.walls(count, seed, 0.3)
    g, pairs = torch.Generator().manual_seed(seed), []
    for spots in map(walk.free, layouts):
        pairs.append(spots[torch.randperm(len(spots), generator=g)[:2]])
    place, goal = torch.stack(pairs).unbind(1)
    task = Task(ObservationGoal({"image": walk.pictures(layouts, goal)}))
    agent.reset()
    for _ in range(16):
        choice = agent.act({"image": walk.pictures(layouts, place)}, task).action[:, 0]
        arrived = (place == goal).all(1)
        place = torch.where(arrived[:, None], place, walk.moved(layouts, place, choice))
    return float((place == goal).all(1).float().mean())


def test_goals_are_reached_in_layouts_that_were_never_seen_and_by_an_untrained_model_are_not(run):
    agent = Agent.load(run)
    assert succeeded(agent) >= 0.95
    torch.manual_seed(0)
    for parameter in agent.world_model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    assert succeeded(agent) <= 0.5


def test_the_run_keeps_the_tiles_that_the_log_showed(run):
    config = stored_config(run)
    picture = config.agent.perception.picture
    assert (picture.patch, picture.offset) == (walk.TILE, (walk.OFFSET, walk.OFFSET))
    assert config.agent.world_model.grid == (8, 8)
    assert config.pace.frames == 1


def test_pictures_that_are_not_of_tiles_are_refused_before_training(tmp_path):
    g = torch.Generator().manual_seed(0)
    with CacheWriter(tmp_path / "log", walk.SIGNATURE, origin="noise") as writer:
        film = torch.randint(0, 256, (9, walk.PIXELS, walk.PIXELS, 3), generator=g, dtype=torch.uint8)
        writer.append([Episode({"image": film}, torch.randint(4, (8, 1), generator=g))])
        writer.finish()
    with pytest.raises(ConfigError, match="a lattice of tiles"):
        settled(pixels.recipe(tiles=True), Dataset.open(tmp_path / "log"))


def test_a_patch_that_is_said_is_not_looked_for():
    config = pixels.recipe(tiles=True)
    agent = msgspec.structs.replace(config.agent, perception=PatchEncoder.Config(patch=8))
    said = msgspec.structs.replace(config, pace=Pace(), agent=agent)
    shown = Signature({"image": ObservationSpec("image", (64, 80, 3))}, ActionSpec("discrete", choices=2))
    found = settled(said, SimpleNamespace(signature=shown))  # there are no pictures to look at
    assert found.agent.perception == said.agent.perception
    assert found.agent.world_model.grid == (8, 10)


def test_small_patches_are_read_where_they_lie():
    config = pixels.recipe(patches=4)
    shown = Signature({"image": ObservationSpec("image", (32, 48, 3))}, ActionSpec("discrete", choices=2))
    agent = settled(config, SimpleNamespace(signature=shown)).agent
    assert agent.world_model.grid == agent.readout.grid == (8, 12)
    for options in ({"patches": 4, "tiles": True}, {"patches": -1}, {"patches": 4, "views": True}):
        with pytest.raises(ConfigError, match="patches"):
            pixels.recipe(**options)


@pytest.mark.parametrize("options", [{"tokens": True}, {"views": True}, {"futures": 2}, {"encoder": "vit"}])
def test_tiles_go_with_no_other_encoder_and_no_other_objective(options):
    with pytest.raises(ConfigError, match="tiles without"):
        pixels.recipe(tiles=True, **options)
