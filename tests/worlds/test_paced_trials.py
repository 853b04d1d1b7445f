"""Trials in model steps: what a loop over the world's own steps gives, and nothing goes by unseen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import ActionSpec, ObservationGoal, ObservationSpec, Pace, Signature
from steersman.core.records import TensorRecord
from steersman.worlds import PacedTrials, Simulated

SIGNATURE = Signature({"image": ObservationSpec("image", (1, 1, 1))}, ActionSpec("continuous", (0.0,), (9.0,)))


@dataclass(frozen=True)
class Count(TensorRecord):
    """Sum of all actions (B,)."""

    total: Tensor


class Counting(Simulated):
    """Won at exactly 5, forbidden above 20."""

    def advance(self, action: Tensor) -> Count:
        return Count(self.state.total + action[:, 0])

    def goals(self) -> ObservationGoal:
        return ObservationGoal({"image": torch.full((len(self), 1, 1, 1), 5, dtype=torch.uint8)})

    def observe(self) -> dict[str, Tensor]:
        return {"image": self.state.total.to(torch.uint8)[:, None, None, None]}

    def solved(self) -> Tensor:
        return self.state.total == 5

    def bad(self) -> Tensor:
        return self.state.total > 20


def begun(count: int = 3) -> PacedTrials:
    return PacedTrials(Counting(SIGNATURE, Count(torch.zeros(count)), torch.Generator()), Pace(step=3, frames=2))


def test_a_step_takes_its_actions_one_after_the_other_and_stops_where_it_is_won() -> None:
    trials = begun()
    trials.step(torch.tensor([[1.0, 2, 3], [2, 3, 4], [9, 0, 1]]))
    assert trials.observe()["image"][:, 0, 0].tolist() == [[6, 3], [5, 2], [10, 9]]
    assert trials.solved().tolist() == [False, True, False]
    assert trials.steps.tolist() == [3, 2, 3]


def test_what_is_forbidden_on_the_way_is_noticed_and_episodes_that_do_not_move_stay() -> None:
    trials = begun()
    trials.step(torch.tensor([[9.0, 9, 9], [9, 9, 9], [1, 1, 1]]), torch.tensor([True, False, True]))
    assert trials.bad() is not None
    assert trials.bad().tolist() == [True, False, False]  # type: ignore[union-attr]
    assert trials.observe()["image"][:, 0, 0, 0].tolist() == [27, 0, 3]


def test_the_last_step_is_cut_where_the_episode_may_have_no_more_actions() -> None:
    trials = PacedTrials(Counting(SIGNATURE, Count(torch.zeros(2)), torch.Generator()), Pace(step=3), limit=4)
    for _ in range(2):
        trials.step(torch.tensor([[1.0, 1, 1], [2, 1, 2]]), ~trials.solved())
    assert trials.steps.tolist() == [4, 3]  # the other one was won
    assert trials.observe()["image"].flatten().tolist() == [4, 5]


def test_a_goal_in_pictures_stands_still() -> None:
    goal = begun().goals()
    assert isinstance(goal, ObservationGoal)
    assert goal.observation["image"].shape == (3, 1, 1, 2)
    assert begun().signature == SIGNATURE.paced(Pace(step=3, frames=2))
    assert len(begun().first(2)) == 2
    assert begun().first(2).observe()["image"].shape == (2, 1, 1, 2)


def test_of_a_step_only_the_first_rows_are_taken_where_decisions_are_made_anew() -> None:
    counting = Counting(SIGNATURE, Count(torch.zeros(3)), torch.Generator())
    trials = PacedTrials(counting, Pace(step=3, frames=2), limit=3, rows=2)
    trials.step(torch.tensor([[1.0, 2, 9], [2, 3, 9], [9, 0, 9]]))
    assert trials.observe()["image"][:, 0, 0].tolist() == [[3, 1], [5, 2], [9, 9]]
    assert trials.steps.tolist() == [2, 2, 2]
    trials.step(torch.tensor([[1.0, 1, 9], [1, 1, 9], [1, 1, 9]]), ~trials.solved())  # the limit of 3 cuts it short
    assert trials.steps.tolist() == [3, 2, 3]
