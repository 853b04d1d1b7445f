"""Intrinsic costs: weighed, never changed; what changed is named."""

from __future__ import annotations

import copy

import msgspec
import pytest
import torch
from torch import nn

from steersman.core import ActionSpec, ConfigError, Cost, SealError, check_cost
from steersman.cost import DisagreementCost, EffortCost, GoalCost, Sealed
from steersman.cost.sealed import fingerprint

SPEC = ActionSpec("continuous", (-1.0, 0.0), (1.0, 3.0))


class Hurt(nn.Module, Cost):
    """A cost with weights, a function, numbers and a nested structure."""

    name = "hurt"

    class Config(msgspec.Struct, frozen=True):
        power: float = 2.0

    def __init__(self, limit=1.5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5), requires_grad=False)
        self.register_buffer("mean", torch.zeros(5))
        self.inner = nn.Linear(5, 5).requires_grad_(False)
        with torch.no_grad():
            self.inner.weight.fill_(0.5)
            self.inner.bias.zero_()
        self.limit, self.table, self.config = limit, {"a": [1, 2.5, "x"]}, Hurt.Config()
        self.squash = lambda x: x.tanh() * limit

    def energy(self, imagined, actions, task):
        return self.squash(self.inner(imagined.states[:, :, 1:] - self.mean) @ self.weight).square() * self.limit


def test_a_sealed_cost_says_what_the_cost_says():
    kept = check_cost(Sealed(Hurt()), SPEC, (5,))
    assert "leaves its own tensors as they were" in kept
    sealed = Sealed(EffortCost(SPEC))
    assert sealed.name == "effort"
    sealed.verify()
    assert copy.deepcopy(sealed).fingerprint == sealed.fingerprint


def squash(x):
    return x


@pytest.mark.parametrize(
    ("tamper", "match"),
    [
        (lambda c: c.weight.data.mul_(1.0000002), r"weight: float32\[5\] \w+ became float32\[5\] \w+"),
        (lambda c: c.weight.requires_grad_(True), r"weight: .*\(trainable\)"),
        (lambda c: c.mean.add_(1), "mean"),
        (lambda c: c.inner.weight.data.neg_(), "inner.weight"),
        (lambda c: setattr(c, "limit", 1.25), "limit: 1.5 became 1.25"),
        (lambda c: c.table["a"].append(3), r"table\['a'\]"),
        (lambda c: c.table["a"].__setitem__(1, 2.6), r"table\['a'\]\[1\]: 2.5 became 2.6"),
        (lambda c: setattr(c, "config", Hurt.Config(power=3.0)), "config.power: 2.0 became 3.0"),
        (lambda c: setattr(c, "squash", squash), "squash"),
        (lambda c: setattr(c, "energy", lambda *_: 0), r"energy\(\): nothing became code"),
        (lambda c: setattr(c, "extra", 0), "extra: nothing became 0"),
        (lambda c: delattr(c, "limit"), "limit: 1.5 became nothing"),
        (lambda c: setattr(c, "inner", nn.Identity()), "inner"),
        (lambda c: c.inner.register_forward_hook(lambda *_: None), "inner.hooks: 0 became 1"),
        (lambda c: setattr(c, "__class__", type("Soft", (Hurt,), {})), "class: .*Hurt became .*Soft"),
        (lambda c: c.train(), "training: False became True"),
    ],
)
def test_tampering_is_refused_and_named(tamper, match):
    cost = Hurt()
    sealed = Sealed(cost)
    tamper(cost)
    with pytest.raises(SealError, match=match):
        sealed.verify()


def test_rewriting_the_class_is_seen(monkeypatch):
    sealed = Sealed(Hurt())
    monkeypatch.setattr(Hurt, "energy", lambda self, imagined, actions, task: actions[..., 0] * 0)
    with pytest.raises(SealError, match=r"Hurt.energy\(\): code \w+ became code"):
        sealed.verify()


def test_attributes_of_the_seal_cannot_be_set():
    sealed = Sealed(EffortCost(SPEC))
    for change in (lambda: setattr(sealed, "name", "x"), lambda: setattr(sealed, "_cost", Hurt()),
                   lambda: setattr(sealed, "energy", squash), lambda: delattr(sealed, "name")):
        with pytest.raises(SealError, match="'effort' to stay as it was"):
            change()


def test_what_is_trainable_or_cannot_be_hashed_is_not_sealed():
    cost = Hurt()
    cost.inner.weight.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"without trainable parameters.*"):
        Sealed(cost)
    cost = EffortCost(SPEC)
    cost.generator = torch.Generator()
    with pytest.raises(ConfigError, match="Generator at generator"):
        Sealed(cost)


def test_the_stored_fingerprint_holds_no_code_and_is_the_same_when_built_alike():
    stored = Sealed(EffortCost(SPEC)).fingerprint
    assert stored == Sealed(EffortCost(SPEC)).fingerprint
    assert not any(path.endswith("()") for path in stored)
    assert stored["class"] == "steersman.cost.action.EffortCost"
    other = Sealed(EffortCost(ActionSpec("continuous", (-1.0, 0.0), (1.0, 4.0))))
    with pytest.raises(SealError, match="when the run was made"):
        other.verify(stored)


def test_a_way_back_to_itself_ends():
    cost = EffortCost(SPEC)
    cost.me = cost
    assert fingerprint(cost)["me"] == "a way back to itself"
    assert fingerprint(GoalCost(distance="cosine"))["distance"] == "'cosine'"


def test_a_seal_of_the_class_that_curiosity_once_was_still_holds():
    sealed = Sealed(DisagreementCost(curious=True))
    sealed.verify({"class": "steersman.cost.curiosity.CuriosityCost"})
    with pytest.raises(SealError, match="name: 'curiosity' became nothing"):
        Sealed(DisagreementCost()).verify({"class": "steersman.cost.curiosity.CuriosityCost"})
