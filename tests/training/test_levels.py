"""Levels of parameters: each changes at its own frequency under its own optimiser, and the ledger counts it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from small_world import SIGNATURE, Drift, config
from torch import Tensor

from steersman.core import ConfigError, Optimiser, register
from steersman.core.ledger import Ledger, read_entries
from steersman.nn import AdamW
from steersman.objectives import Invariance, VICReg
from steersman.perception.views import Noise
from steersman.runs import Run
from steersman.training import ParameterLevel, create_run, resume, train
from steersman.training.learner import Learner
from steersman.training.levels import learning_rate
from steersman.training.processes import Processes

DATA = Drift()
FAST = ParameterLevel(name="fast")
SLOW = ParameterLevel(name="slow", modules=("world_model",), every=3)


def learner(**changes: Any) -> Learner:
    torch.manual_seed(0)
    return Learner(config(warmup=0, schedule="constant", **changes), SIGNATURE, torch.device("cpu"), Processes())


def window(step: int) -> Any:
    episodes = (torch.arange(6) + step) % 12
    return DATA.windows(episodes, torch.zeros(6, dtype=torch.long), 8)


def numbers(made: Learner, prefix: str) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in made.parts.named_parameters() if n.startswith(prefix)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_one_level_is_what_training_without_levels_is() -> None:
    plain, named = learner(), learner(levels=(FAST,))
    apart = learner(levels=(FAST, ParameterLevel(name="model", modules=("world_model",))))
    for step in range(5):
        for made in (plain, named, apart):
            made.step(window(step), step)
    for made in (named, apart):
        assert same(numbers(plain, ""), numbers(made, ""))
        mine, theirs = (x.training_state() for x in (plain, made))
        assert mine.keys() == theirs.keys()


def test_a_slow_level_changes_at_every_third_step_only() -> None:
    made = learner(levels=(FAST, SLOW))
    for step in range(7):
        before = numbers(made, "world_model"), numbers(made, "perception")
        made.step(window(step), step)
        assert same(before[0], numbers(made, "world_model")) is ((step + 1) % 3 != 0), step
        assert not same(before[1], numbers(made, "perception"))


@register(Optimiser)
class Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="plain-descent"):
    """θ ← θ - lr · g."""

    def build(self, parameters: Any) -> Descent:
        return Descent(parameters)


class Descent(Optimiser):
    def __init__(self, parameters: Any) -> None:
        self.named = list(parameters)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for _, p in self.named:
            if p.grad is not None:
                p -= lr * p.grad

    def forget_gradients(self) -> None:
        for _, p in self.named:
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: Any) -> None:
        assert not state


@pytest.mark.parametrize(("gather", "share"), [("mean", 1 / 3), ("sum", 1.0)])
def test_gradients_are_gathered_between_updates(gather: Any, share: float) -> None:
    frozen = ParameterLevel(name="rest", every=0)
    slow = ParameterLevel(name="slow", modules=("world_model",), every=3, gather=gather, optimiser=Plain(), lr=0.1)
    made = learner(levels=(frozen, slow), clip=1e9)
    start, total = numbers(made, "world_model"), None
    for step in range(3):
        _, loss = made.forward(window(step), made.config.stage(step))
        grads = torch.autograd.grad(loss.total, [p for n, p in made.parts.named_parameters() if n in start],
                                    allow_unused=True)
        found = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, start.values(), strict=True)]
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        made.step(window(step), step)
    for (name, now), g in zip(numbers(made, "world_model").items(), total or [], strict=True):
        torch.testing.assert_close(now, start[name] - 0.1 * share * g, rtol=1e-4, atol=1e-6)


def test_a_level_that_never_changes_is_frozen_and_says_so() -> None:
    made = learner(levels=(FAST, ParameterLevel(name="seen", modules=("perception",), every=0)))
    before = numbers(made, "perception")
    for step in range(3):
        made.step(window(step), step)
    assert same(before, numbers(made, "perception"))
    entry = made.ledger.entries["seen"]
    assert (entry.level.period, entry.period, entry.writes) == (math.inf, math.inf, 0)


def test_the_ledger_measures_what_each_level_declares() -> None:
    made = learner(levels=(FAST, SLOW), average=0.9)
    for step in range(12):
        made.step(window(step), step)
    for name, period in {"fast": 48, "slow": 144, "average": 48}.items():
        entry = made.ledger.entries[name]
        assert entry.level.period == entry.period == period
    assert made.ledger.entries["slow"].writes == 4
    stored = read_entries(msgspec.json.decode(msgspec.json.encode(made.ledger.state())))
    assert stored == made.ledger.entries


def test_the_ledger_counts_what_was_written_not_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdamW, "step", lambda self, lr: None)
    made = learner(levels=(FAST,))
    for step in range(3):
        made.step(window(step), step)
    assert made.ledger.entries["fast"].writes == 0


def test_stopped_between_two_updates_of_a_slow_level_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    c = config(levels=(FAST, msgspec.structs.replace(SLOW, every=7)))
    for name in ("whole", "parts"):
        create_run(tmp_path / name, c, DATA, recipe="test").close()
    whole = train(c, DATA, Run.open(tmp_path / "whole"))
    count = iter(range(1000))
    train(c, DATA, Run.open(tmp_path / "parts"), stop=lambda: next(count) >= 17)
    rest = resume(tmp_path / "parts", dataset=DATA)
    for a, b in zip(whole.world_model.parameters(), rest.world_model.parameters(), strict=True):
        assert torch.equal(a, b)
    counted = [Run.open(tmp_path / n).checkpoint().manifest.state["levels"] for n in ("whole", "parts")]
    assert counted[0] == counted[1]
    assert counted[0]["slow"]["writes"] == 4


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ((FAST, ParameterLevel(name="x", modules=("modle",))), r"a module for level 'x'.*world_model.*got 'modle'"),
        ((ParameterLevel(name="x", modules=("world_model",)),), "a level for every parameter; got none for perception"),
        ((FAST, FAST), "levels of different names"),
        ((FAST, SLOW, msgspec.structs.replace(SLOW, name="x")), "each module in one level; got 'world_model' in seve"),
        ((FAST, ParameterLevel(name="x", modules=("objectives.objectives.0",))), "parameters for level 'x'; got none"),
        ((ParameterLevel(name="x", every=0),), "something that learns; got every parameter frozen"),
    ],
)
def test_levels_that_do_not_fit_are_refused_in_one_line(levels: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        learner(levels=levels)
    assert "\n" not in f"{caught.value}"


def test_a_loss_in_which_nothing_that_learns_has_a_part_is_refused_in_one_line() -> None:
    made = learner(objectives=(VICReg.Config(),), levels=(FAST, ParameterLevel(name="x", modules=("perception",),
                                                                               every=0)))
    with pytest.raises(ConfigError, match="a part in; got one of frozen parameters alone"):
        made.step(window(0), 0)


@pytest.mark.parametrize(("name", "said"), [
    ("average", "that no average has"), ("teacher 0", "that no average has"), ("", "of one line"),
    ("a\nb", "of one line"),
])
def test_a_level_is_called_by_one_line_that_nothing_else_is_called_by(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ParameterLevel(name=name)


def test_a_level_of_single_moments_says_that_it_reads_moments() -> None:
    views = (Noise.Config(deviation=(0.1, 0.3)),) * 2
    made = learner(window=0, rollout=(), objectives=(Invariance.Config(views=views), VICReg.Config(views=views)))
    assert made.ledger.entries["parameters"].level.context == "6 moments"


def test_a_ledger_of_older_checkpoints_begins_to_count() -> None:
    made = learner()
    made.ledger.load({})
    made.step(window(0), 0)
    assert made.ledger.entries["parameters"].writes == 1
    assert Ledger().state() == {}


def test_a_level_may_have_a_rate_and_a_schedule_of_its_own() -> None:
    level = ParameterLevel(name="x", lr=0.5, warmup=4, schedule="cosine", floor=0.2)
    c = config(lr=1.0, warmup=0, schedule="constant", steps=100)
    assert [learning_rate(c, FAST, step) for step in (0, 50, 99)] == [1.0] * 3
    rates = [learning_rate(c, level, step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert rates[52] == pytest.approx(0.3, abs=1e-6)
    fixed = learner(levels=(FAST, ParameterLevel(name="y", modules=("world_model",), lr=1e-30)))
    before = numbers(fixed, "world_model.to_change.bias"), numbers(fixed, "perception")
    fixed.step(window(0), 0)
    torch.testing.assert_close(before[0], numbers(fixed, "world_model.to_change.bias"))
    assert not same(before[1], numbers(fixed, "perception"))
