"""Hazards as a Gymnasium environment, seen as a vector or as a picture, and as trials.

The motion is in `hazards`; here are the interfaces and the pictures. Shapes: B moments, N obstacles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from steersman.core import ActionError, ColumnGoal, ConfigError, Episode, Observation
from steersman.core.records import TensorRecord
from steersman.worlds import hazards, roam
from steersman.worlds.hazards import STEP_LIMIT, SUCCESS_RADIUS, HazardsConfig, HazardState
from steersman.worlds.trials import Simulated, World

ID = "steersman/Hazards-v0"
_FLOOR, _STILL, _MOVING, _AGENT, _GOAL = (
    (232, 232, 228), (70, 72, 86), (196, 120, 40), (205, 28, 40), (60, 150, 80),
)  # fmt: skip


class Hazards(gym.Env[Any, Any]):
    """An inertial point among obstacles: reach the goal and touch nothing.

    Observation  {"vector": (C,) float32}, columns as in `HazardsConfig.columns`, or with look="picture"
                 {"image": (size, size, 3) uint8}; one picture shows no velocity
    Action       (2,) in [-1, 1], a thrust of 3 m/s² · a, held for 0.1 s
    Reward       1 on reaching the goal, else 0; terminated within 0.5 m of it, truncated after 120 steps
    Info         goal (x, y); clearance: the least on the way of this step, m; cost: 1 if it is below 0, else 0; bad: is
                 this moment inside an obstacle or over the edge. For evaluation, never for the agent.

    Hitting something costs, and the episode goes on. Registered as steersman/Hazards-v0 once `steersman.worlds` is
    imported: `make_world("steersman.worlds:steersman/Hazards-v0")`.

    Raises:
        ConfigError: another look.
    """

    class Config(HazardsConfig, World, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """`HazardsConfig`, as a world."""

        step_limit: ClassVar[int] = STEP_LIMIT
        success: ClassVar[str] = f"within {SUCCESS_RADIUS:g} m of the goal"
        violation: ClassVar[str] = "hit something"
        recorded: ClassVar[tuple[int, int]] = (1500, 64)

        def begin(self, count: int, seed: int) -> HazardTrials:
            """At rest and clear of everything, goals 4 m away at least."""
            generator = torch.Generator().manual_seed(seed % 2**63)
            state, goal = hazards.sample_tasks(self, count, generator)
            return HazardTrials(self, Approach(state, goal, torch.ones(count)), generator)

        def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
            return (episode for chunk in roam.episodes(self, episodes, steps, seed) for episode in chunk)

        def env(self) -> Hazards:
            return Hazards(self)

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as gymnasium declares it)

    def __init__(
        self, config: HazardsConfig | None = None, look: str = "vector", size: int = 64, render_mode: str | None = None
    ) -> None:
        if look not in ("vector", "picture"):
            raise ConfigError("a look of 'vector' or 'picture'", repr(look), "choose one of them")
        self.config, self.look, self.size, self.render_mode = config or Hazards.Config(), look, size, render_mode
        self.columns = {"vector": self.config.columns}
        wide = len(self.config.columns)
        self.observation_space = gym.spaces.Dict(
            {"vector": gym.spaces.Box(-np.inf, np.inf, (wide,), np.float32)} if look == "vector" else
            {"image": gym.spaces.Box(0, 255, (size, size, 3), np.uint8)}
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._state: HazardState | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**62)))
        self._state, self._goal = hazards.sample_tasks(self.config, 1, generator)
        self._steps = 0
        return self._observe(self._state), self._info(self._state, hazards.clearance(self.config, self._state))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._state is None:
            raise ActionError("reset() before step()", "an environment that was never reset", "call reset() first")
        push = torch.as_tensor(np.asarray(action, dtype=np.float32))[None]
        self._state, clearance = hazards.step(self.config, self._state, push)
        self._steps += 1
        reached = bool(hazards.reached(self._state, self._goal)[0])
        info = self._info(self._state, clearance)
        return self._observe(self._state), float(reached), reached, self._steps >= STEP_LIMIT, info

    def render(self) -> Any:
        return None if self._state is None else paint(self.config, self._state, self.size, self._goal)[0].numpy()

    def _observe(self, state: HazardState) -> dict[str, Any]:
        if self.look == "vector":
            return {"vector": hazards.observe(state)[0].numpy().copy()}
        return {"image": paint(self.config, state, self.size)[0].numpy()}

    def _info(self, state: HazardState, clearance: Tensor) -> dict[str, Any]:
        least = float(clearance.min())
        inside = bool(hazards.bad(self.config, hazards.observe(state))[0])
        return {"goal": self._goal[0].numpy().copy(), "clearance": least, "cost": float(least < 0), "bad": inside}


@dataclass(frozen=True)
class Approach(TensorRecord):
    """B moments on the way to goals (B, 2); least (B,) m: the clearance on the way of the last step."""

    now: HazardState
    goal: Tensor
    least: Tensor


class HazardTrials(Simulated):
    """B episodes of Hazards, seen as vectors."""

    def __init__(self, config: HazardsConfig, state: Approach, generator: torch.Generator) -> None:
        super().__init__(config.signature, state, generator)
        self.config = config

    def goals(self) -> ColumnGoal:
        return ColumnGoal({"x": self.state.goal[:, 0], "y": self.state.goal[:, 1]}, {"x": 1.0, "y": 1.0})

    def observe(self) -> Observation:
        return {"vector": hazards.observe(self.state.now)}

    def advance(self, action: Tensor) -> Approach:
        following, clearance = hazards.step(self.config, self.state.now, action)
        return Approach(following, self.state.goal, clearance.amin(1))

    def solved(self) -> Tensor:
        return hazards.reached(self.state.now, self.state.goal)

    def bad(self) -> Tensor:
        return self.state.least < 0  # type: ignore[no-any-return]

    def where(self) -> Tensor:
        return self.state.now.position  # type: ignore[no-any-return]


def paint(config: HazardsConfig, state: HazardState, size: int = 64, goal: Tensor | None = None) -> Tensor:
    """Pictures (B, size, size, 3) uint8 of states and, if given, of goals (B, 2); x to the right, y up.

    Edges are blended over one pixel; later discs cover earlier ones: goal, obstacles, the point.
    """
    scale = size / (2 * config.half)
    axis = (torch.arange(size) + 0.5) / scale - config.half
    at = torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), -1)  # (size, size, 2) m
    kinds = [_STILL] * config.still + [_MOVING] * config.moving
    discs = [(state.place[:, i], state.radius[:, i], kind) for i, kind in enumerate(kinds)]
    if goal is not None:
        discs.insert(0, (goal, torch.full((len(goal),), SUCCESS_RADIUS), _GOAL))
    body = max(config.body, 1 / scale)
    discs.append((state.position, torch.full((len(state),), body), _AGENT))
    picture = torch.tensor(_FLOOR, dtype=torch.float32).expand(len(state), size, size, 3)
    for centre, radius, colour in discs:
        inside = radius[:, None, None] - (at - centre[:, None, None]).norm(dim=-1)
        cover = (inside * scale + 0.5).clamp(0, 1)[..., None]
        picture = picture + cover * (torch.tensor(colour, dtype=torch.float32) - picture)
    return picture.round().to(torch.uint8)


if ID not in gym.registry:
    gym.register(ID, entry_point="steersman.worlds:Hazards")
