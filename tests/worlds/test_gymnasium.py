"""Any Gymnasium environment as a world: spaces that are understood, spaces that are refused, actions in bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from counting import Counting
from gymnasium import spaces

from steersman.core import ActionError, ActionSpec, MismatchError, ObservationSpec, SteersmanError, UsageError
from steersman.core.spaces import adapt
from steersman.worlds import GymnasiumWorld, make_world

BOX = spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("space", "observations"),
    [
        (spaces.Box(-9, 9, (3,)), {"vector": ("vector", (3,))}),
        (spaces.Box(-9, 9, (), np.float64), {"vector": ("vector", (1,))}),
        (spaces.Box(0, 9, (3,), np.int64), {"vector": ("vector", (3,))}),
        (spaces.Box(0, 255, (9, 8, 3), np.uint8), {"image": ("image", (9, 8, 3))}),
        (spaces.Box(0, 255, (3, 9, 8), np.uint8), {"image": ("image", (9, 8, 3))}),
        (spaces.Box(0, 255, (9, 8), np.uint8), {"image": ("image", (9, 8, 1))}),
        (spaces.Discrete(4), {"vector": ("vector", (4,))}),
        (
            spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (1,))])}),
            {"a": ("vector", (2,)), "b.0": ("vector", (2,)), "b.1": ("vector", (1,))},
        ),
    ],
)
def test_spaces_that_are_understood(space: spaces.Space[Any], observations: dict[str, tuple[Any, ...]]) -> None:
    adapter = adapt(space, BOX)
    expected = {name: ObservationSpec(kind, shape) for name, (kind, shape) in observations.items()}
    assert adapter.signature.observations == expected
    seen = adapter.observe(space.sample())
    for name, spec in expected.items():
        assert tuple(seen[name].shape) == spec.shape
        assert seen[name].dtype == (torch.uint8 if spec.kind == "image" else torch.float32)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (9, 8, 3), np.float32), spaces.Box(0, 1, (2, 2)), spaces.MultiBinary(3), spaces.Text(5),
        spaces.Dict({"a": BOX, "b": spaces.Text(5)}), spaces.Sequence(BOX), spaces.MultiDiscrete([2, 3]),
    ],
)
def test_spaces_that_are_not_understood_name_a_wrapper(space: spaces.Space[Any]) -> None:
    with pytest.raises(MismatchError, match=r"Box vector.*wrappers\.FlattenObservation"):
        adapt(space, BOX)


@pytest.mark.parametrize(
    "space", [spaces.MultiBinary(3), spaces.Box(-1, 1, (2, 2)), spaces.Box(-1, 1, ()), spaces.Tuple([BOX])]
)
def test_actions_that_are_not_understood(space: spaces.Space[Any]) -> None:
    with pytest.raises(MismatchError, match=r"Box of shape \(A,\) or Discrete"):
        adapt(BOX, space)


def test_unbounded_actions_need_bounds() -> None:
    free = spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(MismatchError, match=r"finite action bounds.*state the real limits"):
        adapt(BOX, free)
    assert adapt(BOX, free, low=(-3.0,), high=(3.0,)).signature.action == ActionSpec(
        "continuous", low=(-3.0, -3.0), high=(3.0, 3.0)
    )


def test_pendulum_by_its_id() -> None:
    world = make_world("Pendulum-v1")
    assert world.signature.observations == {"vector": ObservationSpec("vector", (3,), ("cos", "sin", "speed"))}
    assert world.signature.action == ActionSpec("continuous", low=(-2.0,), high=(2.0,))
    twin = gym.make("Pendulum-v1")
    expected, _ = twin.reset(seed=7)
    assert np.array_equal(world.reset(seed=7)["vector"].numpy(), expected)
    for torque in (2.0, -1.5, 0.0):
        step = world.step(torch.tensor([torque]))
        value, reward, *_ = twin.step(np.array([torque], np.float32))
        assert np.array_equal(step.observation["vector"].numpy(), value)
        assert step.reward == pytest.approx(float(reward))
        assert not step.over
    world.close()


def test_choices_are_shifted_to_where_the_space_starts() -> None:
    world = GymnasiumWorld(Counting(discrete=True))
    assert world.signature.action == ActionSpec("discrete", choices=5)
    world.reset()
    assert world.step(torch.tensor([3])).observation["vector"][2] == 13
    step = world.step(torch.tensor([0]))
    assert step.terminated
    assert step.over


@pytest.mark.parametrize("action", [[2.1], [-2.1], [float("nan")], [0.0, 0.0], []])
def test_actions_out_of_bounds_are_refused_not_clipped(action: list[float]) -> None:
    world = make_world("Pendulum-v1")
    world.reset(seed=0)
    with pytest.raises(ActionError, match="Pendulum-v1"):
        world.step(torch.tensor(action))


@pytest.mark.parametrize("discrete", [5, -1])
def test_choices_that_do_not_exist_are_refused(discrete: int) -> None:
    world = GymnasiumWorld(Counting(discrete=True))
    world.reset()
    with pytest.raises(ActionError, match=r"\[0, 4\]"):
        world.step(torch.tensor([discrete]))


@pytest.mark.parametrize(
    ("id", "options", "words"),
    [
        ("Pendulum-v99", {}, "Pendulum-v99"), ("Pendulumm-v1", {}, "Did you mean"),
        ("no_such_module:X-v0", {}, "no_such"), ("Pendulum-v1", {"gravity": 3}, "its options"),
        ("", {}, "check the id"),
    ],
)
def test_worlds_that_cannot_be_made(id: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        make_world(id, **options)
    assert isinstance(caught.value, SteersmanError)
    assert "\n" not in str(caught.value)


def test_a_world_may_come_from_a_python_file(tmp_path: Path) -> None:
    file = tmp_path / "my world.py"
    make = "def make(g=10.0):\n    return gymnasium.make('Pendulum-v1', g=g)\n"
    file.write_text(f"import gymnasium\n{make}def no(): pass\n")
    world = make_world(f"{file}:make", g=3.0)
    assert world.signature.observations["vector"].shape == (3,)
    assert world.env.unwrapped.g == 3.0
    for words, says in [(f"{file}:no", "got NoneType"), (f"{file}:gone", "no such function"),
                        (f"{tmp_path}/gone.py:make", "a Python file")]:
        with pytest.raises(UsageError, match=says):
            make_world(words)
