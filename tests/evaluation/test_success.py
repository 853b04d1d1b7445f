"""Success, decided in one place: when an episode is won, lost, over or out of time, and what its way was worth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steersman.core import ActionSpec, ColumnGoal, ObservationSpec, Signature
from steersman.evaluation import Tally, drifted
from steersman.worlds import Simulated

SIGNATURE = Signature({"vector": ObservationSpec("vector", (1,), ("x",))}, ActionSpec("continuous", (-2.0,), (2.0,)))


class Line(Simulated):
    """A point on a line: the goal is 3, beyond -2 is forbidden, beyond -4 nothing goes on."""

    def __init__(self, starts: list[float]) -> None:
        super().__init__(SIGNATURE, torch.tensor(starts)[:, None], torch.Generator())
        self.shortest = (self.state[:, 0] - 3).abs()

    def goals(self) -> ColumnGoal:
        return ColumnGoal({"x": 3.0})

    def advance(self, action: Tensor) -> Tensor:
        return self.state + action  # type: ignore[no-any-return]

    def solved(self) -> Tensor:
        return self.state[:, 0] == 3  # type: ignore[no-any-return]

    def over(self) -> Tensor:
        return self.state[:, 0] < -4  # type: ignore[no-any-return]

    def bad(self) -> Tensor:
        return self.state[:, 0] < -2  # type: ignore[no-any-return]

    def where(self) -> Tensor:
        return self.state  # type: ignore[no-any-return]


def pushed(tally: Tally, *steps: list[float]) -> Tally:
    for step in steps:
        tally.step(torch.tensor(step)[:, None])
    return tally


def test_an_episode_is_won_once_and_nothing_that_follows_moves_it() -> None:
    tally = Tally(Line([0.0, 0.0, 0.0]), 3)
    pushed(tally, [2.0, 1.0, -2.0], [1.0, 1.0, -1.0], [-2.0, 0.5, 2.0], [1.0, 1.0, 2.0])
    assert tally.success.tolist() == [True, False, False]
    assert tally.steps.tolist() == [2, 3, 3], "until success, or the limit of 3"
    assert tally.violated.tolist() == [False, False, True], "on the way, though it went back"
    paths, efficiency = tally.paths(), tally.efficiency()
    assert paths is not None
    assert efficiency is not None
    assert paths[..., 0].tolist() == [[0, 2, 3, 3, 3], [0, 1, 2, 2.5, 2.5], [0, -2, -3, -1, -1]]
    assert efficiency.tolist() == [1.0, 0.0, 0.0]


def test_a_detour_is_worth_less_and_a_start_at_the_goal_is_told_apart() -> None:
    tally = Tally(Line([1.0, 3.0]), 9)
    assert tally.solved_at_start == 1
    pushed(tally, [-1.0, 1.0], [2.0, -1.0], [1.0, 0.0])
    efficiency = tally.efficiency()
    assert efficiency is not None
    assert float(efficiency[0]) == pytest.approx(2 / 4)
    assert tally.success.tolist() == [True, True]
    assert tally.steps.tolist() == [3, 2]


def test_what_cannot_go_on_is_not_won_later_and_a_violation_may_be_the_end() -> None:
    tally = pushed(Tally(Line([-3.0]), 9), [-2.0], [2.0])
    assert tally.steps.tolist() == [1]
    assert not bool(tally.on.any())
    first = pushed(Tally(Line([-1.0, 2.0]), 9, until="violation"), [-2.0, 1.0], [2.0, -1.0])
    assert first.on.tolist() == [False, True]
    assert first.success.tolist() == [False, True]
    assert first.steps.tolist() == [1, 2]


def test_the_floor_looks_at_nothing_and_follows_from_its_seed() -> None:
    one, same, other = (drifted(Line([0.0] * 50), 20, torch.Generator().manual_seed(s)).steps for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
