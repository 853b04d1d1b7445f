"""The reactor: its integration against finer steps and against do-mpc's simulator, its logs and disturbances."""

from __future__ import annotations

import pytest
import torch

from steersman.evidence.reactor_nmpc import replay
from steersman.worlds import reactor


def exact(*values):
    return torch.tensor(values, dtype=torch.float64)


def random_run(steps=20):
    generator = torch.Generator().manual_seed(0)
    actions = reactor.levels(exact(*reactor.LOW), exact(*reactor.HIGH), 1, steps, 1, 4, generator)[0]
    conditions = reactor.levels(exact(*reactor.LEAST), exact(*reactor.MOST), 1, steps, 1, 8, generator)[0]
    states = [exact(*reactor.START)]
    for action, condition in zip(actions, conditions, strict=True):
        states.append(reactor.advance(states[-1], action, condition)[0])
    return torch.stack(states), actions, conditions


def test_one_period_equals_thousands_of_euler_steps_extrapolated():
    state, action, condition = exact(*reactor.START), exact(80.0, -8000.0), exact(*reactor.MOST)

    def euler(count):
        x = state
        for _ in range(count):
            x = x + reactor.PERIOD / count * reactor.derivative(x, action, condition)
        return x

    fine = 2 * euler(4000) - euler(2000)
    torch.testing.assert_close(reactor.advance(state, action, condition)[0], fine, rtol=1e-6, atol=1e-5)


def test_it_moves_as_do_mpcs_simulator_does():
    pytest.importorskip("do_mpc")
    states, actions, conditions = random_run()
    theirs = replay(states[0], actions, conditions)
    assert float(((theirs - states[1:]) / exact(*reactor.NOISE)).abs().max()) < 1e-3


def test_the_hottest_moment_is_no_colder_than_either_end():
    states, actions, conditions = random_run()
    after, hottest = reactor.advance(states[:-1], actions, conditions)
    assert bool((hottest >= torch.maximum(states[:-1, 2], after[:, 2])).all())


def test_levels_are_held_and_drawn_within_their_range():
    drawn = reactor.levels(exact(1.0, 5.0), exact(2.0, 9.0), 50, 40, 4, 9, torch.Generator().manual_seed(1))
    assert drawn.shape == (50, 40, 2)
    assert bool(((drawn >= exact(1.0, 5.0)) & (drawn <= exact(2.0, 9.0))).all())
    for column in (0, 1):
        change = (drawn[0, 1:, column] != drawn[0, :-1, column]).nonzero()[:, 0]
        held = change.diff()
        assert 4 <= int(held.min()) <= int(held.max()) <= 9


def test_a_log_is_noisy_within_bounds_and_follows_from_its_seed():
    episodes, again = (list(reactor.Plant().log(3, 30, seed=5)) for _ in range(2))
    seen = torch.stack([episode.observations["vector"] for episode in episodes])
    assert seen.shape == (3, 31, 4)
    assert torch.equal(seen, torch.stack([episode.observations["vector"] for episode in again]))
    low, high = torch.tensor(reactor.LOW), torch.tensor(reactor.HIGH)
    actions = torch.stack([episode.actions for episode in episodes])
    assert bool(((actions >= low) & (actions <= high)).all())
    assert len(seen[:, 0, 1].unique()) == 3  # they begin alike, and are measured with noise
