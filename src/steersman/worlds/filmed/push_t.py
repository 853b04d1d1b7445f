"""Push-T (gym-pusht): push a T-shaped block over a table; a scene, and goals that a log's own motion leads to.

The block may leave the table, pushed through its rim by an arm that cannot be stopped: episodes end there. The reward,
a cut of polygons that costs more than the physics, is not computed.

Units: px of a table of 512 x 512. Shapes: B episodes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from steersman.core import ActionSpec, ColumnGoal, DataError, ObservationGoal
from steersman.core.extras import require
from steersman.worlds.filmed.camera import Camera
from steersman.worlds.filmed.logging import Habit
from steersman.worlds.filmed.scene import Array, Consequence, Scene, placing
from steersman.worlds.filmed.trials import Aim, FilmedTrials, first_told
from steersman.worlds.filmed.undisplayed import undisplayed
from steersman.worlds.filmed.world import Filmed

TABLE = 512.0
NEAR, TURNED = 20.0, 20.0
"""Success: the block's place within so many px, and its angle within so many degrees."""
AHEAD = 25
"""Environment steps from a start to its goal, on the motion of a log."""
_SPREAD = 60.0  # px, of the targets that the script draws around the block
_SETTLED = 10  # holds at most before a start


@dataclass(frozen=True)
class Pose:
    """Where everything is: the arm (x, y) and its speed (px / s), the block (x, y) and its angle (radians)."""

    arm: tuple[float, float]
    speed: tuple[float, float]
    block: tuple[float, float]
    angle: float


class PushT(Scene):
    """The environment gym_pusht/PushT-v0. An action is the place (x, y) that the arm is driven to, for a tenth of a
    second; the script draws places near the block.

    Raises:
        UsageError: gym-pusht is not installed.
    """

    ACTION: ClassVar[ActionSpec] = ActionSpec("continuous", low=(0.0, 0.0), high=(TABLE, TABLE), names=("x", "y"))

    id = "gym_pusht/PushT-v0"
    columns = ("agent_x", "agent_y", "block_x", "block_y", "cos", "sin")
    action = ACTION

    def __init__(self) -> None:
        with undisplayed():
            self._env: Any = require("gym_pusht.envs.pusht", "pusht").PushTEnv(obs_type="state")
            self._pygame: Any = require("pygame", "pusht")
        self._env._get_coverage = lambda: 0.0

    def reset(self, seed: int) -> None:
        self._env.reset(seed=seed)

    def step(self, action: Tensor) -> Consequence:
        self._env.step(action.numpy().astype(np.float64))
        x, y = self._env.block.position
        return Consequence(terminated=not (0 <= x <= TABLE and 0 <= y <= TABLE))

    def picture(self, size: int) -> Array:
        """The table (512, 512, 3), without the cross that render() draws where the arm is driven to."""
        screen = self._env._draw()
        drawn = np.frombuffer(self._pygame.image.tobytes(screen, "RGB"), np.uint8)
        return drawn.reshape(*reversed(screen.get_size()), 3)

    def truth(self) -> Array:
        arm, block, angle = self._env.agent.position, self._env.block.position, self._env.block.angle
        return np.array([*arm, *block, math.cos(angle), math.sin(angle)], np.float32)

    def place(self, values: Mapping[str, float]) -> None:
        now = self.pose()
        x, y = now.arm
        with placing(self.id, values):
            self.put(Pose((values.get("agent_x", x), values.get("agent_y", y)), (0.0, 0.0),
                          (values["block_x"], values["block_y"]), math.atan2(values["sin"], values["cos"])))

    def pose(self) -> Pose:
        """Where everything is now."""
        env = self._env
        return Pose(tuple(env.agent.position), tuple(env.agent.velocity), tuple(env.block.position), env.block.angle)

    def put(self, pose: Pose) -> None:
        """Put everything there. The angle comes first: turning the block, which has its centre of mass elsewhere, moves
        it."""
        env = self._env
        env.agent.position, env.agent.velocity = pose.arm, pose.speed
        env.block.angle = pose.angle
        env.block.position = pose.block
        env.block.velocity, env.block.angular_velocity = (0.0, 0.0), 0.0
        for body in (env.agent, env.block):
            env.space.reindex_shapes_for_body(body)

    def scripted(self, generator: torch.Generator) -> Tensor:
        block = torch.tensor(self._env.block.position, dtype=torch.float32)
        return (block + _SPREAD * torch.randn(2, generator=generator)).clamp(0, TABLE)


class Posed(Aim):
    """The block where it is asked for, within `NEAR` and `TURNED`.

    asked  (B, 4): block_x, block_y, cos, sin
    """

    def __init__(self, told: ColumnGoal | ObservationGoal, asked: Tensor) -> None:
        self.told, self.asked = told, asked

    def reached(self, truth: Tensor) -> Tensor:
        return posed(truth[:, 2:], self.asked)

    def first(self, count: int) -> Posed:
        return Posed(first_told(self.told, count), self.asked[:count])


def posed(block: Tensor, asked: Tensor) -> Tensor:
    """(..., 4) and (..., 4) of block_x, block_y, cos, sin -> (...) bool: near enough?"""
    near = (block[..., :2] - asked[..., :2]).norm(dim=-1) <= NEAR
    return near & ((block[..., 2:] * asked[..., 2:]).sum(-1) >= math.cos(math.radians(TURNED)))


class FilmedPushT(Filmed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bring the block where the motion of a log brought it `AHEAD` steps later.

    Starts are moments of episodes as a log has them, goals the pose (as columns), or the whole picture, 25 environment
    steps ahead; pairs between which the block did not move by more than success allows are left out. A log holds each
    target for exactly `hold` steps, all of them near the block.
    """

    success: ClassVar[str] = f"the block within {NEAR:g} px and {TURNED:g} degrees of its goal"
    recorded: ClassVar[tuple[int, int]] = (200, 100)
    exactly: ClassVar[bool] = True

    limit: int = 50
    scripted: float = 1.0

    @property
    def action(self) -> ActionSpec:
        return PushT.ACTION

    def scene(self) -> PushT:
        return PushT()

    def begin(self, count: int, seed: int) -> FilmedTrials:
        """Raises DataError: the log's habit does not move the block."""
        cameras = [self.camera() for _ in range(count)]
        pairs = [self._pair(camera, seed, i) for i, camera in enumerate(cameras)]
        asked = torch.stack([blocks for blocks, _ in pairs])
        told: ColumnGoal | ObservationGoal = ColumnGoal(dict(zip(PushT.columns[2:], asked.unbind(1), strict=True)))
        if self.told == "picture":
            told = ObservationGoal({"image": torch.stack([picture for _, picture in pairs if picture is not None])})
        return FilmedTrials(cameras, Posed(told, asked), chance=Habit(self.hold, exactly=True))

    def _pair(self, camera: Camera, seed: int, number: int) -> tuple[Tensor, Tensor | None]:
        """Leave the scene at a start; -> the goal (4,), and its picture if that is told."""
        scene = camera.scene
        assert isinstance(scene, PushT)
        generator = torch.Generator().manual_seed((1_000_003 * (seed + 1) + number) % 2**63)
        for tried in itertools.count():
            if tried == 1000:
                raise DataError("a log's habit that moves the block", "none of 1000 pairs", "log with the script")
            scene.reset(int(torch.randint(2**31, (1,), generator=generator)))
            act = self.habit.acting(scene, generator)
            before = int(self.hold) * int(torch.randint(_SETTLED + 1, (1,), generator=generator))
            if any(scene.step(act()).over for _ in range(before)):
                continue
            start, was = scene.pose(), torch.from_numpy(scene.truth()[2:])
            if any(scene.step(act()).over for _ in range(AHEAD)):
                continue
            asked = torch.from_numpy(scene.truth()[2:])
            if not bool(posed(was, asked)):
                break
        picture = camera.look()["image"] if self.told == "picture" else None
        scene.put(start)
        return asked, picture
