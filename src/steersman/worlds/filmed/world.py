"""Worlds behind a camera: how they are filmed, logged and labelled. An abstract class.

Knows scenes by their abstract class only, no agent and no protocol.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import gymnasium
import torch

from steersman.core import ActionSpec, ConfigError, Episode, Signature
from steersman.worlds.filmed.camera import LEAST, Camera, CameraEnv, filmed
from steersman.worlds.filmed.logging import Habit, film, label
from steersman.worlds.filmed.scene import Fit, Scene
from steersman.worlds.filmed.trials import FilmedTrials
from steersman.worlds.trials import Labelled, World


class Filmed(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A world of which an agent sees pictures, and a log holds pictures and actions only.

    size      S of its pictures (S, S, 3)
    beside    columns of the truth that are shown and logged beside the picture
    fit       "pad" (everything is seen) or "crop" (the middle, larger); None: as is known to suit the environment
    told      what an agent is told of its goal: values of "columns", for a read-out, or a "picture"
    limit     actions an episode
    hold      steps that a log holds an action for, see `Habit`
    scripted  share of the log in which the environment's script acts

    Raises:
        ConfigError: a size, a limit or a habit that is too small.
    """

    ends_early: ClassVar[bool] = True
    exactly: ClassVar[bool] = False

    size: int = 64
    beside: tuple[str, ...] = ()
    fit: Fit | None = None
    told: Literal["columns", "picture"] = "columns"
    limit: int = 200
    hold: float = 5.0
    scripted: float = 0.0

    def __post_init__(self) -> None:
        if self.size < LEAST or self.limit < 1:
            raise ConfigError(f"a size of at least {LEAST} and a limit of at least 1", f"{self.size} and {self.limit}",
                              "64 and 200 are usual")
        Habit(self.hold, self.exactly, self.scripted)  # refuses what is none

    @property
    def step_limit(self) -> int:  # type: ignore[override]
        """`limit`."""
        return self.limit

    @property
    def signature(self) -> Signature:
        return filmed(self.action, self.size, self.beside)

    @property
    @abstractmethod
    def action(self) -> ActionSpec:
        """What can be done in it, known without drawing."""

    @property
    def habit(self) -> Habit:
        """How its log's actions are chosen."""
        return Habit(self.hold, self.exactly, self.scripted)

    @abstractmethod
    def scene(self) -> Scene:
        """A new scene of this world."""

    def camera(self, scene: Scene | None = None) -> Camera:
        """A camera before a scene, or before a new one."""
        scene = self.scene() if scene is None else scene
        return Camera(scene, self.size, beside=self.beside, fit=self.fit)

    @abstractmethod
    def begin(self, count: int, seed: int) -> FilmedTrials: ...

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        """Pictures and actions of episodes of at most `steps` steps; each a function of the seed and its number."""
        camera = self.camera()
        try:
            yield from film(camera, self.habit, episodes=episodes, longest=steps, seed=seed)
        finally:
            camera.scene.close()

    def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
        """Frames of episodes as the log has them, but not the log's, with their true columns."""
        camera = self.camera()
        try:
            return label(camera, self.habit, count, before, self.recorded[1], generator)
        finally:
            camera.scene.close()

    def env(self) -> gymnasium.Env[Any, Any]:
        return CameraEnv(self.camera())
