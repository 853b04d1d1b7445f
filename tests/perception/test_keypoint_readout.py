"""The read-out that finds places: it reads where labels never were, keeps its weights, and says what it cannot read."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ConfigError, DataError
from steersman.perception import KernelReadout, KeypointReadout

SMALL = KeypointReadout.Config(width=12, blocks=1, keypoints=4, hidden=(32,), steps=150, batch_size=32, lr=1e-2)


def marked(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (n, 64, 3) of noise with a mark, spread over the tokens around its place (n, 2)."""
    g = torch.Generator().manual_seed(seed)
    place = 1 + 5 * torch.rand(count, 2, generator=g)
    at = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"), -1).flatten(0, 1)
    mark = (-(at - place[:, None]).square().sum(-1) / 1.5).exp()
    noise = 0.3 * torch.randn(count, 64, 2, generator=g)
    return torch.cat([mark[..., None], noise], -1), torch.cat([10 * place, place[:, :1] * 0 + 7], 1)


def error(readout, states, values) -> float:
    with torch.inference_mode():
        return float((readout.read(states) - values)[:, :2].square().mean().sqrt())


def test_120_labels_tell_a_place_that_a_kernel_does_not_read():
    states, values = marked(120, 0)
    tested, truth = marked(200, 1)
    found = SMALL.build(("x", "y", "same"), (64, 3))
    found.fit(states, values)
    kernel = KernelReadout.Config().build(("x", "y", "same"), (64, 3))
    kernel.fit(states, values)
    assert error(found, tested, truth) < 1
    assert error(found, tested, truth) < 0.5 * error(kernel, tested, truth)
    assert float((found.read(tested)[:, 2] - 7).abs().max()) < 0.1


def test_a_column_that_nothing_tells_costs_one_that_places_tell_little():
    states, values = marked(120, 0)
    tested, truth = marked(200, 1)
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(120, 6, generator=g)
    found: list[float] = []
    for floor in (1e-2, 1e6):  # the second weighs all columns alike
        readout = KeypointReadout.Config(width=12, blocks=1, keypoints=4, hidden=(32,), steps=150, lr=1e-2, floor=floor
                                         ).build(("x", "y", *"abcdef"), (64, 3))
        readout.fit(states, torch.cat([values[:, :2], noise], 1))
        found.append(error(readout, tested, torch.cat([truth[:, :2], torch.zeros(200, 6)], 1)))
    assert found[0] < 0.8 * found[1]


def test_the_same_labels_give_the_same_read_out_whatever_was_drawn_before():
    states, values = marked(40, 0)
    short = KeypointReadout.Config(width=6, blocks=1, keypoints=2, hidden=(8,), steps=5)
    torch.manual_seed(1)
    first = short.build(("x", "y", "same"), (64, 3))
    first.fit(states, values, seed=3)
    torch.manual_seed(2)
    second = short.build(("x", "y", "same"), (64, 3))
    second.fit(states, values, seed=3)
    third = short.build(("x", "y", "same"), (64, 3))
    third.fit(states, values, seed=4)
    assert torch.equal(first.read(states), second.read(states))
    assert not torch.equal(first.read(states), third.read(states))
    loaded = short.build(("x", "y", "same"), (64, 3))
    loaded.load_state_dict(first.state_dict())
    assert torch.equal(loaded.read(states), first.read(states))


def test_statistics_are_those_of_all_places_together():
    states, values = marked(40, 0)
    found = KeypointReadout.Config(steps=1, width=4, blocks=0, keypoints=1, hidden=()).build(("x", "y", "s"), (64, 3))
    found.fit(states, values)
    each = found.state_mean.view(64, 3)
    assert torch.equal(each, each[:1].expand(64, 3))
    assert torch.allclose(each[0], states.flatten(0, 1).mean(0), atol=1e-5)


def test_leading_dimensions_and_pieces_change_nothing():
    states, values = marked(130, 0)
    found = KeypointReadout.Config(steps=3, width=4, blocks=1, keypoints=2, hidden=(8,)).build(("x", "y", "s"), (64, 3))
    found.fit(states, values)
    with torch.inference_mode():
        whole = found.read(states)
        assert torch.allclose(found.read(states.view(2, 65, 64, 3)).flatten(0, 1), whole, atol=1e-4)
        assert torch.allclose(found.read(states[:3]), whole[:3], atol=1e-4)


def test_what_does_not_count_as_measured_is_not_learned():
    states, values = marked(60, 0)
    known = torch.ones_like(values, dtype=torch.bool)
    known[30:, 0] = False
    spoilt = values.clone()
    spoilt[30:, 0] = 1e6
    short = KeypointReadout.Config(steps=5, width=4, blocks=0, keypoints=1, hidden=())
    one, other = short.build(("x", "y", "s"), (64, 3)), short.build(("x", "y", "s"), (64, 3))
    one.fit(states, spoilt, measured=known)
    other.fit(states, values, measured=known)
    assert torch.allclose(one.read(states), other.read(states), rtol=1e-4)


def test_it_refuses_what_has_no_places():
    with pytest.raises(ConfigError, match="states of tokens"):
        SMALL.build(("x",), (16,))
    with pytest.raises(ConfigError, match="grid of 60 places"):
        SMALL.build(("x",), (60, 3))
    with pytest.raises(ConfigError, match="positive sizes"):
        KeypointReadout.Config(width=0)
    with pytest.raises(ConfigError, match=r"positive sizes.* floor"):
        KeypointReadout.Config(floor=0.0)
    assert KeypointReadout.Config(grid=(6, 10), steps=1).build(("x",), (60, 3)).grid == (6, 10)
    states, values = marked(40, 0)
    with pytest.raises(DataError, match="finite"):
        SMALL.build(("x", "y", "same"), (64, 3)).fit(states * float("nan"), values)
