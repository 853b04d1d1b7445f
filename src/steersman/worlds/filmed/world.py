"""Worlds behind a camera: how they are filmed and logged, and reaching a place in one, told by columns or a picture.

Knows scenes through the catalogue, no agent and no protocol.

Shapes: B episodes, C columns of the truth.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import gymnasium
import torch

from steersman.core import ConfigError, Episode, Signature
from steersman.worlds.filmed.camera import Camera, CameraEnv, Fit, filmed
from steersman.worlds.filmed.logging import Habit, film, label
from steersman.worlds.filmed.scene import Scene
from steersman.worlds.filmed.scenes import action_of, fit_of, make_scene
from steersman.worlds.filmed.trials import ColumnsAim, FilmedTrials
from steersman.worlds.trials import Labelled, World

_LEFT_OUT = 1000  # starts in a row that are there already, after which a world is refused


class Filmed(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A world of which an agent sees pictures, and a log holds pictures and actions only.

    id        of the environment, see `make_scene`
    size      S of its pictures (S, S, 3)
    beside    columns of the truth that are shown and logged beside the picture
    fit       "pad" (everything is seen) or "crop" (the middle, larger); None: as is known to suit the environment
    told      what an agent is told of its goal: values of "columns", for a read-out, or a "picture"
    limit     actions an episode
    hold      steps that a log holds an action for, see `Habit`
    scripted  share of the log in which the environment's script acts

    >>> FilmedReach(id="Pendulum-v1", goal={"cos": 1.0}, reached={"cos": (0.98, 1.0)}).signature.image()
    'image'
    """

    ends_early: ClassVar[bool] = True
    exactly: ClassVar[bool] = False

    id: str
    size: int = 64
    beside: tuple[str, ...] = ()
    fit: Fit | None = None
    told: Literal["columns", "picture"] = "columns"
    limit: int = 200
    hold: float = 5.0
    scripted: float = 0.0

    @property
    def step_limit(self) -> int:  # type: ignore[override]
        """`limit`."""
        return self.limit

    @property
    def signature(self) -> Signature:
        return filmed(action_of(self.id), self.size, self.beside)

    @property
    def habit(self) -> Habit:
        """How its log's actions are chosen."""
        return Habit(self.hold, self.exactly, self.scripted)

    def scene(self) -> Scene:
        """A new scene of this world."""
        return make_scene(self.id)

    def camera(self, scene: Scene | None = None) -> Camera:
        """A camera before a scene, or before a new one."""
        scene = self.scene() if scene is None else scene
        return Camera(scene, self.size, beside=self.beside, fit=self.fit or fit_of(self.id))

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


class FilmedReach(Filmed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Reach a place in an environment, or keep to it.

    goal       column -> value to bring it to
    reached    column -> least and largest value that counts as there
    sustained  it counts at the last step only, and no episode ends with it; else the first time counts
    """

    recorded: ClassVar[tuple[int, int]] = (100, 200)
    scored: ClassVar[Literal["success", "return"]] = "return"

    goal: dict[str, float]
    reached: dict[str, tuple[float, float]]
    sustained: bool = False

    @property
    def success(self) -> str:  # type: ignore[override]
        """The values that count, and when."""
        values = ", ".join(f"{low:g} <= {name} <= {high:g}" for name, (low, high) in self.reached.items())
        return f"{values} at the last step" if self.sustained else values

    def begin(self, count: int, seed: int) -> FilmedTrials:
        """Starts that are there already are left out, unless the place is to be kept.

        Raises:
            ConfigError: every start is there, or columns that the environment does not know.
        """
        cameras = [self.camera() for _ in range(count)]
        columns = cameras[0].scene.columns
        unknown = sorted({*self.goal, *self.reached} - set(columns))
        if unknown or not self.reached or not self.goal:
            raise ConfigError(f"a goal and a place of columns {', '.join(columns) or '(none)'} of {self.id}",
                              ", ".join(unknown) or "none", "correct the names")
        told = self._picture(cameras[0]) if self.told == "picture" else self.goal
        aim = ColumnsAim(1, columns, told, self.reached, self.told == "picture")
        seeds = itertools.count(1_000_003 * (seed + 1))
        for camera in cameras:
            for one in itertools.islice(seeds, _LEFT_OUT):
                camera.scene.reset(one % 2**31)
                there = aim.reached(torch.from_numpy(camera.scene.truth())[None])
                if self.sustained or not bool(there):
                    break
            else:
                raise ConfigError(f"starts of {self.id} outside {self.success}", f"{_LEFT_OUT} inside",
                                  "correct `reached`")
        return FilmedTrials(cameras, ColumnsAim(count, columns, told, self.reached, self.told == "picture"),
                            sustained=self.sustained)

    def _picture(self, camera: Camera) -> Mapping[str, Any]:
        """The goal as the camera sees it."""
        camera.scene.reset(0)
        camera.scene.place(self.goal)
        return camera.look()
