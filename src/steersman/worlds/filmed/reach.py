"""Reaching a place in any environment that can be filmed, or keeping to it, told by columns or by a picture.

Shapes: B episodes, C columns of the truth.
"""

from __future__ import annotations

import itertools
import math
from typing import ClassVar, Literal

import msgspec
import torch
from torch import Tensor

from steersman.core import ActionSpec, ColumnGoal, ConfigError, ObservationGoal
from steersman.worlds.filmed.logging import Habit
from steersman.worlds.filmed.scene import Scene
from steersman.worlds.filmed.scenes import action_of, make_scene
from steersman.worlds.filmed.trials import FilmedTrials, Within
from steersman.worlds.filmed.world import Filmed

_LEFT_OUT = 1000  # starts in a row that are there already, after which a world is refused


class FilmedReach(Filmed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Reach a place in an environment, or keep to it.

    id         of the environment, see `make_scene`
    goal       column -> value to bring it to
    reached    column -> least and largest value that counts as there
    scale      column -> size of an error that counts as 1; a column that is not named: its deviation in the log
    sustained  it counts at the last step only, and no episode ends with it; else the first time counts
    scored     what counts in tables

    >>> FilmedReach(id="Pendulum-v1", goal={"cos": 1.0}, reached={"cos": (0.98, 1.0)}).signature.image()
    'image'

    Raises:
        ConfigError: values that are no numbers, ranges without an inside, or what `Filmed` refuses.
    """

    recorded: ClassVar[tuple[int, int]] = (100, 200)

    id: str
    goal: dict[str, float]
    reached: dict[str, tuple[float, float]]
    scale: dict[str, float] = msgspec.field(default_factory=dict)
    sustained: bool = False
    scored: Literal["success", "return"] = "return"  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(math.isfinite(value) for value in self.goal.values()) or not all(
                low <= high for low, high in self.reached.values()):
            raise ConfigError("finite goals, and ranges (least, largest)", f"{self.goal} and {self.reached}",
                              "correct the goal")

    @property
    def success(self) -> str:  # type: ignore[override]
        """The values that count, and when."""
        values = ", ".join(f"{low:g} <= {name} <= {high:g}" for name, (low, high) in self.reached.items())
        return f"{values} at the last step" if self.sustained else values

    @property
    def action(self) -> ActionSpec:
        return action_of(self.id)

    def scene(self) -> Scene:
        return make_scene(self.id)

    def begin(self, count: int, seed: int) -> FilmedTrials:
        """Starts that are there already are left out, unless the place is to be kept. Chance holds its actions as the
        log does where a place is to be reached, which comes further, and draws a new one at every step where it is to
        be kept.

        Raises:
            ConfigError: every start is there, or columns that the environment does not know.
        """
        cameras = [self.camera() for _ in range(count)]
        columns = cameras[0].scene.columns
        unknown = sorted({*self.goal, *self.reached} - set(columns))
        if unknown or not self.reached or not self.goal:
            raise ConfigError(f"a goal and a place of columns {', '.join(columns) or '(none)'} of {self.id}",
                              ", ".join(unknown) or "none", "correct the names")
        told = ColumnGoal({name: torch.full((count,), value) for name, value in self.goal.items()}, self.scale)
        aim = Within(told, columns, self.reached)
        seeds, pictures = itertools.count(1_000_003 * (seed + 1)), list[Tensor]()
        for camera in cameras:
            for one in itertools.islice(seeds, _LEFT_OUT):
                camera.scene.reset(one % 2**31)
                if self.sustained or not bool(aim.reached(torch.from_numpy(camera.scene.truth())[None])):
                    break
            else:
                raise ConfigError(f"starts of {self.id} outside {self.success}", f"{_LEFT_OUT} inside",
                                  "correct `reached`")
            if self.told == "picture":
                camera.scene.place(self.goal)
                pictures.append(camera.look()["image"])
                camera.scene.reset(one % 2**31)
        if pictures:
            aim.told = ObservationGoal({"image": torch.stack(pictures)})
        return FilmedTrials(cameras, aim, sustained=self.sustained, chance=Habit(1.0 if self.sustained else self.hold))
