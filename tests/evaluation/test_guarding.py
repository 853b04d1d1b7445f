"""Fitting a guard: how many labels, what the margin covers on new frames, that nothing else is looked at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from steersman.agent import Agent, AgentConfig
from steersman.core import Belief, Imagined, Latent, PlanningError, UsageError
from steersman.evaluation import Guard, fit_guard, guarding
from steersman.perception import SceneEncoder
from steersman.world_model import MapReader
from steersman.worlds import TwoRooms
from steersman.worlds.rooms import MAX_STEP
from steersman.worlds.two_rooms import SIGNATURE

DIRECTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-0.8, 0.6]])


class Redness(SceneEncoder):
    """Eight numbers that tell where the picture is red: the centre of it, curved, and some noise of its own."""

    def __init__(self, *words: object) -> None:
        super().__init__(*words)
        self.latent_shape = (8,)

    def encode(self, observation: dict[str, Tensor], task: object = None) -> Latent:
        image = observation["image"].float()
        red = (image[..., 0] - image[..., 1:].amax(-1) - 60).clamp_min(0)
        mass = red.sum((-1, -2)).clamp_min(1e-6)
        grid = torch.arange(64.0)
        x, y = (red.sum(-2) * grid).sum(-1) / mass, (red.sum(-1) * grid).sum(-1) / mass
        u, v = x / 32 - 1, y / 32 - 1
        noise = torch.randn(*u.shape, 8, generator=torch.Generator().manual_seed(int(mass.sum()) % 1000))
        return Latent(torch.stack([u, v, u * v, u**2, v**2, (2 * u).sin(), (2 * v).sin(), u - v], -1) + 0.02 * noise)

    def survey(self, observation: dict[str, Tensor]) -> None:
        return None


class Free(MapReader):
    """Moves as if there were no walls: its first two numbers only, the rest follows from them."""

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        return Belief(latent.state[:, -1])

    def imagine(self, belief: Belief, actions: Tensor, *_: object) -> Imagined:
        u, v = belief.state[:, None, :2].unbind(-1)
        states = [belief.state[:, None].expand(-1, actions.shape[1], -1)]
        for t in range(actions.shape[2]):
            u, v = u + actions[:, :, t, 0] * MAX_STEP / 32, v + actions[:, :, t, 1] * MAX_STEP / 32
            states.append(torch.stack([u, v, u * v, u**2, v**2, (2 * u).sin(), (2 * v).sin(), u - v], -1))
        return Imagined(torch.stack(states, 2))


@pytest.fixture(scope="module")
def agent() -> Agent:
    perception = Redness(SceneEncoder.Config(width=4, map_width=4, hidden=4), SIGNATURE)
    model = Free(MapReader.Config(width=4), SIGNATURE, (8,), perception.context_shape)
    config = AgentConfig(perception=SceneEncoder.Config(), world_model=MapReader.Config())
    return Agent(config, SIGNATURE, perception, model)


@pytest.fixture(scope="module")
def guard(agent: Agent) -> Guard:
    return fit_guard(agent, TwoRooms.Config(), seed=1, labels=300, quantile=0.98)


def test_labels_are_counted_and_no_more_are_drawn(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    original = guarding._labelled_log

    def counting(*args: object) -> object:
        log = original(*args)  # type: ignore[arg-type]
        drawn.append(len(log.values))
        return log

    monkeypatch.setattr(guarding, "_labelled_log", counting)
    guard = fit_guard(agent, TwoRooms.Config(), seed=0, labels=120, quantile=0.9)
    assert drawn == [120]
    assert guard.labels_used == 120
    assert len(guard.errors) == 120, "each label calibrates, by a probe that did not see it"


def test_the_margin_covers_new_frames_as_often_as_promised(agent: Agent, guard: Guard) -> None:
    assert guard.probe_error < 1.0
    new = guarding._labelled_log(agent, TwoRooms.Config(), 400, 2, torch.Generator().manual_seed(99))
    missed = guard.readout.read(new.states) - new.values[:, None]
    toward = (missed @ DIRECTIONS.T).amax(1)
    assert float((toward > guard.margin).float().mean()) < 0.02 + 0.03, "2% promised, 3 deviations of 300 labels"
    assert float((toward > guard.margin / 3).float().mean()) > 0.01, "a margin no wider than it needs to be"


def test_a_lower_quantile_gives_a_narrower_margin_and_fits_are_repeatable(agent: Agent, guard: Guard) -> None:
    lower = fit_guard(agent, TwoRooms.Config(), seed=1, labels=300, quantile=0.8)
    assert 0 < lower.margin < guard.margin
    assert torch.equal(lower.errors, guard.errors), "same seed, same labels, same probe"


def test_the_guard_makes_one_guardrail_for_all_episodes(guard: Guard) -> None:
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, 20:30, 20:30] = True
    (region,) = guard(masks)
    assert region.clear == guard.margin
    assert set(guard.figures()) == {"margin", "quantile", "labels", "probe_error"}
    still = Imagined(torch.zeros(3, 4, 3, 8))
    assert region.margin(still, torch.zeros(3, 4, 2, 2)).shape == (3, 4, 2)
    with pytest.raises(PlanningError):
        guard(masks.float())


def test_a_guard_needs_labels_enough_for_its_promise(agent: Agent) -> None:
    with pytest.raises(UsageError):
        fit_guard(agent, TwoRooms.Config(), seed=0, labels=40)


def test_fitting_touches_neither_perception_nor_world_model(agent: Agent) -> None:
    modules: list[nn.Module] = [agent.perception, agent.world_model]
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules]
    fit_guard(agent, TwoRooms.Config(), seed=3, labels=100, quantile=0.9)
    for module, state in zip(modules, before, strict=True):
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, state[name], rtol=0, atol=0)
