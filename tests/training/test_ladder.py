"""The ladder: what a few numbers explain is told by a few moments and left to them, as exactly as normal equations do;
all weights change only where they must; nothing where nothing changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_world import SIGNATURE

from steersman.agent import AgentConfig
from steersman.agent.building.parts import build_parts
from steersman.core import Belief, ConfigError, UsageError
from steersman.core.parts import CorrectorConfig, convert
from steersman.data.experience import ExperienceWindows
from steersman.perception import VectorEncoder
from steersman.runs.experiencing import ExperienceWriter, Moments
from steersman.training import LadderCorrector
from steersman.world_model import ResidualModel

SETTINGS = LadderCorrector.Config(stay=0.0, reaches=(24, 48), newest=8, window=4, undo=2)


def boxes():
    """Perception, whose latents are the columns, and a world model."""
    torch.manual_seed(0)
    made = build_parts(AgentConfig(perception=VectorEncoder.Config(size=0, hidden=(), keep=True),
                                   world_model=ResidualModel.Config(width=16, linear=True)), SIGNATURE)
    model = made["world_model"].eval().requires_grad_(False)
    model.from_drive.weight[:, 16:] = 0.3 * torch.randn(1, 3, 2)
    return made["perception"].eval(), model


def pushed(gain):
    """The world in which actions act so strongly: a model of it."""
    world = boxes()[1]
    world.actions.scale.mul_(gain)
    return world


def lived(folder, world, moments=60):
    """Moments of an episode in a world that is a model, by random actions."""
    generator, state = torch.Generator().manual_seed(1), torch.ones(1, 3)
    writer, action = ExperienceWriter(folder, SIGNATURE), torch.zeros(1, 2)
    for t in range(moments):
        writer.append(Moments({"vector": state.numpy()}, action.numpy(), first=np.full(1, t == 0)))
        action = 2 * torch.rand(1, 2, generator=generator) - 1
        with torch.inference_mode():
            state = world.imagine(Belief(state), action[:, None, None]).states[:, 0, -1].clone()
    writer.close()
    return folder


def ladder(settings=SETTINGS):
    perception, model = boxes()
    return LadderCorrector(settings, SIGNATURE, perception, model), model


def copied(model):
    return {name: x.clone() for name, x in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_how_strongly_actions_act_is_told_by_two_dozen_moments_and_nothing_else_changes(tmp_path):
    one, model = ladder()
    before = copied(model)
    update = one.propose(lived(tmp_path / "x", pushed(0.6), 24), 24)
    assert same(copied(model), before)  # proposing changes nothing
    assert update.weights.keys() == {"world_model.actions.scale", "world_model.actions.shift"}
    torch.testing.assert_close(update.weights["world_model.actions.scale"], torch.full((2,), 0.6), rtol=1e-3, atol=0)
    assert update.told["error after"] < 1e-3 * update.told["error before"]
    assert (update.number, update.since, update.through) == (1, 0, 24)
    again = one.propose(tmp_path / "x", 24)
    assert same(dict(again.weights), dict(update.weights))


def test_a_rung_that_is_linear_comes_to_the_normal_equations(tmp_path):
    """Without its perceptron the model is s' = s + A s + B (g a + o) + c: one least squares problem in g and o."""
    settings = LadderCorrector.Config(rungs=(("actions",),), stay=0.0, reaches=(40,), newest=8, window=1, iterations=60)
    one, model = ladder(settings)
    world = pushed(0.7)
    for linear in (model, world):
        linear.to_change.weight.zero_()
    world.from_drive.bias.add_(0.05)  # what no gain explains exactly
    update = one.propose(lived(tmp_path / "x", world, 40), 40)
    reader = ExperienceWindows(tmp_path / "x")
    w = reader.windows(torch.zeros(39, dtype=torch.long), torch.arange(39), 1)
    state, after, action = w.observations["vector"][:, 0], w.observations["vector"][:, 1], w.actions[:, 0]
    with torch.inference_mode():
        rest = model.imagine(Belief(state), torch.zeros(39, 1, 1, 2)).states[:, 0, -1]
    b = model.from_drive.weight[0, 16:]  # (3, 2)
    columns = torch.cat([action[:, None, :] * b, b.expand(39, -1, -1)], -1).flatten(0, 1).double()
    wanted = torch.linalg.lstsq(columns, (after - rest).flatten()[:, None].double()).solution[:, 0].float()
    found = torch.cat([update.weights["world_model.actions.scale"], update.weights["world_model.actions.shift"]])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_where_no_gain_explains_it_all_weights_may_change_and_foresee_moments_never_seen(tmp_path):
    one, model = ladder()
    world = boxes()[1]
    world.from_state.weight[:, 16:] -= 0.2 * torch.eye(3)  # a pull towards the origin, which no action explains
    update = one.propose(lived(tmp_path / "x", world), 48)
    assert update.told["rung"] == 1.0
    one.accept(update)
    state, action = torch.randn(200, 3), 2 * torch.rand(200, 1, 1, 2) - 1
    with torch.inference_mode():
        true, foreseen, untouched = (m.imagine(Belief(state), action).states[:, 0, -1]
                                     for m in (world, model, boxes()[1]))
    assert float((foreseen - true).square().mean()) < 0.4 * float((untouched - true).square().mean())


def test_where_nothing_changed_nothing_is_proposed(tmp_path):
    one, _ = ladder()
    assert one.propose(lived(tmp_path / "x", boxes()[1]), 60) is None
    assert one.reason.startswith("nothing explains the newest moments better than the weights do")
    assert one.propose(tmp_path / "x", 4) is None
    assert one.reason == "no 13 moments in a row before 4"


def test_moments_before_a_change_do_not_keep_it_from_being_told(tmp_path):
    """40 moments of the old world, then 24 of the new one: the short reach is taken."""
    lived(tmp_path / "x", boxes()[1], 40)
    writer, generator, state = ExperienceWriter(tmp_path / "x", SIGNATURE), torch.Generator().manual_seed(3), None
    world = pushed(0.5)
    for t in range(26):
        action = 2 * torch.rand(1, 2, generator=generator) - 1
        with torch.inference_mode():
            state = torch.zeros(1, 3) if state is None else world.imagine(
                Belief(state), action[:, None, None]).states[:, 0, -1].clone()
        writer.append(Moments({"vector": state.numpy()}, action.numpy(), first=np.full(1, t == 0)))
    writer.close()
    update = ladder()[0].propose(tmp_path / "x", 66)
    assert update.told["reach"] == 24.0
    torch.testing.assert_close(update.weights["world_model.actions.scale"], torch.full((2,), 0.5), rtol=1e-2, atol=0)


def test_accepted_and_taken_back_bit_for_bit(tmp_path):
    one, model = ladder()
    lived(tmp_path / "x", pushed(0.6), 30)
    before = copied(model)
    update = one.propose(tmp_path / "x", 30)
    one.accept(update)
    assert one.updates == 1
    assert not same(copied(model), before)
    with pytest.raises(UsageError, match="update 2; got 1; propose again"):
        one.accept(update)
    one.roll_back()
    assert same(copied(model), before)
    with pytest.raises(UsageError, match="one of the last 2 updates to take back"):
        one.roll_back()


def test_episodes_side_by_side_are_reached_as_far_back_each(tmp_path):
    """Two episodes in the same world: as many steps of each, so twice as many moments."""
    world, generator = pushed(0.6), torch.Generator().manual_seed(1)
    writer, state, action = ExperienceWriter(tmp_path / "x", SIGNATURE), torch.ones(2, 3), torch.zeros(2, 2)
    for t in range(24):
        writer.append(Moments({"vector": state.numpy()}, action.numpy(), first=np.full(2, t == 0)))
        action = 2 * torch.rand(2, 2, generator=generator) - 1
        with torch.inference_mode():
            state = world.imagine(Belief(state), action[:, None, None]).states[:, 0, -1].clone()
    writer.close()
    update = ladder(LadderCorrector.Config(stay=0.0, reaches=(16,)))[0].propose(tmp_path / "x", 48)
    assert update.since == 16
    torch.testing.assert_close(update.weights["world_model.actions.scale"], torch.full((2,), 0.6), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("words", "message"), [
    ({"rungs": ((),)}, "rungs of at least one name"),
    ({"reaches": (40, 20)}, "each above the one before"),
    ({"reaches": (12,)}, "reaches above newest"),
    ({"stay": -1.0}, "stay >= 0"),
])
def test_settings_that_cannot_be_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        LadderCorrector.Config(**words)


def test_a_rung_that_names_nothing_is_refused_and_a_config_is_found_by_its_name():
    with pytest.raises(ConfigError, match="tensors of the world model in the rung"):
        ladder(LadderCorrector.Config(rungs=(("no such",),), stay=0.0))
    assert convert({"type": "ladder", "stay": 0.0}, CorrectorConfig) == LadderCorrector.Config(stay=0.0)
