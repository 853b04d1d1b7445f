"""Levels of abstraction at rest: what they see, whether they fit together, how far they foresee."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from steersman.core import (
    ActionSpec,
    ConfigError,
    DataError,
    MismatchError,
    ObservationSpec,
    Pace,
    Perception,
    Signature,
)
from steersman.core.pacing import stacked
from steersman.perception import ConvEncoder, VectorEncoder
from steersman.world_model import ResidualModel
from steersman.world_model.hierarchy import (
    Abstraction,
    Hierarchy,
    foreseen_share,
    measured_stride,
    signature_above,
    windows,
)
from steersman.world_model.latent_variable import Gaussian


def film(frames: int = 3, apart: int = 1) -> Signature:
    signature = Signature({"image": ObservationSpec("image", (16, 16, 1))}, ActionSpec("none"))
    return signature.paced(Pace(frames=frames, apart=apart))


def level_of(signature: Signature, size: int, *, every: int, window: int = 1, apart: int = 1, chance: int = 0,
             ) -> Abstraction:
    perception: Perception
    if "image" in signature.observations:
        perception = ConvEncoder.Config(patch=4, widths=(4,), blocks=0, size=size).build(signature)
    else:
        perception = VectorEncoder.Config(hidden=(8,), size=size).build(signature)
    variable = Gaussian.Config(size=chance, width=8) if chance else None
    model = ResidualModel.Config(width=8, latent_variable=variable).build(signature, perception.latent_shape)
    return Abstraction(perception, model, signature, every=every, window=window, apart=apart).eval()


def three(apart: int = 1) -> Hierarchy:
    torch.manual_seed(0)
    return Hierarchy([
        level_of(film(3, apart), 5, every=1), level_of(signature_above(5, 3), 4, every=2, window=3, apart=1),
        level_of(signature_above(4, 2), 6, every=6, window=2, apart=2, chance=2)])


def pictures(count: int = 2, rows: int = 14) -> Tensor:
    return torch.randint(256, (count, rows, 16, 16, 1), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@torch.no_grad()
def one_by_one(hierarchy: Hierarchy, seen: Tensor, number: int, row: int) -> Tensor:
    """The state (B, D) of a level at one row, by looking at nothing but what it stems from."""
    level = hierarchy.level(number)
    if number == 1:
        pace = level.signature.pace
        shown = torch.stack([seen[:, row - i * pace.apart] for i in range(pace.frames)], 1)
        return level.perception.encode({"image": stacked(shown)[:, None]}).state[:, 0]
    below = [one_by_one(hierarchy, seen, number - 1, row - i * level.apart) for i in reversed(range(level.window))]
    return level.perception.encode({"below": torch.cat(below, 1)[:, None]}).state[:, 0]


@pytest.mark.parametrize("apart", [1, 2])
def test_all_rows_together_give_what_each_gives_alone(apart: int) -> None:
    hierarchy, seen = three(apart), pictures()
    with torch.no_grad():
        states = hierarchy.encode({"image": seen})
    assert hierarchy.before == (2 * apart, 2 * apart + 2, 2 * apart + 4)
    for number, (found, before) in enumerate(zip(states, hierarchy.before, strict=True), 1):
        assert found.shape == (2, 14 - before, hierarchy.level(number).size)
        for row in range(before, 14):
            alone = one_by_one(hierarchy, seen, number, row)
            assert torch.allclose(found[:, row - before], alone, atol=1e-5)


def test_a_state_knows_nothing_of_what_comes_later() -> None:
    hierarchy, seen = three(), pictures()
    other = seen.clone()
    other[:, 10:] = 255 - other[:, 10:]
    with torch.no_grad():
        for before, a, b in zip(hierarchy.before, hierarchy.encode({"image": seen}), hierarchy.encode({"image": other}),
                                strict=True):
            assert torch.equal(a[:, : 10 - before], b[:, : 10 - before])
            assert not torch.allclose(a[:, 10 - before], b[:, 10 - before])


def test_foreseeing_is_the_world_model_step_by_step() -> None:
    hierarchy = three()
    for number in (1, 2):
        state = torch.randn(8, hierarchy.level(number).size)
        with torch.no_grad():
            ways = hierarchy.foresee(number, state[:, None], 4)
            assert ways.shape == (8, 1, 5, state.shape[1])
            for h in range(1, 5):
                state = hierarchy.foresee(number, state[:, None], 1)[:, 0, 1]
                assert torch.allclose(ways[:, 0, h], state, atol=1e-5)


def test_chance_gives_as_many_futures_as_it_is_asked_for() -> None:
    hierarchy = three()
    u = torch.rand(2, 5, 3, hierarchy.level(3).world_model.chance)
    with torch.no_grad():
        ways = hierarchy.foresee(3, torch.randn(2, 1, 6), 3, u)
    assert ways.shape == (2, 5, 4, 6)
    assert not torch.allclose(ways[:, 0, -1], ways[:, 1, -1])


def test_windows_are_the_oldest_first_and_spaced() -> None:
    states = torch.arange(10.0)[None, :, None]
    assert windows(states, 3, 2)[0].tolist() == [[t - 4, t - 2, t] for t in range(4, 10)]


# Refusals ------------------------------------------------------------------------------------------------------


def test_levels_of_other_sizes_do_not_fit_together() -> None:
    with pytest.raises(ConfigError, match=r"level 2 that sees 3 states of 5 numbers.*of 15; got one of \[12\];"):
        Hierarchy([level_of(film(), 5, every=1), level_of(signature_above(4, 3), 4, every=2, window=3)])


def test_a_second_level_that_sees_the_film_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="got one that sees image"):
        Hierarchy([level_of(film(), 5, every=1), level_of(film(), 5, every=2)])


@pytest.mark.parametrize(("every", "apart"), [(3, 2), (4, 1), (1, 2)])
def test_strides_that_are_no_multiples_do_not_fit(every: int, apart: int) -> None:
    with pytest.raises(ConfigError, match=r"level 2 whose window is spaced by level 1's stride of 2 rows"):
        Hierarchy([level_of(film(), 5, every=2), level_of(signature_above(5, 3), 4, every=every, window=3,
                                                          apart=apart)])


def test_too_few_rows_unknown_levels_and_none_at_all() -> None:
    hierarchy = three()
    with pytest.raises(MismatchError, match="at least 7 rows, for 3 levels; got 6"):
        hierarchy.encode({"image": pictures(rows=6)})
    with pytest.raises(ConfigError, match="a level from 1 to 3; got 4"):
        hierarchy.level(4)
    with pytest.raises(ConfigError, match="at least one level"):
        Hierarchy([])
    with pytest.raises(MismatchError, match="states of 5 numbers; got 4"):
        hierarchy.foresee(1, torch.zeros(1, 1, 4), 2)
    with pytest.raises(MismatchError, match="at least 5 rows, for a window of 3 states 2 rows apart"):
        windows(torch.zeros(1, 4, 2), 3, 2)


def test_a_first_level_of_a_log_in_which_somebody_acts_asks_for_actions() -> None:
    signature = Signature({"vector": ObservationSpec("vector", (3,))}, ActionSpec("continuous", (-1.0,), (1.0,)))
    level = level_of(signature, 4, every=1)
    with pytest.raises(MismatchError, match="in whose log somebody acts"):
        level.foresee(torch.zeros(2, 1, 4), 3)
    with torch.no_grad():
        assert level.foresee(torch.zeros(8, 1, 4), 3, actions=torch.zeros(8, 1, 3, 1)).shape == (8, 1, 4, 4)


# How far -------------------------------------------------------------------------------------------------------


class Turning(ResidualModel):
    """A wheel that turns by `angle` a step, in closed form."""

    def turned(self, angle: float) -> Turning:
        self.angle = angle
        return self

    def imagine(self, belief, actions, exogenous=None, u=None):  # type: ignore[no-untyped-def]
        h = torch.arange(actions.shape[2] + 1) * self.angle
        x, y = (v[:, None, None] for v in belief.state.unbind(-1))
        found = super().imagine(belief, actions, exogenous, u)
        turned = torch.stack([h.cos() * x - h.sin() * y, h.sin() * x + h.cos() * y], -1)
        return type(found)(turned, None)


def wheel(angle: float, believed: float, every: int = 1, noise: float = 0.0) -> tuple[Abstraction, Tensor]:
    """Films of wheels that turn by `angle` a row, and a level that believes in another."""
    signature = Signature({"vector": ObservationSpec("vector", (2,))}, ActionSpec("none"))
    perception = VectorEncoder.Config(keep=True, size=0).build(signature)
    model = Turning(signature, (2,), width=2).turned(believed * every)
    generator = torch.Generator().manual_seed(0)
    phase = 2 * math.pi * torch.rand(64, 1, generator=generator) + angle * torch.arange(200)
    states = torch.stack([phase.cos(), phase.sin()], -1)
    return (Abstraction(perception, model, signature, every=every),
            states + noise * torch.randn(states.shape, generator=generator))


def test_the_share_that_is_foreseen_has_its_closed_form() -> None:
    """Off by δ a step: |ŝ - s|² = 2 - 2 cos hδ; no change is off by 2 - 2 cos hα, the mean by 1."""
    level, states = wheel(0.3, 0.35, every=2)
    found = foreseen_share(level, states, 12)
    h = torch.arange(1, 13) * 2
    wanted = 1 - (2 - 2 * (h * 0.05).cos()) / torch.minimum(2 - 2 * (h * 0.3).cos(), torch.tensor(1.0))
    assert torch.allclose(found, wanted, atol=0.02)


def test_a_stride_is_as_long_as_half_of_it_is_foreseen() -> None:
    level, states = wheel(0.3, 0.35, every=2)
    share = foreseen_share(level, states, 20)
    stride = measured_stride(level, states, 20)
    assert bool((share[:stride] >= 0.5).all())
    assert float(share[stride]) < 0.5
    assert stride == 7  # 2 - 2 cos(.1 h) reaches 1/2 at h = 7.2
    assert measured_stride(level, states, 4) == 4
    knows, seen = wheel(0.3, 0.3)
    assert measured_stride(knows, seen, 16) == 16
    lost, seen = wheel(0.3, 1.5)
    assert measured_stride(lost, seen, 16) == 2


def test_films_that_are_too_short_for_a_stride_are_refused() -> None:
    level, states = wheel(0.3, 0.3, every=10)
    with pytest.raises(DataError, match="films of more than 20 rows, 2 steps of 10; got 15"):
        measured_stride(level, states[:, :15], 8)


