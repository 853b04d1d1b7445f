"""Windows are encoded for tasks that are drawn: for each its own, the teacher's as the student's, counted as asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from steersman.core import ConfigError, Latent, Perception, Window
from steersman.core.learning import Attending, Average, Encoded, Teacher
from steersman.training.making import Making
from steersman.training.making.attending import MakeAttending


class Named(Perception):
    """The state says what was asked: the number of the task of each episode."""

    latent_shape = (1,)
    tasks = ("b", "a")

    def encode(self, observation, task=None):
        names = ("",) * len(observation["vector"]) if task is None else task.settings.attend
        number = torch.tensor([["", "b", "a"].index(name) for name in names]).float()
        return Latent(number[:, None, None].expand(-1, observation["vector"].shape[1], 1))


def bench(perception=None, windows=300):
    window = Window({"vector": torch.zeros(windows, 2, 1)}, torch.zeros(windows, 1, 0), None,
                    torch.arange(windows), torch.zeros(windows, dtype=torch.int64))
    parts = nn.ModuleDict({"perception": perception or Named()})
    average = Average()
    return Making(parts, None, window, None, None, teachers={average: parts}), average


def test_each_window_is_encoded_for_what_was_drawn_for_it():
    torch.manual_seed(0)
    making, _ = bench()
    drawn = making.of(Attending())
    assert torch.equal(making.of(Encoded()).latent.state[:, 0, 0].long(), drawn)
    assert torch.bincount(drawn, minlength=3).min() > 70  # of 300, a third each


def test_tasks_are_counted_in_the_order_in_which_they_are_asked_for():
    making, _ = bench()
    own, asked = making.of(Attending()), making.of(Attending(("a", "b")))
    assert torch.equal(asked, torch.tensor([0, 2, 1])[own])


def test_a_teacher_sees_the_same_task():
    making, average = bench()
    student = making.of(Encoded()).latent.state
    assert torch.equal(making.of(Teacher(Encoded(), average)).made.latent.state, student)


def test_a_perception_without_tasks_draws_nothing():
    class Plain(Named):
        tasks = ()

    making, _ = bench(Plain())
    torch.manual_seed(5)
    making.of(Encoded())
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize("asked", [("a",), ("a", "c"), ("a", "b", "c")])
def test_other_tasks_than_those_of_the_perception_are_refused(asked):
    given = SimpleNamespace(perception=Named())
    with pytest.raises(ConfigError, match=r"a perception that learns the tasks a.*; got one of b, a"):
        MakeAttending().require(Attending(asked), given)
