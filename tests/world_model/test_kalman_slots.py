"""Slots in Kalman filters: the filter is Kalman's, out of sight it grows unsure, latent actions are found again."""

from __future__ import annotations

import pytest
import torch

from steersman.core import ActionSpec, ConfigError, Latent, ObservationSpec, Signature, WorldModel, registered
from steersman.core.checks import check_world_model
from steersman.world_model import KalmanSlots

ACTION = ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0))
SIGNATURE = Signature({"image": ObservationSpec("image", (16, 16, 3))}, ACTION)


def made(slots: int = 3, seed: int = 0, loud: bool = False) -> KalmanSlots:
    torch.manual_seed(seed)
    model = KalmanSlots.Config(width=8).build(SIGNATURE, (slots, 3), None)
    if loud:
        for network in (model.motion, model.pair, model.hold, model.noise):
            torch.nn.init.normal_(network[-1].weight, std=0.05)
        torch.nn.init.normal_(model.push, std=0.02)
    return model.eval()


def slots_of(place: torch.Tensor, seen: torch.Tensor | float = 1.0) -> torch.Tensor:
    return torch.cat([place, torch.as_tensor(seen).expand(place.shape[:-1])[..., None]], -1)


@torch.no_grad()
def test_silent_networks_leave_kalmans_filter_of_constant_speed():
    model = made(slots=1).double()
    g = torch.Generator().manual_seed(0)
    places = 0.1 * torch.randn(4, 9, 1, 2, generator=g, dtype=torch.float64)
    belief = model.begin(Latent(slots_of(places)), torch.zeros(4, 8, 2, dtype=torch.float64))
    a = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    r = float(model.r)
    q = float(model.agency.exp()[0]) + float(torch.tensor(-10.0, dtype=torch.float64).exp()) + 1e-7
    noise = q * torch.ones(2, 2, dtype=torch.float64)  # the speed's noise moves the place in the same step
    mean = torch.stack([places[:, 0, 0], torch.zeros(4, 2, dtype=torch.float64)], 1)
    spread = torch.diag(torch.tensor([r, 0.003], dtype=torch.float64))
    for t in range(1, 9):
        mean, spread = a @ mean, a @ spread @ a.T + noise
        gain = spread[:, :1] / (spread[0, 0] + r)
        mean = mean + gain * (places[:, t] - mean[:, :1])
        spread = spread - gain @ spread[:1]
    torch.testing.assert_close(belief.state[:, 0, :2], mean[:, 0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(belief.carry[0][:, 0], mean[:, 1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(model.variance(belief)[:, 0], spread[0, 0].expand(4), rtol=1e-5, atol=1e-9)


@torch.no_grad()
def test_what_is_out_of_sight_is_foreseen_and_grows_unsure():
    model = made(loud=True)
    place = 0.3 * torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(1))
    now = model.fresh(slots_of(place))
    hidden = torch.tensor([1.0, 0.0, 1.0])
    foreseen = model.step(now, torch.zeros(2, 2))
    after = model.measure(foreseen, slots_of(place, hidden))
    assert torch.equal(after.place[:, 1], foreseen.place[:, 1])
    assert bool((after.aa[:, 1] > now.aa[:, 1]).all())
    assert bool((after.aa[:, [0, 2]] < foreseen.aa[:, [0, 2]]).all())
    gone = torch.tensor([[True, False, False]] * 2)
    lost = model.lost(after, gone, torch.zeros(2, 3, 2))
    assert bool((lost.aa[:, 0] > 0.3).all())
    assert torch.equal(lost.place[:, 1:], after.place[:, 1:])
    unseen = model.fresh(slots_of(place, 0.0))
    assert float(unseen.place.abs().max()) == 0


def test_every_promise_of_a_world_model_is_kept():
    assert check_world_model(made(loud=True), ACTION, (3, 3))


@torch.no_grad()
def test_latent_actions_of_somebody_who_is_watched_are_found_again():
    model = made(slots=2)
    model.agency.fill_(-12.0)
    model.log_r.fill_(-14.0)
    g = torch.Generator().manual_seed(0)
    z = torch.randn(20, 1, 2, 2, generator=g).repeat(1, 10, 1, 1)  # held
    speed = torch.exp(torch.tensor(-6.0)) * z.cumsum(1)
    place = torch.cat([torch.zeros(20, 1, 2, 2), speed.cumsum(1)], 1)
    found = model.inferred(slots_of(place), torch.zeros(20, 10, 2))
    assert found.shape == z.shape
    assert float((found - z)[:, 3:].square().mean() / z.square().mean()) < 0.05


def test_it_is_built_by_name_and_refuses_what_are_no_slots():
    assert KalmanSlots.Config in registered(WorldModel)
    for shape in ((3,), (3, 4)):
        with pytest.raises(ConfigError, match="KeypointEncoder"):
            KalmanSlots.Config().build(SIGNATURE, shape, None)
