"""What a world model leaves to chance keeps its promises; each can be broken, and then it is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steersman import check_world_model
from steersman.core import ActionSpec, Belief, Imagined, ObservationSpec, PromiseError, Signature, Support, WorldModel
from steersman.world_model import RecurrentModel, ResidualModel, TransformerModel
from steersman.world_model.latent_variable import Categorical, Gaussian, Noise

ACTION = ActionSpec("continuous", low=(-1.0, -2.0), high=(1.0, 0.5))
CHOICES = ActionSpec("discrete", choices=3)
SMALL = {"width": 16, "depth": 1, "heads": 1, "head_width": 8, "hidden": 16}
LATENT = {
    "codes": Categorical.Config(codes=4, width=8), "vectors": Categorical.Config(codes=3, size=2, width=8),
    "learned": Categorical.Config(codes=3, width=8, inference="learned"), "gaussian": Gaussian.Config(size=2, width=8),
    "nodes": Gaussian.Config(size=1, width=8, nodes=3),
}
PREDICTORS = {
    "residual": lambda z: (ResidualModel.Config(width=16, latent_variable=z), 1),
    "ensemble": lambda z: (ResidualModel.Config(width=16, members=3, latent_variable=z), 1),
    "recurrent": lambda z: (RecurrentModel.Config(width=16, latent_variable=z), 4),
    "transformer": lambda z: (TransformerModel.Config(**SMALL, latent_variable=z), 3),
}


def build(predictor, latent, action=ACTION, shape=(6,), exogenous=()):
    """With weights that all count: a new latent variable says nothing."""
    torch.manual_seed(0)
    config, history = PREDICTORS[predictor](LATENT[latent])
    signature = Signature({"vector": ObservationSpec("vector", (3,))}, action, exogenous)
    model = config.build(signature, shape, None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, history


@pytest.mark.parametrize("latent", LATENT)
@pytest.mark.parametrize("predictor", PREDICTORS)
def test_every_predictor_keeps_them_with_every_latent_variable(predictor, latent):
    model, history = build(predictor, latent, exogenous=("outside",))
    kept = check_world_model(model, ACTION, (6,), exogenous=1, history=history)
    assert any("lets no state depend on later chance" in x for x in kept)
    assert any("draws outcomes as often" in x for x in kept) == (latent not in ("gaussian", "nodes"))


def test_choices_and_tokens_keep_them():
    for latent in ("codes", "gaussian"):
        model, history = build("recurrent", latent, CHOICES)
        assert check_world_model(model, CHOICES, (6,), history=history)
        model, history = build("transformer", latent, shape=(2, 3))
        assert check_world_model(model, ACTION, (2, 3), history=history)


class Coin(WorldModel):
    """s' = s + Σ a, and 1 more where u < 1/4: the promises are broken one by one below."""

    def __init__(self):
        super().__init__()
        self.latent_variable = Noise(1)

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def beliefs(self, latent, actions, exogenous=None, reset=None):
        return Belief(latent.state.flatten(0, 1))

    def imagine(self, belief, actions, exogenous=None, u=None):
        won = torch.full_like(actions[..., :1], 0.25) if u is None else self.won(u)
        way = (actions.float().sum(-1, keepdim=True) + won).cumsum(2)
        start = belief.state[:, None, None].expand(-1, way.shape[1], -1, -1)
        return Imagined(torch.cat([start, start + way], 2))

    def won(self, u):
        return (u < 0.25).float()

    def support(self, belief, states, actions, exogenous=None, carry=()):
        u = torch.tensor([[0.125], [0.625]]).expand(*states.shape[:2], -1, -1)
        return Support(u, torch.tensor([0.25, 0.75]).expand(*states.shape[:2], -1))


class Dice(Coin):
    def won(self, u):
        return (torch.rand_like(u) < 0.25).float()


class Shared(Coin):
    def won(self, u):
        return (u.mean(1, keepdim=True).expand_as(u) < 0.5).float()


class Prophet(Coin):
    def won(self, u):
        return (u[:, :, -1:].expand_as(u) < 0.5).float()


class Loaded(Coin):
    def won(self, u):
        return (u < 0.4).float()


class Third(Coin):
    """An outcome that is not listed."""

    def won(self, u):
        return (u < 0.25).float() - 2 * (u > 0.9).float()


class Heavy(Coin):
    def support(self, *args, **kwargs):
        found = super().support(*args, **kwargs)
        return replace(found, probability=found.probability * 2)


class Edge(Coin):
    def support(self, *args, **kwargs):
        found = super().support(*args, **kwargs)
        return replace(found, u=(found.u > 0.5).float())


class DeafBranch(Coin):
    def branch(self, belief, states, actions, exogenous=None, u=None, carry=()):
        return super().branch(belief, states, actions, exogenous, None, carry)


class Negative(Coin):
    def explain(self, belief, actions, following, exogenous=None, u=None):
        found, nats = super().explain(belief, actions, following, exogenous, u)
        return found, nats - 5


class Nameless(Coin):
    chance = 1

    def __init__(self):
        WorldModel.__init__(self)


@pytest.mark.parametrize(("broken", "promise"), [
    (Dice, "one future from one noise"), (Shared, "a candidate alone as among others"),
    (Prophet, "depend on later chance"), (Loaded, "as often as it says"), (Third, "draws what it lists"),
    (Heavy, "sum to 1"), (Edge, "noise on"), (DeafBranch, "branches as it imagines"),
    (Negative, "information >= 0"), (Nameless, "has a latent variable"),
])
def test_a_broken_promise_of_chance_is_named(broken, promise):
    assert check_world_model(Coin(), ACTION, (6,))
    with pytest.raises(PromiseError, match=promise):
        check_world_model(broken(), ACTION, (6,))
