"""Slots: equal to a plain loop with copies, gradients too; what is alike is overwritten, what is new takes a slot, the
least recently used one where all are full; a memory that breaks a promise is told so."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch.nn import functional as F

from steersman.core import ConfigError, Memory, PromiseError, check_memory, registered
from steersman.memory import LinearMemory, SlotMemory
from steersman.memory.slots import Slots


class Loop:
    """One problem and candidate, slot by slot, as the formulas say."""

    def __init__(self, memory: SlotMemory) -> None:
        self.memory, self.keys, self.values, self.used, self.writes = memory, [], [], [], 0

    def like(self, query: torch.Tensor) -> list[torch.Tensor]:
        if self.memory.similarity == "cosine":
            return [F.cosine_similarity(query, key, dim=0) for key in self.keys]
        return [-((query - key) ** 2).mean() for key in self.keys]

    def soft(self, query: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.memory.sharpness * torch.stack(self.like(query)), 0)

    def read(self, query: torch.Tensor) -> torch.Tensor:
        if not self.keys:
            return torch.zeros(self.memory.values, dtype=query.dtype)
        return sum(c * v for c, v in zip(self.soft(query), self.values, strict=True))

    def write(self, key: torch.Tensor, value: torch.Tensor) -> None:
        self.writes += 1
        like = self.like(key)
        if like and max(like) >= self.memory.threshold:
            c = self.soft(key)
            self.values = [a * value + (1 - a) * v for a, v in zip(c, self.values, strict=True)]
            self.used[int(c.argmax())] = self.writes
        elif len(self.keys) < self.memory.slots:
            self.keys.append(key)
            self.values.append(value)
            self.used.append(self.writes)
        else:
            place = self.used.index(min(self.used))
            self.keys[place], self.values[place], self.used[place] = key, value, self.writes


def pairs(b: int, k: int, writes: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys around five centres, so that some match and some do not."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, 4, generator=g, dtype=torch.float64)
    found = []
    for _ in range(writes):
        which = torch.randint(5, (b, k), generator=g)
        near = torch.randn(b, k, 4, generator=g, dtype=torch.float64)
        found.append((centres[which] + 0.1 * near, torch.randn(b, k, 3, generator=g, dtype=torch.float64)))
    return found


def exact(memory: SlotMemory, batch: int) -> Slots:
    return memory.initial(batch).map(lambda x: x.double() if x.is_floating_point() else x)


@pytest.mark.parametrize("similarity", ["cosine", "distance"])
@pytest.mark.parametrize("settled", [0, 4])
def test_slots_equal_a_plain_loop_with_copies(similarity, settled):
    memory = SlotMemory(4, 3, slots=3, similarity=similarity, sharpness=4.0, threshold={"cosine": 0.9}.get(similarity))
    b, k = 2, 4
    shared, own = pairs(b, 1, settled, 1), pairs(b, k, 9, 2)
    own = [(key.requires_grad_(), value.requires_grad_()) for key, value in own]
    state, loops = exact(memory, b), [[Loop(memory) for _ in range(k)] for _ in range(b)]
    for key, value in shared:
        state = memory.settle(memory.write(state, key, value))
        for i in range(b):
            for one in loops[i]:
                one.write(key[i, 0], value[i, 0])
    new = 0
    for key, value in own:
        state = memory.write(state, key, value)
        for i in range(b):
            for j in range(k):
                before = len(loops[i][j].keys)
                loops[i][j].write(key[i, j], value[i, j])
                new += len(loops[i][j].keys) > before
        query = key.detach() + 0.05
        wanted = torch.stack([torch.stack([loops[i][j].read(query[i, j]) for j in range(k)]) for i in range(b)])
        torch.testing.assert_close(memory.read(state, query), wanted)
    assert settled or new == b * k * 3  # every slot of every candidate was taken once, and more keys than that came
    probe = [x for pair in own for x in pair]
    ours = torch.autograd.grad(memory.read(state, query).square().sum(), probe, allow_unused=True)
    theirs = torch.autograd.grad(wanted.square().sum(), probe, allow_unused=True)
    for a, c in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.zeros(1) if a is None else a, torch.zeros_like(a) if c is None else c)


def test_what_is_alike_is_overwritten_and_what_is_new_takes_the_least_recently_used_slot():
    memory, key = SlotMemory(4, 1, slots=2), torch.eye(4)
    state = memory.initial(1)

    def write(state, i, value):
        return memory.settle(memory.write(state, key[None, None, i], torch.full((1, 1, 1), value)))

    for i, value in ((0, 1.0), (1, 2.0), (0, 3.0), (2, 4.0)):  # 0 is used again, so that 1 makes room for 2
        state = write(state, i, value)
    found = memory.read(state, key[None]).flatten().tolist()
    assert found[0] == pytest.approx(3.0)
    assert found[2] == pytest.approx(4.0)
    assert found[1] == pytest.approx(3.5)  # nothing is alike: all that there is, in equal parts
    assert sorted(state.used.flatten().tolist()) == [3, 4]
    assert memory.read(memory.initial(1), key[None]).abs().max() == 0


def test_what_candidates_share_is_never_copied():
    memory = SlotMemory(16, 8, slots=32)
    state = memory.initial(3)
    for key, value in zip(torch.randn(5, 3, 1, 16), torch.randn(5, 3, 1, 8), strict=True):
        state = memory.settle(memory.write(state, key, value))
    written = memory.write(state, torch.randn(3, 200, 16), torch.randn(3, 200, 8))
    assert written.keys is state.keys
    assert written.values is state.values
    assert memory.read(written, torch.randn(3, 200, 16)).shape == (3, 200, 8)


@pytest.mark.parametrize("similarity", ["cosine", "distance"])
def test_slots_and_fast_weights_keep_every_promise_of_a_memory(similarity):
    assert len(check_memory(SlotMemory(8, 3, slots=4, similarity=similarity), 8, 3)) >= 14
    for rule in ("hebbian", "delta"):
        assert check_memory(LinearMemory(8, 3, rule), 8, 3)


class Broken(LinearMemory):
    """Fast weights with one promise broken."""

    def __init__(self, how: str) -> None:
        super().__init__(8, 3)
        self.how, self.seen = how, torch.zeros(1)

    def read(self, state, query):
        found = super().read(state, query)
        broken = {
            "shape": found[:, 0], "nan": found / 0, "batch": found - found.mean(0), "forgets": 0 * found,
            "candidates": found - found.mean(1, keepdim=True) + found[:, :1],
        }
        return broken.get(self.how, found + torch.rand(1) if self.how == "random" else found)

    def write(self, state, key, value):
        if self.how == "in place":
            state.base.add_(1)
        if self.how == "holds":
            self.seen = self.seen + 1
        return super().write(state, key, value)

    def settle(self, state):
        return state if self.how == "grows" else super().settle(state)


BROKEN = {
    "shape": "one value for each candidate", "nan": "finite", "batch": "alone as in a batch",
    "candidates": "alone as among others", "forgets": "brings back", "random": "same answer", "holds": "own tensors",
    "in place": "state before a write", "grows": "form of its first state",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_promise_is_named(how):
    with pytest.raises(PromiseError, match=BROKEN[how]):
        check_memory(Broken(how), 8, 3)


def test_what_cannot_be_built_is_refused_in_one_line():
    for settings, words in (({"slots": 0}, "a slot"), ({"sharpness": 0.0}, "positive"),
                            ({"threshold": 1.5}, "at most 1, as like"),
                            ({"threshold": 0.5, "similarity": "distance"}, "at most 0")):
        with pytest.raises(ConfigError, match=words):
            SlotMemory.Config(**settings).build(4, 2)
    assert SlotMemory.Config in registered(Memory)
    assert msgspec.convert({"type": "slots", "slots": 5}, SlotMemory.Config).build(4, 2).slots == 5
