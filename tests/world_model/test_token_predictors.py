"""Predictors of tokens: plain loops in float64, what tokens and rows may see of one another, promises, stored runs."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steersman.core import ActionSpec, ConfigError, Latent, ObservationSpec, Signature, WorldModelConfig
from steersman.core.checks import check_world_model
from steersman.core.parts import convert
from steersman.world_model import (
    RecurrentModel,
    ResidualModel,
    TokenRecurrent,
    TokenResidual,
    TokenTransformer,
    TransformerModel,
)
from steersman.world_model.latent_variable import Categorical, Gaussian

N, D, X = 6, 5, 2
SIGNATURE = Signature(
    {"state": ObservationSpec("vector", (3,))}, ActionSpec("continuous", (-2.0, 0.0), (2.0, 1.0)), ("load", "heat")
)
SMALL = {"width": 16, "depth": 2, "heads": 2, "head_width": 8, "hidden": 24}
CONFIGS = {
    "residual": ResidualModel.Config(width=16, linear=True),
    "residual-set": ResidualModel.Config(width=16, tokens="set"),
    "residual-grid": ResidualModel.Config(width=40, grid=(2, 3)),
    "ensemble": ResidualModel.Config(width=16, members=3),
    "recurrent": RecurrentModel.Config(width=16, grid=(3, 2)),
    "recurrent-set": RecurrentModel.Config(width=16, tokens="set"),
    "transformer": TransformerModel.Config(context=3, **SMALL),
    "transformer-1": TransformerModel.Config(context=1, **SMALL),
    "recurrent-heads": RecurrentModel.Config(width=16, members=3),
    "transformer-heads": TransformerModel.Config(context=3, members=3, **SMALL),
    "transformer-set": TransformerModel.Config(context=4, tokens="set", **SMALL),
    "transformer-grid": TransformerModel.Config(context=8, grid=(2, 3), **SMALL),
}
KINDS = {"residual": TokenResidual, "ensemble": TokenResidual, "recurrent": TokenRecurrent,
         "transformer": TokenTransformer}


def build(config, signature=SIGNATURE, shape=(N, D)):
    torch.manual_seed(0)
    model = config.build(signature, shape, None).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # nothing may hide behind a zero initialisation
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def problem(b=3, k=4, history=5, horizon=6, seed=1):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    return (
        Latent(draw(b, history, N, D)), draw(b, history - 1, 2).clamp(-1, 1), draw(b, history - 1, X),
        draw(b, k, horizon, 2).clamp(-1, 1), draw(b, horizon, X),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_states_of_tokens_get_a_predictor_of_tokens_that_keeps_every_promise(name):
    model = build(CONFIGS[name])
    assert type(model) is KINDS[name.partition("-")[0]]
    kept = check_world_model(model.float(), SIGNATURE.action, (N, D), exogenous=X, history=3)
    assert "tells surprise of each dimension or token" in kept


@pytest.mark.parametrize(("name", "variable"), [
    ("ensemble", Gaussian.Config(size=2, width=8)), ("residual", Categorical.Config(codes=3, width=8)),
    ("recurrent", Gaussian.Config(size=2, width=8)), ("transformer", Categorical.Config(codes=3, width=8)),
])
def test_what_is_left_to_chance_is_one_z_for_all_tokens_and_keeps_every_promise(name, variable):
    config = msgspec.structs.replace(CONFIGS[name], latent_variable=variable)
    model = build(config).float()
    assert model.chance == variable.build(SIGNATURE, (N, D), 4).uniform
    check_world_model(model, SIGNATURE.action, (N, D), exogenous=X, history=3)
    latent, past, past_x, actions, future_x = (x.map(torch.Tensor.float) if isinstance(x, Latent) else x.float()
                                               for x in problem())
    belief = model.begin(latent, past, past_x)
    a, b = (model.imagine(belief, actions, future_x, torch.full((3, 4, 6, model.chance), x)).states
            for x in (0.01, 0.99))
    assert bool(((a - b)[:, :, 1] != 0).any(-1).all())  # it reaches every token


def test_discrete_actions_and_a_choice_relaxed_to_probabilities_move_tokens():
    signature = Signature({"state": ObservationSpec("vector", (3,))}, ActionSpec("discrete", choices=3))
    for name in ("residual", "recurrent", "transformer"):
        model = build(CONFIGS[name], signature)
        belief = model.begin(Latent(torch.randn(2, 1, N, D).double()), torch.zeros(2, 0, 1, dtype=torch.long))
        choice = torch.tensor([0, 2, 1]).view(1, 1, 3, 1).expand(2, 1, -1, -1)
        hard = model.imagine(belief, choice).states
        soft = model.imagine(belief, F.one_hot(choice[..., 0], 3).double()).states
        torch.testing.assert_close(hard, soft, rtol=1e-12, atol=1e-12)
        assert not torch.equal(hard, model.imagine(belief, 2 - choice).states)


# Loops ------------------------------------------------------------------------------------------------------------


def looped_neighbours(block, now):
    """A token's neighbours on a grid of two axes, one after the other."""
    (rows, columns), kernel = block.grid, block.near.weight
    mixed = []
    for i in range(rows * columns):
        total = block.near.bias
        for r in (-1, 0, 1):
            for c in (-1, 0, 1):
                row, column = i // columns + r, i % columns + c
                if 0 <= row < rows and 0 <= column < columns:
                    total = total + kernel[:, 0, r + 1, c + 1] * now[row * columns + column]
        mixed.append(total)
    return now + torch.stack(mixed)


def looped_block(block, now, condition, before=()):
    """One moment, one token, one head at a time: now (N, W), before: (key, value) (N, I) of moments, oldest first."""
    tokens, heads = len(now), block.heads
    now = looped_neighbours(block, now) if block.grid else now
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(condition).chunk(6)
    y = F.layer_norm(now, now.shape[-1:]) * (1 + scale1) + shift1
    query, key = block.query_key(y).chunk(2, -1)
    value = block.value(y)
    moments = [*before, (key, value)][-block.window:]
    attended = torch.zeros_like(query)
    w = query.shape[1] // heads
    for i in range(tokens):
        for h in range(heads):
            part, logits, seen = slice(h * w, h * w + w), [], []
            for age, (k, v) in enumerate(reversed(moments)):
                for j in range(tokens):
                    at = k[j] if block.ages is None else k[j] + block.ages[age]
                    logits.append(query[i, part] @ at[part] / w**0.5)
                    seen.append(v[j, part])
            weights = torch.stack(logits).softmax(0)
            attended[i, part] = sum(a * v for a, v in zip(weights, seen, strict=True))
    x = now + gate1 * block.out(attended)
    y = F.layer_norm(x, x.shape[-1:]) * (1 + scale2) + shift2
    return x + gate2 * block.project(F.gelu(block.hidden(y))), (key, value)


def driven(model, action, outside):
    return torch.cat([model.actions(action), outside])


def looped_step(model, state, drive, memory):
    """One row: state (N, D), drive (U,), what it remembers -> next state, what it remembers."""
    if isinstance(model, TokenResidual):
        changes = []
        for network in model.networks:
            c = network.embed_drive(drive)
            condition, x = F.silu(c), network.embed_state(state) + c
            for block in network.blocks:
                x, _ = looped_block(block, x, condition)
            change = network.to_change(network.norm(x))
            if network.linear is not None:
                change = change + torch.stack([network.linear(torch.cat([token, drive])) for token in state])
            changes.append(change)
        return state + torch.stack(changes).mean(0), torch.stack(changes)
    c = model.embed_drive(drive)
    condition, x = F.silu(c), model.embed_state(state) + c
    if isinstance(model, TokenRecurrent):
        memory = torch.zeros(N, model.width).double() if memory is None else memory
        x, _ = looped_block(model.block, x + model.from_memory(memory), condition)
        memory = torch.stack([model.cell(one[None], m[None])[0] for one, m in zip(model.norm(x), memory, strict=True)])
        return state + model.to_change(memory), memory
    memory = memory or [[] for _ in model.blocks]
    for block, kept in zip(model.blocks, memory, strict=True):
        x, new = looped_block(block, x, condition, kept)
        kept.append(new)
    return state + model.to_change(model.norm(x)), memory


@pytest.mark.parametrize("name", [name for name in CONFIGS if not name.endswith("-heads")])  # those: test_heads.py
@torch.no_grad()
def test_a_plain_loop_over_moments_tokens_and_heads_gives_the_same(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem(b=2, k=2, history=4, horizon=3)
    found = model.imagine(model.begin(latent, past, past_x), actions, future_x)
    for b, k in ((0, 1), (1, 0)):
        memory = None
        for t in range(3):
            _, memory = looped_step(model, latent.state[b, t], driven(model, past[b, t], past_x[b, t]), memory)
        state = latent.state[b, -1]
        for t in range(3):
            state, memory = looped_step(model, state, driven(model, actions[b, k, t], future_x[b, t]), memory)
            torch.testing.assert_close(found.states[b, k, t + 1], state, rtol=1e-10, atol=1e-10)
            if name == "ensemble":
                spread = memory.var(0).mean().sqrt()
                torch.testing.assert_close(found.disagreement[b, k, t], spread, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("context", [1, 2, 3, 8])
def test_the_transformers_cache_equals_the_whole_sequence_at_every_step(context):
    model = build(TransformerModel.Config(context=context, **SMALL))
    latent, past, past_x, actions, future_x = problem(k=1, history=7)
    imagined = model.imagine(model.begin(latent, past, past_x), actions, future_x).states[:, 0]
    states, taken, inputs = latent.state, past, past_x
    for t in range(actions.shape[2]):
        taken = torch.cat([taken, actions[:, 0, t : t + 1]], 1)
        inputs = torch.cat([inputs, future_x[:, t : t + 1]], 1)
        prediction, _ = model.predict(states, taken, inputs)
        states = torch.cat([states, prediction[:, -1:]], 1)
        torch.testing.assert_close(imagined[:, t + 1], states[:, -1], rtol=1e-10, atol=1e-10)


def test_the_transformers_history_is_computed_once_for_each_problem_and_never_copied_for_candidates(monkeypatch):
    model = build(CONFIGS["transformer-grid"])
    latent, past, past_x, actions, future_x = problem(b=3, k=4, history=7)
    block, lengths, shapes = type(model.blocks[0]), [], []
    whole, step = block.whole, block.step

    def watched_whole(self, x, condition, apart=None):
        lengths.append(tuple(x.shape[:2]))
        return whole(self, x, condition, apart)

    def watched_step(self, x, modulation, past=None, own=(), seen=None):
        shapes.append((tuple(past[0].shape), len(own)))
        return step(self, x, modulation, past, own, seen)

    monkeypatch.setattr(block, "whole", watched_whole)
    monkeypatch.setattr(block, "step", watched_step)
    belief = model.begin(latent, past, past_x)
    assert lengths == [(3, 6)] * 2  # once a layer, a row for each problem
    model.imagine(belief, actions, future_x)
    assert lengths == [(3, 6)] * 2
    assert shapes[::2] == [((3, min(6, 7 - t), N, 16), t) for t in range(6)]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("ahead", [1, 4])
def test_moments_worked_through_together_equal_one_by_one(name, ahead):
    model = build(CONFIGS[name]).requires_grad_(False)
    latent, past, inputs, actions, coming = problem(history=8)
    reset = torch.zeros(3, 8, dtype=torch.bool)
    reset[1, 3] = reset[2, 1] = reset[2, 7] = True
    for anew in (None, reset):
        fast = model.filter(latent, past, inputs, reset=anew, ahead=ahead)
        slow = model._one_by_one(latent, past, inputs, None, anew, ahead)
        assert fast.surprise.energy.shape == (3, 8, ahead, N)
        torch.testing.assert_close(fast.surprise.energy, slow.surprise.energy, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(model.imagine(fast.belief, actions, coming).states,
                                   model.imagine(slow.belief, actions, coming).states, rtol=1e-9, atol=1e-9)


# What is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["residual-set", "recurrent-set", "transformer-set"])
def test_where_no_places_are_known_another_order_of_tokens_gives_the_same_in_that_order(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem()
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    a = model.imagine(model.begin(latent, past, past_x), actions, future_x).states
    b = model.imagine(model.begin(Latent(latent.state[:, :, order]), past, past_x), actions, future_x).states
    torch.testing.assert_close(b, a[..., order, :], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["residual", "residual-grid", "recurrent", "transformer-grid"])
def test_where_places_are_known_order_matters(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem()
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    a = model.imagine(model.begin(latent, past, past_x), actions, future_x).states
    b = model.imagine(model.begin(Latent(latent.state[:, :, order]), past, past_x), actions, future_x).states
    assert float((b - a[..., order, :])[:, :, 1].detach().abs().max()) > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_a_changed_action_or_token_of_one_row_changes_all_tokens_of_that_row_and_of_no_other(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem(b=2, k=3)
    belief = model.begin(latent, past, past_x)
    before = model.imagine(belief, actions, future_x).states
    other = actions.clone()
    other[0, 1, 2] += 0.3
    changed = (model.imagine(belief, other, future_x).states - before).abs().amax(-1) > 1e-13
    assert bool(changed[0, 1, 3].all())
    changed[0, 1, 3:] = False
    assert not bool(changed.any())
    moved = latent.state.clone()
    moved[1, -1, 2] += 0.5
    changed = (model.imagine(model.begin(Latent(moved), past, past_x), actions, future_x).states - before).abs()
    assert bool((changed[1, :, 1].amax(-1) > 1e-9).all())
    assert not bool(changed[0].any())


def test_a_grid_may_have_one_to_three_axes():
    for grid, kind in (((6,), nn.Conv1d), ((2, 3), nn.Conv2d), ((1, 2, 3), nn.Conv3d)):
        model = build(ResidualModel.Config(width=13, depth=1, grid=grid))
        assert isinstance(model.networks[0].blocks[0].near, kind)
        check_world_model(model.float(), SIGNATURE.action, (N, D), exogenous=X)


def test_the_models_end_where_the_settings_do_not_fit():
    with pytest.raises(ConfigError, match="grid of 6 places"):
        build(ResidualModel.Config(grid=(2, 2)))
    with pytest.raises(ConfigError, match='tokens="places"'):
        TransformerModel.Config(tokens="set", grid=(2, 3))
    with pytest.raises(ConfigError, match="positive sides"):
        RecurrentModel.Config(grid=(-2, -3))
    with pytest.raises(ConfigError, match="N tokens"):
        build(RecurrentModel.Config(), shape=(2, 3, 4))


def test_members_train_on_different_rows_and_stand_alone():
    model = build(CONFIGS["ensemble"])
    latent, past, past_x, actions, future_x = problem(b=7, k=1)
    belief = model.begin(latent, past, past_x)
    singles = [single.imagine(belief, actions[:, :, :1], future_x[:, :1]).states[:, 0, 1] for single in model.singles()]
    together = model.imagine(belief, actions[:, :, :1], future_x[:, :1])
    torch.testing.assert_close(together.states[:, 0, 1], torch.stack(singles).mean(0), rtol=1e-11, atol=1e-11)
    model.train()
    trained = model.imagine(belief, actions[:, :, :1], future_x[:, :1]).states[:, 0, 1]
    expected = torch.stack([singles[(i + i // 3) % 3][i] for i in range(7)])
    torch.testing.assert_close(trained, expected, rtol=1e-11, atol=1e-11)


# What was stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ResidualModel.Config, RecurrentModel.Config, TransformerModel.Config])
def test_what_was_stored_before_there_were_tokens_is_flat_and_what_is_stored_now_says_so(config):
    now = msgspec.to_builtins(config())
    assert convert(now, WorldModelConfig) == config()
    before = {name: value for name, value in now.items() if name not in ("tokens", "grid")}
    old = convert(before, WorldModelConfig)
    assert old == config(tokens="flat")
    assert type(old.build(SIGNATURE, (N, D), None)).__qualname__ in config.__qualname__
    torch.manual_seed(0)
    a = old.build(SIGNATURE, (D,), None).state_dict()
    torch.manual_seed(0)
    b = config().build(SIGNATURE, (D,), None).state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)  # vectors: nothing has changed
