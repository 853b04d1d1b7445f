"""Logs of a camera, and labelled frames beside them: held random actions, a script, or a behaviour of one's own.

Knows scenes by their abstract class only.

Shapes: A action size, T steps, L steps before a frame, n frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from steersman.core import ConfigError, DataError, Episode, Observation
from steersman.worlds.filmed.camera import Camera
from steersman.worlds.filmed.scene import Consequence, Scene
from steersman.worlds.recording import Behaviour
from steersman.worlds.trials import Labelled, random_actions

Acting = Callable[[], Tensor]
"""Whoever acts in one episode of a scene: every call gives an action (A,)."""
_APART = 20  # at most so many steps lie between two labelled frames
_TRIES = 50  # episodes in a row without a frame, after which labelling gives up


@dataclass(frozen=True)
class Habit:
    """How a log's actions are chosen.

    hold      an action is held for so many steps: on average, as a coin decides anew at every step (geometric), or
              always if `exactly`. 1: a new one at every step
    exactly   hold for exactly so many steps
    scripted  share of the holds in which the scene's script acts instead of chance

    Raises:
        ConfigError: a hold below 1, no whole number of steps, or a share outside [0, 1].
    """

    hold: float = 1.0
    exactly: bool = False
    scripted: float = 0.0

    def __post_init__(self) -> None:
        whole = not self.exactly or self.hold == int(self.hold)
        if not (1 <= self.hold < float("inf") and whole and 0 <= self.scripted <= 1):
            raise ConfigError("hold >= 1 (a whole number if exactly), and a scripted share in [0, 1]", f"{self}",
                              "5 steps and 0 are usual")

    def acting(self, scene: Scene, generator: torch.Generator) -> Acting:
        """Someone of this habit, for one episode."""
        held, script, left = torch.empty(0), False, 0

        def act() -> Tensor:
            nonlocal held, script, left
            if left == 0:
                left = self._steps(generator)
                script = self.scripted > 0 and _chance(generator) < self.scripted
                held = scene.scripted(generator) if script and self.exactly else random_actions(
                    scene.action, 1, generator)[0]
            left -= 1
            return scene.scripted(generator) if script and not self.exactly else held

        return act

    def _steps(self, generator: torch.Generator) -> int:
        if self.exactly or self.hold == 1:
            return int(self.hold)
        return int(torch.empty(1).geometric_(1 / self.hold, generator=generator))


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand(1, generator=generator))


def film(camera: Camera, habit: Habit | Behaviour, *, steps: int | None = None, episodes: int | None = None,
         longest: int | None = None, seed: int = 0) -> Iterator[Episode]:
    """Act in a scene and yield what the camera saw, episode by episode.

    habit     a `Habit`, or a behaviour that is shown what is logged, and the "truth" where it is known, each (1, ...)
    steps     stop after so many in all; episodes: or after so many of them
    longest   cut episodes at this many steps

    Each episode is a function of the seed and its number alone.
    """
    done = 0
    for number in itertools.count() if episodes is None else range(episodes):
        if steps is not None and done >= steps:
            return
        generator = _begin(camera.scene, seed, number)
        most = min(longest or 2**31, 2**31 if steps is None else steps - done)
        episode = _one(camera, habit, generator, most)
        done += len(episode)
        yield episode


def _begin(scene: Scene, seed: int, number: int) -> torch.Generator:
    """Reset for the episode of that number; -> who decides what happens in it."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
    scene.reset(int(torch.randint(2**31, (1,), generator=generator)))
    scene.scatter(generator)
    return generator


def _one(camera: Camera, habit: Habit | Behaviour, generator: torch.Generator, most: int) -> Episode:
    now = camera.look()
    seen, actions = [now], list[Tensor]()
    act = habit.acting(camera.scene, generator) if isinstance(habit, Habit) else None
    over = False
    while not over and len(actions) < most:
        actions.append(_asked(habit, camera.scene, now, generator) if act is None else act())
        over = _ends(camera.scene, camera.scene.step(actions[-1]))
        now = camera.look()
        seen.append(now)
    return Episode({name: torch.stack([one[name] for one in seen]) for name in now}, torch.stack(actions))


def _asked(behaviour: Habit | Behaviour, scene: Scene, now: Observation, generator: torch.Generator) -> Tensor:
    assert not isinstance(behaviour, Habit)
    seen = {**now, "truth": torch.from_numpy(scene.truth().copy())} if scene.columns else now
    return behaviour({name: value[None] for name, value in seen.items()}, generator)[0]


def _ends(scene: Scene, went: Consequence) -> bool:
    return went.truncated or (went.terminated and not scene.goes_on)


def label(camera: Camera, habit: Habit, count: int, before: int, longest: int, generator: torch.Generator) -> Labelled:
    """`count` frames of episodes as a log has them, with the `before` steps that led to each, and the truth of each.

    Only frames that are returned are drawn.

    Raises:
        ConfigError: nothing to label, or a scene whose truth nobody knows.
        DataError: no episode is longer than `before`.
    """
    scene = camera.scene
    if count < 1 or before < 0:
        raise ConfigError("at least 1 frame, with 0 or more steps before it", f"{count} and {before}", "correct them")
    if not scene.columns:
        raise ConfigError(f"a scene whose truth is known, to label frames of {scene.id}",
                          "observations without a vector", "label frames of the log yourself")
    found: list[tuple[Observation, Tensor, Tensor]] = []
    seed, idle = int(torch.randint(2**62, (1,), generator=generator)), 0
    for number in itertools.count():
        one = list(_cuttings(camera, habit, before, longest, _begin(scene, seed, number)))
        found += one
        idle = 0 if one else idle + 1
        if idle == _TRIES:
            raise DataError(f"episodes of {scene.id} longer than {before} steps", f"none in {_TRIES}",
                            "ask for fewer steps before each frame")
        if len(found) >= count:
            break
    seen, actions, values = zip(*found[:count], strict=True)
    return Labelled({name: torch.stack([one[name] for one in seen]) for name in seen[0]}, torch.stack(actions),
                    torch.stack(values), scene.columns)


def _cuttings(camera: Camera, habit: Habit, before: int, longest: int, generator: torch.Generator,
              ) -> Iterator[tuple[Observation, Tensor, Tensor]]:
    """Windows of one episode that do not overlap, some steps apart: observations (L+1, ...), actions (L, A), truth."""
    scene, act = camera.scene, habit.acting(camera.scene, generator)
    start = int(torch.randint(_APART, (1,), generator=generator))
    seen, actions, over = list[Observation](), list[Tensor](), False
    for step in range(longest + 1):
        if step >= start:
            seen.append(camera.look())
        if len(seen) == before + 1:
            pictures = {name: torch.stack([one[name] for one in seen]) for name in seen[0]}
            taken = torch.stack(actions) if actions else random_actions(scene.action, 0, generator)
            yield pictures, taken, torch.from_numpy(scene.truth().copy())
            start, seen, actions = step + 1 + int(torch.randint(_APART, (1,), generator=generator)), [], []
        if over or step == longest:
            return
        action = act()
        if seen:
            actions.append(action)
        over = _ends(scene, scene.step(action))
