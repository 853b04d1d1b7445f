"""Every world model without a map: fast forms against loops, streaming against whole, float64."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, Latent, ObservationSpec, Signature
from steersman.nn import rotate
from steersman.world_model import ObserverModel, RecurrentModel, ResidualModel, TransformerModel

D, X = 6, 2
SIGNATURE = Signature(
    {"state": ObservationSpec("vector", (D,))}, ActionSpec("continuous", (-2.0, 0.0), (2.0, 1.0)), ("load", "heat")
)
CONFIGS = {
    "residual": ResidualModel.Config(width=16),
    "ensemble": ResidualModel.Config(width=16, members=3),
    "observer": ObserverModel.Config(width=16, disturbances=3),
    "recurrent": RecurrentModel.Config(width=16),
    "transformer": TransformerModel.Config(width=16, depth=3, heads=2, head_width=8, hidden=32, context=3),
    "transformer-1": TransformerModel.Config(width=16, depth=2, heads=2, head_width=8, hidden=32, context=1),
    "recurrent-heads": RecurrentModel.Config(width=16, members=3),
    "transformer-heads": TransformerModel.Config(width=16, depth=2, heads=2, head_width=8, hidden=32, members=3),
    "transformer-8": TransformerModel.Config(width=16, depth=2, heads=2, head_width=8, hidden=32, context=8),
}


def build(config, signature=SIGNATURE, shape=(D,)):
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
        Latent(draw(b, history, D)), draw(b, history - 1, 2).clamp(-1, 1), draw(b, history - 1, X),
        draw(b, k, horizon, 2).clamp(-1, 1), draw(b, horizon, X),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_candidates_and_problems_do_not_see_each_other(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem()
    together = model.imagine(model.begin(latent, past, past_x), actions, future_x)
    assert together.states.shape == (3, 4, 7, D)
    for b in range(3):
        belief = model.begin(Latent(latent.state[b : b + 1]), past[b : b + 1], past_x[b : b + 1])
        for k in range(4):
            alone = model.imagine(belief, actions[b : b + 1, k : k + 1], future_x[b : b + 1])
            torch.testing.assert_close(alone.states[0, 0], together.states[b, k], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_imagined_does_not_depend_on_whether_gradients_are_kept(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem()
    kept = model.imagine(model.begin(latent, past, past_x), actions, future_x)
    with torch.no_grad():
        dropped = model.imagine(model.begin(latent, past, past_x), actions, future_x)
    assert kept.states.requires_grad
    assert dropped.states.is_contiguous()
    torch.testing.assert_close(dropped.states, kept.states.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_imagining_in_two_pieces_equals_imagining_at_once(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem(history=2)
    belief = model.begin(latent, past, past_x)
    whole = model.imagine(belief, actions, future_x)
    for cut in (1, 2, 5):
        first = model.imagine(belief, actions[:, :, :cut], future_x[:, :cut])
        rest = actions[:, :, cut:].flatten(0, 1)[:, None]
        second = model.imagine(first.last(), rest, future_x[:, cut:].repeat_interleave(4, 0))
        joined = torch.cat([first.states, second.states[:, 0, 1:].unflatten(0, (3, 4))], 2)
        torch.testing.assert_close(joined, whole.states, rtol=1e-10, atol=1e-10)
        for a, b in zip(second.carry, whole.carry, strict=True):
            torch.testing.assert_close(a[:, 0].unflatten(0, (3, 4)), b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CONFIGS)
def test_imagination_is_differentiable_in_actions_and_belief(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem()
    actions.requires_grad_()
    state = latent.state.requires_grad_()
    imagined = model.imagine(model.begin(Latent(state), past, past_x), actions, future_x)
    imagined.states[:, :, -1].sum().backward()
    assert bool((actions.grad != 0).all())
    assert bool((state.grad[:, -1] != 0).all())


@pytest.mark.parametrize("name", CONFIGS)
def test_exogenous_inputs_matter_and_are_shared_by_candidates(name):
    model = build(CONFIGS[name])
    latent, past, past_x, actions, future_x = problem()
    belief = model.begin(latent, past, past_x)
    a = model.imagine(belief, actions[:, :1].expand(-1, 4, -1, -1), future_x).states
    b = model.imagine(belief, actions[:, :1].expand(-1, 4, -1, -1), future_x + 1).states
    torch.testing.assert_close(a[:, 0], a[:, 3], rtol=1e-12, atol=1e-12)
    assert float((a - b).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("context", [1, 2, 3, 8])
def test_transformer_with_cache_equals_the_whole_sequence_at_every_step(context):
    model = build(TransformerModel.Config(width=16, depth=3, heads=2, head_width=8, hidden=32, context=context))
    latent, past, past_x, actions, future_x = problem(k=1, history=7)
    imagined = model.imagine(model.begin(latent, past, past_x), actions, future_x).states[:, 0]
    states, taken, inputs = latent.state, past, past_x
    for t in range(actions.shape[2]):
        taken = torch.cat([taken, actions[:, 0, t : t + 1]], 1)
        inputs = torch.cat([inputs, future_x[:, t : t + 1]], 1)
        prediction, _ = model.predict(states, taken, inputs)
        states = torch.cat([states, prediction[:, -1:]], 1)
        torch.testing.assert_close(imagined[:, t + 1], states[:, -1], rtol=1e-10, atol=1e-10)


def reference_block(block, x, condition):
    """One sequence, one head, one query at a time."""
    steps, (heads, window) = len(x), (block.heads, block.window)
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(condition).chunk(6, -1)
    y = torch.nn.functional.layer_norm(x, x.shape[-1:]) * (1 + scale1) + shift1
    q, k = block.query_key(y).chunk(2, -1)
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in (q, k, block.value(y)))
    attended = torch.zeros_like(q)
    for h in range(heads):
        for t in range(steps):
            seen = range(max(0, t - window + 1), t + 1)
            turned = rotate(q[t, h], t * block.frequencies)
            logits = torch.stack([turned @ rotate(k[s, h], s * block.frequencies) for s in seen]) / q.shape[-1] ** 0.5
            attended[t, h] = sum(w * v[s, h] for w, s in zip(logits.softmax(0), seen, strict=True))
    x = x + gate1 * block.out(attended.flatten(1))
    y = torch.nn.functional.layer_norm(x, x.shape[-1:]) * (1 + scale2) + shift2
    return x + gate2 * block.project(torch.nn.functional.gelu(block.hidden(y)))


def test_transformer_equals_a_plain_loop():
    model = build(CONFIGS["transformer"])
    latent, past, past_x, _, _ = problem(b=1, history=8)
    states = latent.state[:, :-1]
    condition = model._condition(past[:, None], past_x)[0, 0]
    x = model.embed_state(states[0])
    for block in model.blocks:
        x = reference_block(block, x, condition)
    expected = states[0] + model.to_change(model.norm(x))
    torch.testing.assert_close(model.predict(states, past, past_x)[0][0], expected, rtol=1e-11, atol=1e-11)


def test_turned_weights_equal_turned_tokens():
    model = build(CONFIGS["transformer"])
    latent, past, past_x, actions, future_x = problem(b=2, k=40)
    belief = model.begin(Latent(latent.state[:2]), past[:2], past_x[:2])
    assert 2 * 40 > len(model.blocks[0].query_key.weight) > 3
    many = model.imagine(belief, actions, future_x[:2]).states
    few = model.imagine(belief, actions[:, :1], future_x[:2]).states
    torch.testing.assert_close(many[:, :1], few, rtol=1e-11, atol=1e-11)


def test_far_history_is_forgotten_exactly_beyond_the_receptive_field():
    model = build(CONFIGS["transformer"])
    latent, past, past_x, actions, future_x = problem(history=12)
    reach = 3 * (3 - 1) + 1  # depth x (context - 1) steps back
    other = latent.state.clone()
    other[:, : 12 - 1 - reach] += 1
    a = model.imagine(model.begin(latent, past, past_x), actions, future_x).states
    b = model.imagine(model.begin(Latent(other), past, past_x), actions, future_x).states
    assert torch.equal(a, b)
    other[:, 12 - 1 - reach + 1] += 1
    c = model.imagine(model.begin(Latent(other), past, past_x), actions, future_x).states
    assert not torch.equal(a, c)


def test_members_train_on_different_rows_and_report_their_spread():
    model = build(CONFIGS["ensemble"])
    latent, past, past_x, actions, future_x = problem(b=7, k=1)
    imagined = model.imagine(model.begin(latent, past, past_x), actions, future_x)
    assert imagined.disagreement.shape == (7, 1, 6)
    first = [
        latent.state[:, -1] + model._network(latent.state[:, -1][None], model.from_drive(
            torch.cat([model.actions(actions[:, 0, 0]), future_x[:, 0]], -1)[None]))[e]
        for e in range(3)
    ]
    expected = torch.stack(first).var(0).mean(-1).sqrt()
    torch.testing.assert_close(imagined.disagreement[:, 0, 0], expected, rtol=1e-11, atol=1e-11)
    model.train()
    trained = model.imagine(model.begin(latent, past, past_x), actions[:, :, :1], future_x[:, :1]).states[:, 0, 1]
    member = [(i + i // 3) % 3 for i in range(7)]
    expected = torch.stack([first[m][i] for i, m in enumerate(member)])
    torch.testing.assert_close(trained, expected, rtol=1e-11, atol=1e-11)


def test_one_member_equals_ordinary_linear_layers():
    model = build(CONFIGS["residual"])
    latent, past, past_x, actions, future_x = problem(k=2)
    imagined = model.imagine(model.begin(latent, past, past_x), actions, future_x).states
    for b in range(3):
        s = latent.state[b, -1]
        for t in range(6):
            drive = torch.cat([model.actions(actions[b, 1, t]), future_x[b, t]])
            h = torch.nn.functional.silu(
                model.from_state.weight[0] @ s + model.from_drive.weight[0] @ drive + model.from_drive.bias[0, 0]
            )
            for layer in model.layers:
                h = torch.nn.functional.silu(layer.weight[0] @ h + layer.bias[0, 0]) + h
            s = s + model.to_change.weight[0] @ h + model.to_change.bias[0, 0]
            torch.testing.assert_close(imagined[b, 1, t + 1], s, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CONFIGS)
def test_token_latents_and_discrete_actions(name):
    signature = Signature({"state": ObservationSpec("vector", (D,))}, ActionSpec("discrete", choices=3))
    model = build(CONFIGS[name], signature, (2, 3))
    latent = Latent(torch.randn(2, 2, 2, 3, dtype=torch.float64))
    actions = torch.tensor([[[[0], [1]], [[2], [1]]]]).expand(2, -1, -1, -1)
    imagined = model.imagine(model.begin(latent, torch.tensor([[[1]], [[0]]])), actions)
    assert imagined.states.shape == (2, 2, 3, 2, 3)
    assert not torch.equal(imagined.states[:, 0], imagined.states[:, 1])


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="head_width"):
        TransformerModel.Config(head_width=3)
    with pytest.raises(ConfigError, match=">= 1"):
        ResidualModel.Config(members=0)


def test_the_transformers_history_is_computed_once_for_each_problem_and_never_copied_for_candidates(monkeypatch):
    model = build(CONFIGS["transformer-8"])
    latent, past, past_x, actions, future_x = problem(b=3, k=4, history=7)
    block = type(model.blocks[0])
    whole, step, lengths, shapes = block.whole, block.step, [], []

    def watched_whole(self, x, condition, apart=None):
        lengths.append(tuple(x.shape[:2]))
        return whole(self, x, condition, apart)

    def watched_step(self, x, condition, position, keys, values, seen=None):
        shapes.append([tuple(key.shape[:2]) for key in keys])
        return step(self, x, condition, position, keys, values, seen)

    monkeypatch.setattr(block, "whole", watched_whole)
    monkeypatch.setattr(block, "step", watched_step)
    belief = model.begin(latent, past, past_x)
    assert lengths == [(3, 6)] * 2  # once a layer, a row for each problem
    model.imagine(belief, actions, future_x)
    assert lengths == [(3, 6)] * 2
    assert shapes[0] == [(3, 1)] * 6  # one copy that all candidates read
    assert shapes[2] == [(3, 1)] * 6 + [(3, 4)]  # and what each of them has done itself


def test_an_observer_filters_noise_and_keeps_no_offset_under_a_disturbance_that_stays():
    """A constant push that no action explains: after a history of it the observer foresees the push, f does not."""
    model = build(ObserverModel.Config(width=16, disturbances=D)).requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    model.gain.weight.copy_(torch.cat([0.5 * torch.eye(D), torch.eye(D)]))
    model.from_disturbance.weight[:D].copy_(torch.eye(D))  # silu is linear enough far from 0: d moves s by 0.1 d
    model.from_drive.bias.fill_(20.0)
    model.to_change.weight[:, :D].copy_(0.1 * torch.eye(D))
    model.to_change.bias.fill_(-2.0)
    push, steps = 0.3, 60
    states = push * torch.arange(steps + 2, dtype=torch.float64)[None, :, None].expand(1, -1, D)
    zeros = lambda n: (torch.zeros(1, n, 2).double() + torch.tensor([0.0, 0.5]), torch.zeros(1, n, X).double())  # noqa: E731
    actions, inputs = zeros(steps)
    belief = model.begin(Latent(states[:, : steps + 1]), actions, inputs)
    now, coming = zeros(1)
    foreseen = model.imagine(belief, now[:, None], coming).states[0, 0, 1]
    torch.testing.assert_close(foreseen, states[0, steps + 1], rtol=1e-3, atol=1e-3)
    many = lambda x: x.expand(64, *x.shape[1:])  # noqa: E731
    generator = torch.Generator().manual_seed(0)
    noisy = states + torch.randn(64, *states.shape[1:], generator=generator, dtype=torch.float64)
    filtered = model.begin(Latent(noisy[:, : steps + 1]), many(actions), many(inputs)).state
    assert float((filtered - states[:, steps]).abs().mean()) < 0.95 * float((noisy - states)[:, steps].abs().mean())
