"""When training ends, what acts normalises by statistics of its final weights, and of nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_film import SIGNATURE, Film
from small_world import config
from torch import Tensor

from steersman.agent import AgentConfig
from steersman.nn.batch_norm import BatchNorm, averaging
from steersman.objectives import Likeness, Prediction, VICReg
from steersman.perception import ConvEncoder
from steersman.perception.views import Noise
from steersman.training import create_run, resume, session, train
from steersman.world_model import ResidualModel

FILM = Film()
SEEING = ConvEncoder.Config(widths=(4, 6), blocks=0, activation="relu", projector=8, size=5)


def settings(perception: Any = SEEING, **changes: Any) -> Any:
    agent = AgentConfig(perception=perception, world_model=ResidualModel.Config(width=8))
    return config(**({"agent": agent, "steps": 12, "lr": 2e-2, "warmup": 0, "schedule": "constant"} | changes))


def statistics(perception: Any) -> Tensor:
    (norm,) = (part for part in perception.modules() if isinstance(part, BatchNorm))
    return torch.cat([norm.mean, norm.variance])


def those_of_the_log(perception: Any) -> Tensor:
    """Statistics of every moment of the log at once."""
    fresh = copy.deepcopy(perception).train()
    with torch.no_grad(), averaging(fresh):
        fresh.encode({"image": FILM.images})
    return statistics(fresh)


def apart(a: Tensor, b: Tensor) -> float:
    """Mean distance of means, in deviations, and of variances, in parts."""
    (mean, variance), (other, spread) = a.chunk(2), b.chunk(2)
    return float(((mean - other).abs() / spread.sqrt() + (variance / spread - 1).abs()).mean())


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_statistics_are_those_of_the_final_weights(average: float, monkeypatch: pytest.MonkeyPatch) -> None:
    c = settings(average=average)
    settled = train(c, FILM, None).perception
    monkeypatch.setattr(session, "has_statistics", lambda learner: False)
    lagging = train(c, FILM, None).perception
    names = [name for name, _ in settled.named_parameters()]
    assert all(torch.equal(settled.get_parameter(name), lagging.get_parameter(name)) for name in names)
    truth = those_of_the_log(settled)
    near, far = (apart(statistics(x), truth) for x in (settled, lagging))
    assert near < 0.2 < 5 * near < far, (near, far)  # windows show the middle of an episode more often than its ends
    assert not any(part.training or getattr(part, "averaged", None) is not None for part in settled.modules())


def test_statistics_are_those_of_moments_as_they_are_where_views_are_learned_from_beside_them() -> None:
    both = (Prediction.Config(), VICReg.Config())
    loud = Likeness.Config(view=Noise.Config(deviation=(0.5, 0.5)), weight=0.0)
    seen, beside = (train(settings(objectives=x), FILM, None).perception for x in (both, (*both, loud)))
    assert torch.equal(statistics(seen), statistics(beside))


def test_an_interrupted_training_ends_with_the_same_statistics(tmp_path: Path) -> None:
    c = settings(checkpoint_steps=4)
    with create_run(tmp_path / "whole", c, FILM, recipe="test") as run:
        whole = train(c, FILM, run)
    done = [0]
    with create_run(tmp_path / "parts", c, FILM, recipe="test") as run:
        train(c, FILM, run, progress=lambda p: done.__setitem__(0, p.step), stop=lambda: done[0] >= 7)
    rest = resume(tmp_path / "parts", dataset=FILM)
    once_more = resume(tmp_path / "parts", dataset=FILM)
    for other in (rest, once_more):
        mine, theirs = whole.perception.state_dict(), other.perception.state_dict()
        assert all(torch.equal(x, theirs[name]) for name, x in mine.items())


def test_the_last_checkpoint_has_them_whenever_it_was_written(tmp_path: Path) -> None:
    """Also one that falls due at the last step."""
    from steersman.agent import load_parts

    c = settings(checkpoint_steps=6)
    with create_run(tmp_path / "run", c, FILM, recipe="test") as run:
        trained = train(c, FILM, run)
    assert torch.equal(statistics(load_parts(tmp_path / "run").parts.perception), statistics(trained.perception))


def test_without_batch_statistics_nothing_more_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "settle", lambda *_: pytest.fail("nothing to settle"))
    train(settings(ConvEncoder.Config(widths=(4,), blocks=0, size=5), steps=2), FILM, None)


def test_random_numbers_go_on_as_if_nothing_had_been_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    from steersman.training.learner import Learner
    from steersman.training.precision import choose_device
    from steersman.training.processes import Processes
    from steersman.training.settling import settle

    learner = Learner(settings(start_noise=0.1), SIGNATURE, choose_device("cpu"), Processes())
    before, kept = torch.random.get_rng_state(), copy.deepcopy(learner.parts.state_dict())
    window = FILM.windows(torch.arange(6), torch.zeros(6, dtype=torch.int64), 8)
    settle(learner, [window], 0)
    assert torch.equal(before, torch.random.get_rng_state())
    changed = {name for name, x in learner.parts.state_dict().items() if not torch.equal(x, kept[name])}
    assert changed == {"perception.project.1.mean", "perception.project.1.variance"}
    assert learner.parts.training
    assert learner.parts["perception"].training
