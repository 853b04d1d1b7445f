"""A view that is encoded as an agent that acts encodes: by running statistics, which it does not change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_film import SIGNATURE, Film
from small_world import config
from torch import Tensor

from steersman.agent import AgentConfig
from steersman.core import ConfigError, Encoded, Views
from steersman.nn.batch_norm import BatchNorm, batch_norms, running
from steersman.objectives import Likeness, VICReg
from steersman.perception import ConvEncoder
from steersman.perception.views import Flip, Noise
from steersman.training.learner import Learner
from steersman.training.precision import choose_device
from steersman.training.processes import Processes

SEEING = ConvEncoder.Config(widths=(4, 6), blocks=0, activation="relu", projector=8, size=5)
LOUD = Noise.Config(deviation=(0.5, 0.5))
NEVER = Flip.Config(horizontal=0.0)


def learner(view: Any, acting: bool) -> Learner:
    torch.manual_seed(0)
    c = config(agent=AgentConfig(perception=SEEING), objectives=(
        VICReg.Config(), Likeness.Config(view=view, acting=acting)))
    return Learner(c, SIGNATURE, choose_device("cpu"), Processes())


def made(one: Learner) -> Any:
    window = Film().windows(torch.arange(6), torch.zeros(6, dtype=torch.int64), 8)
    return one.make(window, one.config.stage(0))


def statistics(one: Learner) -> Tensor:
    (norm,) = batch_norms(one.parts["perception"])
    return torch.cat([norm.mean, norm.variance])


def test_statistics_are_those_of_moments_as_they_are_and_never_those_of_a_view():
    kept = []
    for view, acting in ((NEVER, True), (LOUD, True), (LOUD, False)):
        one = learner(view, acting)
        made(one)
        kept.append(statistics(one))
        assert all(part.training for part in one.parts.modules())
    assert torch.equal(kept[0], kept[1])
    assert float((kept[2] - kept[1]).abs().max()) > 1e-3


def test_the_view_has_the_latent_that_an_agent_with_these_statistics_gives_it():
    one = learner(NEVER, True)
    made(one)
    window = Film().windows(torch.arange(6), torch.zeros(6, dtype=torch.int64), 8)
    need = Views((NEVER,), acting=True)
    batch = one.make(window, one.config.stage(0), (need,))
    one.parts.eval()
    acted = one.make(window, one.config.stage(0), (Encoded(),))
    assert torch.equal(batch.of(need).latents[0].state, acted.latent.state)


def test_running_statistics_stand_only_while_asked_for_even_after_an_error():
    norm = BatchNorm(3)
    asleep = BatchNorm(3).eval()
    both = torch.nn.Sequential(norm, asleep)
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 2
    with running(both):
        assert torch.allclose(norm(x), x / (1 + 1e-5) ** 0.5)
    with pytest.raises(ConfigError), running(both):
        raise ConfigError("a", "b", "c")
    assert norm.training
    assert not asleep.training
    assert float(norm.mean.abs().max()) == 0
    assert float(norm(x).detach().mean().abs()) < 1e-6
