"""A guardrail read from pixels: what its margins cover on new frames, at whatever pace the model sees them."""

from __future__ import annotations

import msgspec
import pytest
import torch

from steersman.agent import Agent, AgentConfig
from steersman.core import Belief, Imagined, Latent, Pace, PlanningError, UsageError
from steersman.evaluation import fit_clear_guard, fit_guard, guarding
from steersman.perception import SceneEncoder
from steersman.world_model import MapReader
from steersman.worlds import OURS, Arm

WORLD = msgspec.structs.replace(OURS["hazards-pixels"], layouts=1)


class Place(SceneEncoder):
    """Eight numbers that tell where the newest picture is red, curved."""

    def __init__(self, *words):
        super().__init__(*words)
        self.latent_shape = (8,)

    def encode(self, observation, task=None):
        image = observation["image"][..., :3].float()
        red = (image[..., 0] - image[..., 1:].amax(-1) - 40).clamp_min(0)
        mass = red.sum((-1, -2)).clamp_min(1e-6)
        grid = torch.arange(64.0)
        u, v = (red.sum(-2) * grid).sum(-1) / mass / 32 - 1, (red.sum(-1) * grid).sum(-1) / mass / 32 - 1
        return Latent(torch.stack([u, v, u * v, u**2, v**2, (2 * u).sin(), (2 * v).sin(), u - v], -1))

    def survey(self, observation):
        return None


class Still(MapReader):
    """Nothing ever moves: what it foresees is worse the farther ahead."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, *_):
        return Imagined(belief.state[:, None, None].expand(-1, actions.shape[1], actions.shape[2] + 1, -1))


def agent_of(pace):
    signature = WORLD.signature.paced(pace)
    perception = Place(SceneEncoder.Config(width=4, map_width=4, hidden=4), WORLD.signature)
    model = Still(MapReader.Config(width=4), WORLD.signature, (8,), perception.context_shape)
    config = AgentConfig(perception=SceneEncoder.Config(), world_model=MapReader.Config())
    return Agent(config, signature, perception, model)


@pytest.mark.parametrize("pace", [Pace(), Pace(step=2, frames=2)], ids=["rows", "paced"])
def test_margins_cover_what_is_near_as_often_as_promised(pace):
    agent, ahead = agent_of(pace), 3
    guard = fit_clear_guard(agent, WORLD, 1, labels=300, level=0.9, steps_ahead=ahead)
    assert guard.labels_used == 300
    assert 100 < guard.near < 300
    assert len(guard.margins.by_step) == ahead
    assert guard.margins.by_step[0] < guard.margins.by_step[-1]  # it grows, as what is foreseen gets worse
    new = guarding._labelled_log(agent, WORLD, 800, ahead, torch.Generator().manual_seed(99))
    true = new.values[:, 4]
    near = true < true.max()
    read = guard.guardrail.readout.read(new.states)[near, 1:, 4]
    worse = (read - true[near, None] - torch.tensor(guard.margins.by_step)).amax(1)
    missed = float((worse > 0).float().mean())
    assert missed < 0.1 + 0.06, "10% promised, 3 deviations of the labels that calibrate"
    assert missed > 0.01, "margins no wider than they need to be"


def test_the_same_seed_gives_the_same_guard_and_a_lower_level_a_narrower_one():
    agent = agent_of(Pace())
    one, again = (fit_clear_guard(agent, WORLD, 2, labels=200, level=0.9, steps_ahead=1) for _ in range(2))
    assert one.margins == again.margins
    lower = fit_clear_guard(agent, WORLD, 2, labels=200, level=0.7, steps_ahead=1)
    assert lower.margins.by_step[0] < one.margins.by_step[0]
    assert set(one.figures()) == {"margin_first", "margin_last", "level", "labels", "near", "probe_error"}
    assert one.guardrail.rows(torch.tensor([0])) is one.guardrail  # one for any number of problems


def test_what_cannot_be_promised_or_is_not_labelled_is_refused():
    agent = agent_of(Pace())
    with pytest.raises(UsageError, match="labels of at least 50"):
        fit_clear_guard(agent, WORLD, 0, labels=20)
    with pytest.raises(UsageError, match="frames labelled with height, x, y"):
        fit_clear_guard(agent, WORLD, 0, labels=60, clearance="height")
    with pytest.raises(UsageError, match=r"two columns.*got x, y, vx, vy, clearance"):
        fit_guard(agent, WORLD, 0, labels=60)
    with pytest.raises(PlanningError, match="episodes"):
        fit_clear_guard(agent, WORLD, 0, labels=60, level=0.99, steps_ahead=1)


def test_labelled_frames_in_steps_of_a_model_are_those_of_the_rows():
    pace, found = Pace(step=3, frames=2, apart=2), Arm().labelled(4, 11, torch.Generator().manual_seed(0))
    paced = found.paced(pace, Arm().signature.paced(pace).action)
    shown, rows = paced.observations["image"], found.observations["image"]
    assert shown.shape == (4, 4, 64, 64, 6)  # 3 steps of 3 rows, and 2 rows that the first moment shows
    for step, row in enumerate((2, 5, 8, 11)):
        assert torch.equal(shown[:, step], torch.cat([rows[:, row], rows[:, row - 2]], -1))
    assert torch.equal(paced.actions, found.actions[:, 2:].reshape(4, 3, 9))
    assert torch.equal(paced.values, found.values)
    assert torch.equal(shown[:, -1], found.moments(pace)["image"])
    assert found.paced(Pace(), Arm().signature.action) is found
    with pytest.raises(UsageError, match="at least 12 rows"):
        found.paced(Pace(frames=4, apart=4), Arm().signature.action)
