"""Arm: three links and three motors, seen by a camera alone; bring the finger to a place. A world, and its trials.

The motion is in `arm_motion`, the drawing in `capsules`. Shapes: B episodes, T steps, (H, W) = (64, 64) pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from steersman.core import (
    ActionSpec,
    ColumnGoal,
    ConfigError,
    Episode,
    Goal,
    Observation,
    ObservationGoal,
    ObservationSpec,
    Signature,
)
from steersman.core.records import TensorRecord, join, rows
from steersman.worlds import arm_motion, capsules
from steersman.worlds.arm_motion import REACH, ArmState
from steersman.worlds.held import HOLD, held_actions, holding
from steersman.worlds.trials import Labelled, Simulated, World

SIZE = 64
STEP_LIMIT = 50
SUCCESS_RADIUS = 0.1 * REACH
COLUMNS = ("finger_x", "finger_y", "cos1", "sin1", "cos2", "sin2", "cos3", "sin3")
"""What is labelled: the finger's place in m, and each joint's own angle."""
SIGNATURE = Signature({"image": ObservationSpec("image", (SIZE, SIZE, 3))},
                      ActionSpec("continuous", (-1.0,) * 3, (1.0,) * 3, names=("shoulder", "elbow", "wrist")))
_SUBSTEPS = 5
_APART = 0.4 * REACH  # from the finger to its target at the start, at least
_VIEW = 1.1  # m from the base to the picture's edge
_FLOOR = (232, 232, 228)
_PARTS = ((50, 50, 60), (60, 90, 160), (80, 150, 90), (225, 170, 50), (205, 28, 40))  # base, links, finger
_RADII = (0.09, 0.06, 0.05, 0.04, 0.065)
_SETTLED = 16  # steps moved before a labelled frame
_CHUNK = 64  # episodes recorded side by side


class Arm(World, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A planar arm of three links (0.4, 0.35, 0.25 m; reach 1 m) on a table, moved by the torques of its motors.

    Observation  {"image": (64, 64, 3) uint8}; one picture shows no speed
    Action       (3,) in [-1, 1], shares of each motor's largest torque, held for `step` seconds
    Goal         the finger within 0.1 m, 10% of the reach, of a target that the picture does not show: as columns
                 finger_x, finger_y in m (goal="columns"; read by whatever was fitted to labelled frames), or as a
                 picture of the arm in a pose that reaches it (goal="picture")
    Log          random torques, each held for `hold` steps on average; from any pose, at rest

    step     s from one decision to the next
    hold     steps
    steady   so many steps on end near the target count as success; 1: the first one does

    >>> trials = Arm().begin(2, seed=0)
    >>> trials.observe()["image"].shape
    torch.Size([2, 64, 64, 3])

    Raises:
        ConfigError: numbers out of range, another goal.
    """

    goal: Literal["columns", "picture"] = "columns"
    step: float = 0.1
    hold: float = HOLD
    steady: int = 1

    step_limit: ClassVar[int] = STEP_LIMIT
    success: ClassVar[str] = f"the finger within {SUCCESS_RADIUS:g} m of its target, 10% of the reach"
    recorded: ClassVar[tuple[int, int]] = (400, 50)

    def __post_init__(self) -> None:
        if self.goal not in ("columns", "picture"):
            raise ConfigError("a goal as 'columns' or 'picture'", repr(self.goal), "choose one of them")
        if not 0 < self.step <= 0.2 or not self.hold >= 1 or not 1 <= self.steady <= STEP_LIMIT:
            raise ConfigError(f"a step up to 0.2 s, a hold of at least 1, steady from 1 to {STEP_LIMIT}", f"{self}",
                              "correct the world's configuration")

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    def begin(self, count: int, seed: int) -> Arms:
        """Any pose, at rest, the finger 0.4 m from its target at least."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        start, goal = _tasks(count, generator)
        now = ArmState(start, torch.zeros_like(start))
        return Arms(self, Reaching(now, goal, torch.zeros(count, dtype=torch.long)), generator)

    def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
        generator = torch.Generator().manual_seed(seed)
        for first in range(0, episodes, _CHUNK):
            joints, actions = self._moved(min(_CHUNK, episodes - first), steps, generator)
            for shown, done in zip(picture(joints), actions, strict=True):
                yield Episode({"image": shown}, done, info={"world": "Arm"})

    def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
        """Of the log's kind, one frame an episode; COLUMNS of it."""
        joints, actions = self._moved(count, max(_SETTLED, before), generator)
        seen = {"image": picture(joints[:, -before - 1 :])}
        return Labelled(seen, actions[:, actions.shape[1] - before :], columns(joints[:, -1]), COLUMNS)

    def _moved(self, count: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random torques from any pose at rest -> joints (B, T+1, 3), actions (B, T, 3)."""
        start = arm_motion.poses(count, generator)
        actions = held_actions(SIGNATURE.action, count, steps, generator, self.hold)
        states = [ArmState(start, torch.zeros_like(start))]
        for action in actions.unbind(1):  # time is sequential
            states.append(arm_motion.step(states[-1], action, self.step, _SUBSTEPS))
        return torch.stack([state.joints for state in states], 1), actions


def _tasks(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Joints of starts, and of poses that reach their targets (count, 3)."""
    found: list[tuple[Tensor, Tensor]] = []
    while sum(len(start) for start, _ in found) < count:
        start, goal = (arm_motion.poses(2 * count, generator) for _ in range(2))
        apart = (arm_motion.finger(start) - arm_motion.finger(goal)).norm(dim=1)
        found.append(rows((start, goal), apart >= _APART))
    return rows(join(found), slice(count))


def columns(joints: Tensor) -> Tensor:
    """(…, 3) -> (…, 8) as COLUMNS."""
    angles = torch.stack([joints.cos(), joints.sin()], -1).flatten(-2)
    return torch.cat([arm_motion.finger(joints), angles], -1)


def picture(joints: Tensor) -> Tensor:
    """Pictures (…, 64, 64, 3) uint8 of poses (…, 3): base, links, and the finger in front. No target is shown."""
    place = arm_motion.places(joints.reshape(-1, 3))
    start = torch.cat([place[:, :1], place], 1)
    end = torch.cat([place, place[:, 3:]], 1)
    shown = capsules.draw(start, end, torch.tensor(_RADII), _PARTS, _FLOOR, _VIEW, SIZE)
    return shown.view(*joints.shape[:-1], SIZE, SIZE, 3)


@dataclass(frozen=True)
class Reaching(TensorRecord):
    """B moments on the way to targets: goal (B, 3) joints that reach them; near (B,) how many of the last steps on end
    ended within the radius."""

    now: ArmState
    goal: Tensor
    near: Tensor


class Arms(Simulated):
    """B episodes of Arm."""

    def __init__(self, config: Arm, state: Reaching, generator: torch.Generator) -> None:
        super().__init__(config.signature, state, generator)
        self.config = config

    def goals(self) -> Goal:
        if self.config.goal == "picture":
            return ObservationGoal({"image": picture(self.state.goal)})
        x, y = self.target.unbind(1)
        return ColumnGoal({"finger_x": x, "finger_y": y}, {"finger_x": REACH, "finger_y": REACH})

    @property
    def target(self) -> Tensor:
        """(B, 2) m."""
        return arm_motion.finger(self.state.goal)

    def observe(self) -> Observation:
        return {"image": picture(self.state.now.joints)}

    def advance(self, action: Tensor) -> Reaching:
        now = arm_motion.step(self.state.now, action, self.config.step, _SUBSTEPS)
        near = (arm_motion.finger(now.joints) - self.target).norm(dim=1) <= SUCCESS_RADIUS
        return Reaching(now, self.state.goal, torch.where(near, self.state.near + 1, 0))

    def solved(self) -> Tensor:
        return self.state.near >= self.config.steady  # type: ignore[no-any-return]

    def where(self) -> Tensor:
        return arm_motion.finger(self.state.now.joints)

    def drift(self, generator: torch.Generator) -> Callable[[], Tensor]:
        """Every motor at its largest torque, one way or the other, held for 10 steps on average: of torques held for 1
        to 40 steps, these and those of the log, the ones that meet most targets by chance."""
        act = holding(self.signature.action, len(self), 10.0, generator)
        return lambda: act().sign()
