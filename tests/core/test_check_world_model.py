"""Our world models keep every promise; each promise can be broken, and then it is named."""

from __future__ import annotations

import pytest
import torch

from steersman import check_world_model
from steersman.core import ActionSpec, Belief, Imagined, ObservationSpec, PromiseError, Signature, WorldModel
from steersman.world_model import LinearModel, MapReader, ObserverModel, RecurrentModel, ResidualModel, TransformerModel

ACTION = ActionSpec("continuous", low=(-1.0, -2.0), high=(1.0, 0.5))
CHOICES = ActionSpec("discrete", choices=3)


def signature(action, exogenous=()):
    return Signature({"vector": ObservationSpec("vector", (3,))}, action, exogenous)


OURS = {
    "residual": (ResidualModel.Config(width=16), None, 1),
    "ensemble": (ResidualModel.Config(width=16, members=3), None, 1),
    "recurrent": (RecurrentModel.Config(), None, 4),
    "transformer": (TransformerModel.Config(width=16, depth=1, heads=1, head_width=8, hidden=16), None, 3),
    "map reader": (MapReader.Config(), (2, 5, 8), 1),
}


@pytest.mark.parametrize("action", [ACTION, CHOICES], ids=["amounts", "choices"])
@pytest.mark.parametrize("name", OURS)
def test_ours_keep_them(name, action):
    torch.manual_seed(0)
    config, context, history = OURS[name]
    model = config.build(signature(action), (6,), context)
    kept = check_world_model(model, action, (6,), context_shape=context, history=history)
    assert len(kept) >= 12


def test_exogenous_inputs_are_passed():
    model = ResidualModel.Config(width=16).build(signature(ACTION, ("outside",)), (6,), None)
    assert check_world_model(model, ACTION, (6,), exogenous=1)


def test_ours_that_know_amounts_only_keep_them():
    observer = ObserverModel.Config(width=16).build(signature(ACTION), (6,), None)
    assert check_world_model(observer, ACTION, (6,), history=4)
    given = LinearModel(0.9 * torch.eye(6), torch.ones(6, 2), torch.ones(6, 1))
    assert check_world_model(given, ACTION, (6,), exogenous=1)


class Drift(WorldModel):
    """s' = s + sum of the action; the promises are broken one by one below."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1], latent.context)

    def imagine(self, belief, actions, exogenous=None, z=None):
        way = actions.float().sum(-1).cumsum(2)[..., None]
        start = belief.state[:, None, None]
        states = torch.cat([start.expand(-1, way.shape[1], -1, -1), start + way], 2)
        return Imagined(self.spoil(states, actions), belief.context)

    def spoil(self, states, actions):
        return states


class Short(Drift):
    def spoil(self, states, actions):
        return states[:, :, 1:]


class Elsewhere(Drift):
    def spoil(self, states, actions):
        return states + 1


class Infinite(Drift):
    def spoil(self, states, actions):
        return torch.cat([states[:, :, :1], states[:, :, 1:] / 0], 2)


class Noisy(Drift):
    def spoil(self, states, actions):
        return torch.cat([states[:, :, :1], states[:, :, 1:] + torch.rand(1)], 2)


class Crowd(Drift):
    def spoil(self, states, actions):
        return torch.cat([states[:, :, :1], states[:, :, 1:] - states[:, :, 1:].mean(0, keepdim=True)], 2)


class Rivals(Drift):
    def spoil(self, states, actions):
        return torch.cat([states[:, :, :1], states[:, :, 1:] - states[:, :, 1:].mean(1, keepdim=True)], 2)


class Prophet(Drift):
    def spoil(self, states, actions):
        return torch.cat([states[:, :, :1], states[:, :, 1:] + states[:, :, -1:]], 2)


class Tired(Drift):
    """Forgets how far it has come."""

    def spoil(self, states, actions):
        age = torch.arange(states.shape[2])[:, None]
        return states * 0.5**age


class Numb(Drift):
    def spoil(self, states, actions):
        return states.detach()


class OtherBranch(Drift):
    def branch(self, belief, states, actions, exogenous=None, z=None):
        found = super().branch(belief, states, actions, exogenous, z)
        return Imagined(found.states + 1, found.context)


class Vandal(Drift):
    def spoil(self, states, actions):
        actions.zero_()
        return states


@pytest.mark.parametrize(("broken", "promise"), [
    (Short, "imagines states"), (Elsewhere, "begins every future where the belief is"),
    (Infinite, "imagines finite states"), (Noisy, "imagines the same again|global random generator"),
    (Crowd, "a problem alone as in a batch"), (Rivals, "a candidate alone as among others"),
    (Prophet, "lets no state depend on a later action"), (Tired, "imagines on from the end"),
    (Numb, "is differentiable in actions"), (OtherBranch, "branches as it imagines"),
    (Vandal, "leaves the actions as they were"),
])
def test_a_broken_promise_is_named(broken, promise):
    with pytest.raises(PromiseError, match=promise):
        check_world_model(broken(), ACTION, (6,))


def test_a_sound_model_of_somebody_else_passes_and_its_mode_is_left_alone():
    model = Drift().train()
    assert check_world_model(model, ACTION, (6,))
    assert model.training
