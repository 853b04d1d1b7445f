"""Our world models keep every promise; each promise can be broken, and then it is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steersman import check_world_model
from steersman.core import ActionSpec, Belief, Imagined, Latent, ObservationSpec, PromiseError, Signature, WorldModel
from steersman.core.surprising import nothing_foreseen, surprise_of
from steersman.world_model import (
    LinearModel,
    MapReader,
    ObserverModel,
    RecurrentModel,
    ResidualModel,
    TabularModel,
    TransformerModel,
)

ACTION = ActionSpec("continuous", low=(-1.0, -2.0), high=(1.0, 0.5))
CHOICES = ActionSpec("discrete", choices=3)


def signature(action, exogenous=()):
    return Signature({"vector": ObservationSpec("vector", (3,))}, action, exogenous)


OURS = {
    "residual": (ResidualModel.Config(width=16), None, 1),
    "ensemble": (ResidualModel.Config(width=16, members=3), None, 1),
    "recurrent": (RecurrentModel.Config(), None, 4),
    "observer": (ObserverModel.Config(width=16), None, 6),
    "transformer": (TransformerModel.Config(width=16, depth=1, heads=1, head_width=8, hidden=16), None, 3),
    "transformer-1": (TransformerModel.Config(width=16, depth=1, heads=1, head_width=8, hidden=16, context=1), None, 1),
    "transformer-6": (TransformerModel.Config(width=16, depth=2, heads=1, head_width=8, hidden=16, context=6), None, 5),
    "map reader": (MapReader.Config(), (2, 5, 8), 1),
}


def build(name, action, exogenous=()):
    """With weights that all count: fresh blocks are identities."""
    torch.manual_seed(0)
    config, context, _ = OURS[name]
    model = config.build(signature(action, exogenous), (6,), context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("action", [ACTION, CHOICES], ids=["amounts", "choices"])
@pytest.mark.parametrize("name", OURS)
def test_ours_keep_them(name, action):
    _, context, history = OURS[name]
    kept = check_world_model(build(name, action), action, (6,), context_shape=context, history=history)
    assert len(kept) >= 12
    for promise in ("filters recorded moments as it observes them", "branches as it imagines"):
        assert any(promise in x for x in kept)


@pytest.mark.parametrize("name", OURS)
def test_ours_keep_them_with_exogenous_inputs(name):
    _, context, history = OURS[name]
    model = build(name, ACTION, ("outside", "inside"))
    assert check_world_model(model, ACTION, (6,), context_shape=context, exogenous=2, history=history, seed=1)


def test_ours_that_are_given_keep_them():
    linear = LinearModel(0.9 * torch.eye(6), torch.ones(6, 2), torch.ones(6, 1))
    assert check_world_model(linear, ACTION, (6,), exogenous=1)
    table = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    table = (table * (table > 0.5)) + 0.1 * torch.eye(6)
    assert check_world_model(TabularModel(table / table.sum(-1, keepdim=True)), CHOICES, (6,), states=torch.eye(6))


@pytest.mark.parametrize("name", ["residual", "recurrent", "transformer"])
def test_tokens_keep_them(name):
    torch.manual_seed(0)
    config, _, history = OURS[name]
    assert check_world_model(config.build(signature(ACTION), (2, 3), None), ACTION, (2, 3), history=history)


class Drift(WorldModel):
    """s' = s + sum of the action; the promises are broken one by one below."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1], latent.context)

    def imagine(self, belief, actions, exogenous=None, u=None):
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
    def branch(self, belief, states, actions, exogenous=None, u=None, carry=()):
        found = super().branch(belief, states, actions, exogenous, u, carry)
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


class Echo(WorldModel):
    """s' = s + Σ a + m / 5, m' = m / 2 + s: one with a memory that overrides nothing else, broken below."""

    def begin(self, latent, actions, exogenous=None):
        memory = torch.zeros_like(latent.state[:, 0])
        for t in range(actions.shape[1]):
            memory = memory / 2 + latent.state[:, t]
        return Belief(latent.state[:, -1], latent.context, (memory,))

    def imagine(self, belief, actions, exogenous=None, u=None):
        k = actions.shape[1]
        state, memory = (x[:, None].expand(-1, k, *x.shape[1:]) for x in (belief.state, belief.carry[0]))
        states = [state]
        for action in actions.unbind(2):
            state, memory = state + action.sum(-1, keepdim=True) + memory / 5, memory / 2 + state
            states.append(state)
        return Imagined(torch.stack(states, 2), belief.context, carry=(memory,))


class OtherFilter(Echo):
    def filter(self, latent, actions, exogenous=None, measured=None, reset=None, ahead=1):
        found = super().filter(latent, actions, exogenous, measured, reset, ahead)
        return replace(found, belief=replace(found.belief, carry=(0.9 * found.belief.carry[0],)))


class DreamingFilter(Echo):
    """Its surprise is that of one prediction made at the beginning."""

    def filter(self, latent, actions, exogenous=None, measured=None, reset=None, ahead=1):
        found = super().filter(latent, actions, exogenous, measured, reset, ahead)
        return replace(found, surprise=replace(found.surprise, energy=found.surprise.energy.roll(1, 1)))


class OtherBeliefs(Echo):
    """Works moments through in parallel, and forgets that there is a memory."""

    def beliefs(self, latent, actions, exogenous=None, reset=None):
        states = latent.state.flatten(0, 1)
        return Belief(states, carry=(torch.zeros_like(states),))


class Forgetful(Echo):
    def begin(self, latent, actions, exogenous=None):
        return super().begin(Latent(latent.state[:, -1:], None), actions[:, :0])


class Stacker(Echo):
    """Carries the state itself, and lets it stay what was foreseen when another was measured."""

    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1], latent.context, (latent.state[:, -1],))

    def imagine(self, belief, actions, exogenous=None, u=None):
        (inner,) = belief.carry
        way = actions.float().sum(-1).cumsum(2)[..., None] + inner[:, None, None]
        start = belief.state[:, None, None].expand(-1, way.shape[1], -1, -1)
        return Imagined(torch.cat([start, way], 2), carry=(way[:, :, -1],))


class Believer(Echo):
    def correct(self, foreseen, latent, measured):
        return super().correct(foreseen, latent, None)


class Unmoved(Echo):
    def observe(self, belief, actions, latent, exogenous=None, measured=None, reset=None):
        if latent is None:
            return belief, nothing_foreseen(belief.state)
        return super().observe(belief, actions, latent, exogenous, measured, reset)


class Leaky(Echo):
    def observe(self, belief, actions, latent, exogenous=None, measured=None, reset=None):
        return super().observe(belief, actions, latent, exogenous, measured)


class LeakyFilter(Echo):
    def filter(self, latent, actions, exogenous=None, measured=None, reset=None, ahead=1):
        return super().filter(latent, actions, exogenous, measured, None, ahead)


class Hasty(Echo):
    def observe(self, belief, actions, latent, exogenous=None, measured=None, reset=None):
        return super().observe(belief, actions[:, -1:], latent, exogenous, measured, reset)


class Mover(Echo):
    """Is surprised by whatever moves."""

    def observe(self, belief, actions, latent, exogenous=None, measured=None, reset=None):
        after, surprise = super().observe(belief, actions, latent, exogenous, measured, reset)
        if belief is None or latent is None:
            return after, surprise
        return after, surprise_of(belief.state, latent.state, actions.shape[1], measured, reset)


class Stoic(Echo):
    def observe(self, belief, actions, latent, exogenous=None, measured=None, reset=None):
        after, surprise = super().observe(belief, actions, latent, exogenous, measured, reset)
        return after, replace(surprise, energy=torch.zeros_like(surprise.energy))


class BareBranch(Echo):
    def branch(self, belief, states, actions, exogenous=None, u=None, carry=()):
        return super().branch(belief, states, actions, exogenous, u, tuple(torch.zeros_like(x) for x in carry))


class Hoarder(Echo):
    """Keeps all that it ever saw."""

    def begin(self, latent, actions, exogenous=None):
        return replace(super().begin(latent, actions), shared=(latent.state.new_zeros(len(latent.state), 1),))

    def imagine(self, belief, actions, exogenous=None, u=None):
        longer = torch.cat([belief.shared[0], belief.shared[0][:, :1]], 1)
        return replace(super().imagine(belief, actions), shared=(longer,))

    def observe(self, belief, actions, latent, exogenous=None, measured=None, reset=None):
        if reset is not None and bool(reset.any()) and belief is not None:
            return super().observe(replace(belief, shared=(belief.shared[0][:, :0],)), actions, latent, exogenous,
                                   measured, reset)
        return super().observe(belief, actions, latent, exogenous, measured, reset)


@pytest.mark.parametrize(("broken", "promise"), [
    (OtherFilter, "filters recorded moments as it observes"),
    (DreamingFilter, "filters recorded moments as it observes"),
    (OtherBeliefs, "filters recorded moments as it observes"), (Forgetful, "believes from a history what it believes"),
    (Stacker, "believes from a history what it believes"),
    (Believer, "lets what was not measured change nothing"), (Unmoved, "goes on as it imagined where nothing"),
    (Leaky, "forgets what came before|foresees nothing"), (LeakyFilter, "filters recorded moments as it observes"),
    (Hasty, "takes several actions at once"), (Mover, "is not surprised by what it foresaw"),
    (Stoic, "is surprised by what others"), (BareBranch, "branches as it imagines"), (Hoarder, "keeps the size"),
])
def test_a_belief_that_differs_is_named(broken, promise):
    assert check_world_model(Echo(), ACTION, (6,), history=4)
    with pytest.raises(PromiseError, match=promise):
        check_world_model(broken(), ACTION, (6,), history=4)


def test_a_sound_model_of_somebody_else_passes_and_its_mode_is_left_alone():
    model = Drift().train()
    assert check_world_model(model, ACTION, (6,))
    assert model.training
