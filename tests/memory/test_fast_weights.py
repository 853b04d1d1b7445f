"""Fast weights: what a candidate writes stays low-rank; a world model of them needs little room and equals copies."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from steersman.core import (
    ActionSpec,
    Belief,
    ConfigError,
    Imagined,
    Latent,
    PlanningError,
    WorldModel,
    check_world_model,
)
from steersman.core import copies as copies_of
from steersman.memory import FastWeights, LinearMemory


class Writer(WorldModel):
    """s' = s + tanh(W_o M k + W_a a) / 4, M written to with (k, W_v s) by the delta rule at each step, k of s and a."""

    def __init__(self, keys: int, values: int, seed: int = 0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=g) * shape[-1] ** -0.5  # noqa: E731
        self.memory = LinearMemory(keys, values, rate=0.5)
        self.base, self.key, self.out = draw(values, keys), draw(keys, 5), draw(3, values) * values**0.5
        self.value, self.move = draw(values, 3), draw(3, 2)

    def begin(self, latent, actions, exogenous=None):
        if actions.shape[1]:
            return self.filter(latent, actions).belief
        return Belief(latent.state[:, -1], shared=(self.base.expand(len(latent.state), -1, -1),))

    def imagine(self, belief, actions, exogenous=None, u=None):
        k = actions.shape[1]
        carry = tuple(x[:, None].expand(-1, k, -1) for x in belief.carry)
        return self.branch(belief, belief.state[:, None].expand(-1, k, -1), actions, carry=carry)

    def branch(self, belief, states, actions, exogenous=None, u=None, carry=()):
        memory, found = written(belief.shared, carry), [states]
        for action in actions.unbind(2):
            key = torch.nn.functional.normalize(torch.cat([found[-1], action], -1) @ self.key.T, dim=-1)
            after = found[-1] + torch.tanh(memory.read(key) @ self.out.T + action @ self.move.T) / 4
            memory = self.memory.write(memory, key, found[-1] @ self.value.T)
            found.append(after)
        return Imagined(torch.stack(found, 2), carry=memory.keys + memory.values, shared=belief.shared)

    def settle(self, belief):
        memory = written(belief.shared, tuple(x[:, None] for x in belief.carry))
        return Belief(belief.state, shared=(memory.merged().base,))


class Copier(Writer):
    """The same with a matrix of its own for each candidate."""

    def branch(self, belief, states, actions, exogenous=None, u=None, carry=()):
        b, k = states.shape[:2]
        matrix, state, found = belief.shared[0].repeat_interleave(k, 0), states.flatten(0, 1), [states]
        for action in actions.unbind(2):
            action = action.flatten(0, 1)
            key = torch.nn.functional.normalize(torch.cat([state, action], -1) @ self.key.T, dim=-1)
            read = torch.einsum("rvd,rd->rv", matrix, key)
            after = state + torch.tanh(read @ self.out.T + action @ self.move.T) / 4
            matrix = matrix + 0.5 * torch.einsum("rv,rd->rvd", state @ self.value.T - read, key)
            state = after
            found.append(after.unflatten(0, (b, k)))
        return Imagined(torch.stack(found, 2), shared=belief.shared)


def written(shared, carry):
    n = len(carry) // 2
    return FastWeights(shared[0], carry[:n], carry[n:])


def past(b=2, steps=4, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, steps, 3, generator=g), torch.rand(b, steps - 1, 2, generator=g) * 2 - 1


@pytest.mark.parametrize("rule", ["hebbian", "delta"])
def test_reading_and_writing_equal_a_matrix_that_is_written_to(rule):
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    memory, matrix = LinearMemory(5, 3, rule, 0.7), draw(2, 3, 5)
    state, explicit = FastWeights(matrix), matrix[:, None].expand(-1, 4, -1, -1)
    for _ in range(3):
        key, value = draw(2, 4, 5), draw(2, 4, 3)
        error = value if rule == "hebbian" else value - torch.einsum("bkvd,bkd->bkv", explicit, key)
        state, explicit = memory.write(state, key, value), explicit + 0.7 * error[..., None] * key[..., None, :]
    query = draw(2, 4, 5)
    torch.testing.assert_close(memory.read(state, query), torch.einsum("bkvd,bkd->bkv", explicit, query))
    one = FastWeights(state.base, *(tuple(x[:, 2:3] for x in part) for part in (state.keys, state.values))).merged()
    torch.testing.assert_close(one.base, explicit[:, 2])
    assert one.keys == ()


def test_the_delta_rule_replaces_what_stood_under_a_key():
    memory = LinearMemory(4, 2)
    state, key = memory.initial(1), torch.eye(4)[None, None, 1]
    for value in ([1.0, 2.0], [3.0, 4.0]):
        state = memory.write(state, key, torch.tensor(value).view(1, 1, 2))
    assert memory.read(state, key).flatten().tolist() == [3, 4]
    with pytest.raises(ConfigError, match="positive"):
        LinearMemory(0, 2)


def test_a_world_model_of_fast_weights_keeps_every_promise():
    assert check_world_model(Writer(20, 10), ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0)), (3,), history=4)


def test_candidates_that_share_equal_candidates_with_copies():
    states, done = past()
    actions = torch.rand(2, 6, 5, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    belief = Writer(20, 10).begin(Latent(states), done)
    shared, copied = (kind(20, 10).imagine(belief, actions).states for kind in (Writer, Copier))
    assert float((shared - states[:, None, -1:, :]).abs().max()) > 0.1
    torch.testing.assert_close(copied, shared)
    forgetful = Writer(20, 10)
    forgetful.memory.write = lambda state, key, value: state
    assert float((forgetful.imagine(belief, actions).states - shared).abs().max()) > 1e-3  # writes matter here


PEAK = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_fast_weights import Writer, past
from steersman.core import Latent
torch.set_grad_enabled(False)

def peak():
    return int(next(x for x in open("/proc/self/status") if x.startswith("VmHWM")).split()[1]) / 1024

model = Writer(1000, 1000)
states, done = past(b=1)
belief = model.begin(Latent(states), done)
model.imagine(belief, torch.zeros(1, 2, 2, 2))
before = peak()
model.imagine(belief, torch.rand(1, 1000, 15, 2))
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_a_thousand_candidates_with_a_memory_of_a_million_numbers_need_less_than_300_MB():
    from pathlib import Path

    done = subprocess.run([sys.executable, "-c", PEAK, str(Path(__file__).parent)], capture_output=True, text=True,
                          timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(f"{float(done.stdout):.0f} MB above base\n")  # shown by pytest -s
    assert float(done.stdout) < 300


def test_copies_for_each_candidate_are_announced_before_they_are_made(monkeypatch):
    """Ending many futures as beliefs of their own copies what they share."""
    monkeypatch.setattr(copies_of, "SILENT", 1000)
    monkeypatch.setattr(copies_of, "_free", lambda device: 10_000)
    copies_of._warn.cache_clear()
    shared = torch.zeros(1, 10, 10)
    imagined = lambda k: Imagined(torch.zeros(1, k, 2, 3), shared=(shared,))  # noqa: E731
    assert imagined(1).last().shared[0].data_ptr() == shared.data_ptr()
    assert len(imagined(3).last()) == 3  # 800 bytes more: not a word
    with pytest.warns(UserWarning, match="0 MB for 5 copies of what the candidates of a problem share"):
        imagined(5).last()
    with pytest.raises(PlanningError, match=r"for 100 copies.*override the world model's `branch`"):
        imagined(100).last()
    with pytest.raises(PlanningError, match="for 100 copies"):
        Plain().branch(Belief(torch.zeros(1, 3), shared=(shared,)), torch.zeros(1, 100, 3), torch.zeros(1, 100, 1, 2))


class Plain(WorldModel):
    def begin(self, latent, actions, exogenous=None):
        return Belief(latent.state[:, -1])

    def imagine(self, belief, actions, exogenous=None, u=None):
        raise AssertionError("copied before a word was said")
