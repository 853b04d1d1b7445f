"""Rivals without a world model: each loss against its formula written out, and goals reached beside random ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from steersman.core import ActionSpec, ConfigError, DivergedError, MismatchError, UsageError
from steersman.data import CacheWriter, Dataset
from steersman.evidence.peers import gcbc, gciql, hiql, qrl
from steersman.evidence.peers.descending import cosine, descend
from steersman.evidence.peers.networks import Doing, Fit, advantage_weight, expectile

FIT = Fit(hidden=(48,), features=24, widths=(16,), batch_size=96, lr=3e-3, target=0.03, precision="fp32")
TINY = {
    gcbc: gcbc.Config(fit=FIT),
    gciql: gciql.Config(fit=FIT, discount=0.9),
    hiql: hiql.Config(fit=FIT, discount=0.9, ahead=5),
    qrl: qrl.Config(fit=FIT, size=32),
}
CASES = [(gcbc, "continuous", "vector", 150), (gciql, "continuous", "vector", 150), (hiql, "continuous", "vector", 150),
         (qrl, "continuous", "vector", 80), (gcbc, "discrete", "image", 300), (qrl, "discrete", "vector", 60)]


def fitted(
    module: ModuleType, log: Dataset, steps: int, seed: int = 0, lr: float = FIT.lr, **changes: Any
) -> Any:
    config = msgspec.structs.replace(TINY[module], fit=msgspec.structs.replace(FIT, steps=steps, lr=lr), **changes)
    return module.train(log, config, seconds=60, seed=seed)


@pytest.mark.parametrize(("module", "kind", "seen", "steps"), CASES, ids=lambda x: getattr(x, "__name__", str(x))[-12:])
def test_goals_are_reached_that_random_actions_miss(
    square: Callable[..., Any], module: ModuleType, kind: str, seen: str, steps: int
) -> None:
    world, log = square(kind, seen)
    trained = fitted(module, log, steps, lr=1e-3 if seen == "image" else FIT.lr)
    assert trained.steps == steps
    assert trained.parameters > 0
    assert trained.memory > 1 << 20
    reached, floor = world.reached(trained), world.random_floor()
    assert reached > 2 * floor, f"{reached:.2f} beside {floor:.2f}"


def test_every_rival_learns_from_pictures_and_from_choices(square: Callable[..., Any]) -> None:
    for module in (gciql, hiql, qrl):
        world, log = square("discrete", "image")
        trained = fitted(module, log, 2)
        place = torch.rand(3, 2)
        action = trained(world.show(place), world.show(place.flip(0)))
        assert (action.shape, action.dtype) == ((3, 1), torch.int64)
        assert int(action.max()) < 5
        assert all(math.isfinite(value) for value in trained.losses.values())


def test_the_same_seed_gives_the_same_policy(square: Callable[..., Any]) -> None:
    world, log = square("continuous", "vector")
    place, goal = torch.rand(2, 5, 2)
    one, two, other = (fitted(gciql, log, 5, seed)(world.show(place), world.show(goal)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_regression_in_either_extraction_of_qrl_learns(square: Callable[..., Any]) -> None:
    world, log = square("continuous", "vector")
    assert world.reached(fitted(qrl, log, 100, extraction="awr", metric="mrn")) > 2 * world.random_floor()


# Losses -------------------------------------------------------------------------------------------------------------


def test_cloning_is_the_mean_negative_log_likelihood() -> None:
    said, action = torch.randn(4, 2), torch.tensor([[1.0, 0.0], [-2.0, 1.0], [0.5, 3.0], [0.0, 0.0]])
    amounts = Doing(ActionSpec("continuous", (-2.0, 0.0), (2.0, 4.0)))
    scaled = torch.stack([action[:, 0] / 2, action[:, 1] / 2 - 1], 1)
    by_hand = sum(0.5 * float((said[b] - scaled[b]).square().sum()) for b in range(4)) / 4
    assert float(gcbc.cloning(amounts, said, action)) == pytest.approx(by_hand, rel=1e-5)
    choices = Doing(ActionSpec("discrete", choices=2))
    which = torch.tensor([[0], [1], [1], [0]])
    by_hand = -sum(float(torch.log(said[b].exp()[which[b, 0]] / said[b].exp().sum())) for b in range(4)) / 4
    assert float(gcbc.cloning(choices, said, which)) == pytest.approx(by_hand, rel=1e-5)


def test_the_best_action_stands_within_the_bounds_and_whole_numbers_are_whole() -> None:
    doing = Doing(ActionSpec("continuous", (-2.0, 0.0), (2.0, 3.0), whole=(1,)))
    best = doing.best(torch.tensor([[9.0, 9.0], [0.0, 0.1]]))
    assert best.tolist() == [[2.0, 3.0], [0.0, 2.0]]


def test_implicit_q_learning_is_its_formula() -> None:
    torch.manual_seed(0)
    q, v, lowest, after = torch.randn(2, 6), torch.randn(6), torch.randn(6), torch.randn(6)
    reached = torch.tensor([True, False, False, True, False, False])
    target = gciql.backup(after, reached, 0.9)
    critic, value = gciql.losses(q, target, v, lowest, 0.8)
    by_hand = by_hand_v = 0.0
    for b in range(6):
        aim = 0.0 if reached[b] else -1 + 0.9 * float(after[b])
        by_hand += sum((float(q[i, b]) - aim) ** 2 for i in range(2)) / 6
        u = float(lowest[b] - v[b])
        by_hand_v += (0.2 if u < 0 else 0.8) * u * u / 6
    assert float(critic) == pytest.approx(by_hand, rel=1e-5)
    assert float(value) == pytest.approx(by_hand_v, rel=1e-5)


def test_weights_of_regression_grow_with_the_advantage_and_are_cut() -> None:
    weight = advantage_weight(torch.tensor([0.0, 1.0, 10.0]), 3.0)
    assert weight.tolist() == pytest.approx([1.0, math.exp(3), 100.0])
    assert float(expectile(torch.tensor(-2.0), 0.9)) == pytest.approx(0.4)
    assert float(expectile(torch.tensor(2.0), 0.9)) == pytest.approx(3.6)


def test_the_value_of_hiql_is_its_formula() -> None:
    torch.manual_seed(1)
    value, slow, after = torch.randn(3, 2, 60)
    reached = torch.arange(60) % 7 == 3
    found = hiql.value_loss(value, slow, after, reached, 0.9, 0.7)
    by_hand = 0.0
    for b in range(60):
        def aim(v: Tensor, b: int = b) -> float:
            return 0.0 if reached[b] else -1 + 0.9 * float(v)

        advantage = aim(after[:, b].min()) - float(slow[:, b].mean())
        weight = 0.3 if advantage < 0 else 0.7
        by_hand += sum(weight * (aim(after[i, b]) - float(value[i, b])) ** 2 for i in range(2)) / 60
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_the_terms_of_qrl_are_their_formulas() -> None:
    distance = torch.tensor([0.0, 3.0, 20.0])
    by_hand = sum(math.log(1 + math.exp(0.1 * (15 - d))) / 0.1 for d in distance.tolist()) / 3
    assert float(qrl.apart(distance, 15.0, 0.1)) == pytest.approx(by_hand, rel=1e-5)
    assert float(qrl.excess(distance)) == pytest.approx((2**2 + 19**2) / 3)


# Bad input ----------------------------------------------------------------------------------------------------------


def test_a_log_without_actions_is_refused(square: Callable[..., Any], tmp_path: Any) -> None:
    _, log = square("continuous", "vector")
    signature = msgspec.structs.replace(log.signature, action=ActionSpec("none"))
    with CacheWriter(tmp_path / "log", signature) as writer:
        episode = log.episode(0)
        writer.append(type(episode)(episode.observations, torch.zeros(len(episode), 0)))
        writer.finish()
    for module in TINY:
        with pytest.raises(MismatchError, match="says what was done"):
            module.train(Dataset.open(tmp_path / "log"), TINY[module], 1.0)


@pytest.mark.parametrize("wrong", [
    lambda: Fit(lr=0.0), lambda: gciql.Config(discount=1.0), lambda: hiql.Config(ahead=0),
    lambda: qrl.Config(slack=0.0),
])
def test_settings_that_cannot_be_are_refused(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError):
        wrong()


def test_a_descent_ends_by_the_clock_or_by_steps_and_says_when_it_diverges() -> None:
    x = torch.nn.Parameter(torch.tensor(1.0))

    def step(factor: float) -> None:
        assert x.grad is not None
        x.data -= 0.1 * factor * x.grad

    done = descend(lambda: (x.square(), {"x": x.detach().clone()}), [x], step, 60.0, steps=7)
    assert done.steps == 7
    assert done.losses["x"] == pytest.approx(0.8**6)
    halves = descend(lambda: (x.square(), {}), [x], step, 60.0, steps=1, schedule=lambda share: 0.5)
    assert (halves.steps, float(x.detach())) == (1, pytest.approx(0.8**7 * 0.9))
    assert descend(lambda: (x.square(), {}), [x], step, 0.05).seconds >= 0.05
    with pytest.raises(DivergedError, match="finite loss"):
        descend(lambda: (x * math.nan, {}), [x], step, 1.0)
    with pytest.raises(UsageError, match="seconds above 0"):
        descend(lambda: (x.square(), {}), [x], step, 0.0)


def test_a_cosine_rises_and_falls() -> None:
    assert [cosine(share, 0.1) for share in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])
