"""Logs of a camera: actions that are held, episodes as their seeds say, labels that are the truth of their frames."""

from __future__ import annotations

import itertools
from pathlib import Path

import dot
import pytest
import torch

from steersman.core import ActionSpec, ConfigError, DataError, UsageError
from steersman.worlds import Camera, Habit, film, held, make_scene, steps_of
from steersman.worlds.filmed.logging import label

DOT = f"{Path(dot.__file__)}:make"


def camera(**options: object) -> Camera:
    return Camera(make_scene(DOT, **options), 16)


def place(picture: torch.Tensor) -> list[int]:
    """x and y of the white pixel, in blocks: what the picture shows."""
    y, x = (picture == 255).all(-1).nonzero()[0].tolist()
    return [x, y - 3]


def runs(actions: torch.Tensor) -> list[int]:
    """Lengths of runs of equal rows, the last left out."""
    changed = (actions[1:] != actions[:-1]).any(1).nonzero()[:, 0] + 1
    return torch.diff(changed, prepend=torch.zeros(1, dtype=torch.long)).tolist()


def test_random_actions_are_held_as_long_as_asked_on_average() -> None:
    habit, scene = Habit(5.0), make_scene(DOT)
    act = habit.acting(scene, torch.Generator().manual_seed(0))
    lengths = torch.tensor(runs(torch.stack([act() for _ in range(20_000)])), dtype=torch.float64)
    assert float(lengths.mean()) == pytest.approx(5, rel=0.05)
    assert float((lengths == 1).double().mean()) == pytest.approx(1 / 5, abs=0.02), "not geometric"


def test_holds_may_be_exact_or_none() -> None:
    scene = make_scene(DOT)
    for habit, length in ((Habit(4, exactly=True), 4), (Habit(), 1)):
        act = habit.acting(scene, torch.Generator().manual_seed(0))
        assert set(runs(torch.stack([act() for _ in range(200)]))) == {length}


def test_lanes_of_a_recorder_hold_actions_each_for_itself() -> None:
    act, generator = held(ActionSpec("discrete", choices=1000), 5.0), torch.Generator().manual_seed(0)
    actions = torch.stack([act({"vector": torch.zeros(3, 1)}, generator) for _ in range(5000)])
    means = [sum(lengths := runs(actions[:, lane])) / len(lengths) for lane in range(3)]
    assert all(mean == pytest.approx(5, rel=0.1) for mean in means)
    assert not torch.equal(actions[:, 0], actions[:, 1])
    with pytest.raises(UsageError, match="1 step or more"):
        held(ActionSpec("discrete", choices=2), 0.5)


@pytest.mark.parametrize("habit", [{"hold": 0.5}, {"hold": 2.5, "exactly": True}, {"scripted": 1.5}])
def test_habits_that_cannot_be(habit: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="hold >= 1"):
        Habit(**habit)  # type: ignore[arg-type]


def test_what_is_filmed_happened() -> None:
    def right(observation, generator):  # type: ignore[no-untyped-def]
        assert observation["truth"].shape == (1, 2)
        assert observation["image"].shape == (1, 16, 16, 3)
        return torch.tensor([[1.0, 0.0]])

    (episode,) = film(camera(), right, episodes=1)
    places = [place(picture) for picture in episode.observations["image"]]
    assert len(episode) == 15 - places[0][0], "not up to the world's end"
    assert all(b == [a[0] + 1, a[1]] for a, b in itertools.pairwise(places))


def test_as_many_steps_or_episodes_as_asked_for() -> None:
    habit = Habit(3.0)
    assert sum(len(e) for e in film(camera(), habit, steps=90, longest=25)) == 90
    episodes = list(film(camera(), habit, episodes=4, longest=7))
    assert [len(e) for e in episodes] == [7] * 4


def test_an_episode_is_a_function_of_the_seed_and_its_number() -> None:
    few, many, other = (list(film(camera(), Habit(3.0), episodes=n, longest=9, seed=s))
                        for n, s in ((2, 1), (4, 1), (2, 2)))
    for one, two in zip(few, many, strict=False):
        assert torch.equal(one.observations["image"], two.observations["image"])
        assert torch.equal(one.actions, two.actions)
    assert not torch.equal(few[0].actions, other[0].actions)


def test_labels_are_the_truth_of_the_last_frame_and_the_steps_led_there() -> None:
    log = label(camera(), Habit(3.0), 40, 3, 50, torch.Generator().manual_seed(0))
    assert log.columns == ("x", "y")
    assert log.observations["image"].shape == (40, 4, 16, 16, 3)
    assert log.actions.shape == (40, 3, 2)
    led = 0
    for pictures, actions, truth in zip(log.observations["image"], log.actions, log.values, strict=True):
        shown_at = torch.tensor(brightest(pictures[-1]), dtype=torch.float32)
        assert ((truth / 4).floor() - shown_at).abs().max() <= 1, "the truth of another frame"
        wanted = torch.tensor(brightest(pictures[0])) + actions.sum(0)
        led += int(((wanted - shown_at).abs() <= 2).all())
    assert led >= 25, "other actions than those that led there (rims of the picture hold some up)"
    assert len(torch.unique(log.values, dim=0)) > 20, "always the same frames"


def brightest(picture: torch.Tensor) -> list[int]:
    """x and y of the brightest pixel, in blocks."""
    bright = picture.float().mean(-1)
    y, x = divmod(int(bright.argmax()), bright.shape[1])
    return [x, y - 3]


def test_labelling_draws_no_picture_that_it_does_not_return() -> None:
    shown = camera()
    label(shown, Habit(3.0), 10, 2, 50, torch.Generator().manual_seed(0))
    drawn = shown.scene.env.unwrapped.drawn  # type: ignore[attr-defined]
    assert 30 <= drawn <= 30 + 12, "windows that are not returned, but for those that an end cut off"


def test_labels_that_nobody_can_tell() -> None:
    with pytest.raises(DataError, match="longer than 80 steps"):
        label(camera(), Habit(), 1, 80, 50, torch.Generator())
    with pytest.raises(ConfigError, match="at least 1 frame"):
        label(camera(), Habit(), 0, 2, 50, torch.Generator())


def test_a_log_of_steps_is_cut_where_they_are_reached() -> None:
    from steersman.worlds import FilmedReach

    world = FilmedReach(id=DOT, size=16, goal={"x": 60.0}, reached={"x": (60.0, 60.0)}, hold=20.0)
    episodes = list(steps_of(world, 130, 50, 0))
    assert sum(len(e) for e in episodes) == 130
    assert len(episodes[-1].observations["image"]) == len(episodes[-1]) + 1
