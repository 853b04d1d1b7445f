"""An ego model: own state and world apart, equal to the two models alone, each rollout made once however many ask."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, Belief, ConfigError, ObservationSpec, Signature, check_world_model
from steersman.world_model import EgoModel, ResidualModel
from steersman.world_model.latent_variable import Categorical, Gaussian

ACTION = ActionSpec("continuous", (-1.0,), (1.0,))
SIGNATURE = Signature({"vector": ObservationSpec("vector", (5,))}, ACTION)
PLAIN = ResidualModel.Config(width=16)


def made(own=(3, 0), variable=None) -> EgoModel:
    torch.manual_seed(0)
    chance = ResidualModel.Config(width=16, latent_variable=variable or Categorical.Config(codes=3, width=8))
    return EgoModel.Config(own=own, ego=PLAIN, world=chance).build(SIGNATURE, (5,), None).eval()


def asked(model: EgoModel, b: int, k: int, s: int, h: int = 4):
    """K candidates in S scenarios each, as K S futures."""
    g = torch.Generator().manual_seed(1)
    state, actions = torch.randn(b, 5, generator=g), torch.rand(b, k, h, 1, generator=g) * 2 - 1
    u = torch.rand(b, s, h, model.chance, generator=g)
    return Belief(state), actions.repeat_interleave(s, 1), u.repeat(1, k, 1, 1)


def test_it_is_the_two_models_side_by_side_whatever_the_order_of_numbers():
    model = made()
    belief, actions, u = asked(model, 2, 3, 4)
    states = model.imagine(belief, actions, None, u).states
    own = model.ego.imagine(Belief(belief.state[:, [3, 0]]), actions).states
    torch.testing.assert_close(states[..., [3, 0]], own)
    world = model.world.imagine(Belief(belief.state[:, [1, 2, 4]]), actions[..., :0], None, u).states
    torch.testing.assert_close(states[..., [1, 2, 4]], world)
    found, nats = model.explain(belief, actions[:, 0], states[:, 0, 1:])
    assert found.states.shape == (2, 1, 5, 5)
    assert nats.shape == (2, 4)
    torch.testing.assert_close(found.states[:, 0, :, [3, 0]], own[:, 0])


def test_each_rollout_is_made_once_and_gradients_of_actions_are_whole():
    model, rows = made(), {"ego": 0, "world": 0}
    for name in rows:
        getattr(model, name).to_change.register_forward_hook(
            lambda _, given, __, name=name: rows.__setitem__(name, rows[name] + given[0].shape[-2]))
    belief, actions, u = asked(model, 2, 3, 4)
    with torch.enable_grad():
        model.imagine(belief, actions, None, u)
    assert rows == {"ego": 2 * 3 * 4, "world": 2 * 4 * 4}  # problems, candidates or scenarios, steps
    acted = actions.clone().requires_grad_()
    model.imagine(belief, acted, None, u).states.sum().backward()
    assert bool((acted.grad != 0).any(-1).all())


@pytest.mark.parametrize("variable", [Categorical.Config(codes=3, width=8), Gaussian.Config(size=2, width=8)])
def test_every_promise_of_a_world_model_is_kept(variable):
    assert check_world_model(made(variable=variable), ACTION, (5,))


def test_what_cannot_be_divided_is_refused():
    for own, ego, shape in (((), PLAIN, (5,)), ((0, 0), PLAIN, (5,)), ((5,), PLAIN, (5,)), ((0,), PLAIN, (5, 2)),
                            (tuple(range(5)), PLAIN, (5,)),
                            ((0,), ResidualModel.Config(latent_variable=Gaussian.Config()), (5,))):
        with pytest.raises(ConfigError):
            EgoModel.Config(own=own, ego=ego, world=PLAIN).build(SIGNATURE, shape, None)
