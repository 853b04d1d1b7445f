"""Blocks: actions, positions, attention, members, each against a plain form."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionError, ActionSpec
from steersman.nn import ActionEmbedding, DenseMembers, attend, attend_window, rotate, rotate_rows, sincos


def test_continuous_actions_are_scaled_by_their_bounds():
    embed = ActionEmbedding(ActionSpec("continuous", (-2.0, 10.0), (2.0, 30.0)))
    actions = torch.tensor([[-2.0, 10.0], [2.0, 30.0], [0.0, 25.0]])
    torch.testing.assert_close(embed(actions), torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]]))
    assert embed.width == 2


def test_choices_are_one_hot_and_may_be_relaxed():
    embed = ActionEmbedding(ActionSpec("discrete", choices=3))
    assert embed(torch.tensor([[2], [0]])).tolist() == [[0, 0, 1], [1, 0, 0]]
    relaxed = torch.tensor([[0.2, 0.3, 0.5]], requires_grad=True)
    assert embed(relaxed) is relaxed


@pytest.mark.parametrize("spec", [ActionSpec("continuous", (-1.0,), (1.0,)), ActionSpec("discrete", choices=4)])
def test_actions_of_the_wrong_size_are_refused(spec):
    with pytest.raises(ActionError, match="size 1"):
        ActionEmbedding(spec)(torch.zeros(3, 2))


def test_rotation_keeps_length_and_depends_on_distance_only():
    q, k = torch.randn(2, 8, dtype=torch.float64)
    angles = torch.rand(4, dtype=torch.float64)
    torch.testing.assert_close(rotate(q, 3 * angles).norm(), q.norm())
    torch.testing.assert_close(
        rotate(q, 5 * angles) @ rotate(k, 3 * angles), rotate(q, -1 * angles) @ rotate(k, -3 * angles)
    )


def test_a_turned_weight_gives_turned_results():
    weight, x = torch.randn(3 * 8, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    angles = torch.rand(4, dtype=torch.float64)
    expected = rotate((x @ weight.mT).unflatten(-1, (3, 8)), angles).flatten(-2)
    torch.testing.assert_close(x @ rotate_rows(weight, angles).mT, expected)


def test_sine_cosine_codes_tell_positions_apart():
    codes = sincos(torch.arange(100.0), 16)
    assert codes.shape == (100, 16)
    torch.testing.assert_close(codes.norm(dim=-1), torch.full((100,), 8**0.5))
    distance = torch.cdist(codes, codes) + 10 * torch.eye(100)
    assert float(distance.min()) > 0.1


def loop(q, k, v, mask):
    out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:-1])).tolist():
        *rest, t = index
        seen = [s for s in range(k.shape[-2]) if mask is None or mask[t, s]]
        logits = torch.stack([q[(*rest, t)] @ k[(*rest, s)] for s in seen]) / q.shape[-1] ** 0.5
        out[(*rest, t)] = sum(w * v[(*rest, s)] for w, s in zip(logits.softmax(0), seen, strict=True))
    return out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_equals_a_loop_in_both_forms(masked, dtype):
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 5, 8, generator=g, dtype=torch.float64)
    mask = torch.ones(5, 5, dtype=torch.bool).tril() if masked else None
    got = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask)
    tolerance = 1e-12 if dtype == torch.float64 else 0.04
    torch.testing.assert_close(got.double(), loop(q, k, v, mask), rtol=tolerance, atol=tolerance)


def test_window_attention_equals_attention_and_shares_steps():
    g = torch.Generator().manual_seed(0)
    q = torch.randn(2, 6, 4 * 8, generator=g, dtype=torch.float64)
    shared = torch.randn(2, 2, 1, 4 * 8, generator=g, dtype=torch.float64)
    own = torch.randn(2, 2, 6, 4 * 8, generator=g, dtype=torch.float64)
    got = attend_window(q, [shared[0], own[0]], [shared[1], own[1]], 4)
    heads = lambda x: x.unflatten(-1, (4, 8))  # noqa: E731
    k = torch.stack([heads(shared[0].expand(2, 6, -1)), heads(own[0])], -2)
    v = torch.stack([heads(shared[1].expand(2, 6, -1)), heads(own[1])], -2)
    expected = loop(heads(q)[..., None, :], k, v, None).flatten(2)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("members", [1, 3])
def test_members_are_independent_linear_layers(members):
    layer = DenseMembers(members, 4, 5).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(members, 6, 4, dtype=torch.float64)
    for e in range(members):
        torch.testing.assert_close(layer(x)[e], x[e] @ layer.weight[e].mT + layer.bias[e])
