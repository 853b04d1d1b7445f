"""Hazards as a Gymnasium environment, seen as a vector or as a picture, and as trials.

The motion is in `hazards`; here are the interfaces and the pictures. Shapes: B moments, N obstacles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from steersman.core import (
    ActionError,
    ActionSpec,
    ColumnGoal,
    ConfigError,
    Episode,
    Observation,
    ObservationSpec,
    Signature,
)
from steersman.core.records import TensorRecord
from steersman.worlds import capsules, hazards, roam
from steersman.worlds.hazards import STEP_LIMIT, SUCCESS_RADIUS, HazardsConfig, HazardState
from steersman.worlds.held import HOLD, holding
from steersman.worlds.trials import Labelled, Simulated, World

ID = "steersman/Hazards-v0"
SIZE = 64  # px of a picture's side
LABELS = ("x", "y", "vx", "vy", "clearance")
"""What is labelled in pictures: place in m and velocity in m/s of the point, and how far its body is from the nearest
obstacle or the arena's edge, m: below 0 inside, FAR where it is farther than that."""
FAR = 1.0
SEEN = 1.25
"""How far a picture reaches, in halves of the arena: the log roams over its edge."""
_SETTLED = 16  # steps roamed before a labelled frame
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
        """`HazardsConfig`, as a world.

        look  "vector": the columns; "picture": {"image": (64, 64, 3)} alone, without the goal, which is asked for by
              columns x, y. Frames can then be labelled (LABELS): `clearance >= 0` is what must hold
        """

        look: Literal["vector", "picture"] = "vector"

        step_limit: ClassVar[int] = STEP_LIMIT
        success: ClassVar[str] = f"within {SUCCESS_RADIUS:g} m of the goal"
        violation: ClassVar[str] = "hit something"

        def __post_init__(self) -> None:
            super().__post_init__()
            _require_look(self.look)

        @property
        def recorded(self) -> tuple[int, int]:  # type: ignore[override]
            """Pictures are 35 times as large as columns."""
            return (1500, 64) if self.look == "vector" else (500, 64)

        @property
        def signature(self) -> Signature:
            """Columns, or a picture; actions are the same."""
            if self.look == "vector":
                return super().signature
            return Signature({"image": ObservationSpec("image", (SIZE, SIZE, 3))},
                             ActionSpec("continuous", (-1.0, -1.0), (1.0, 1.0), names=("right", "up")))

        def begin(self, count: int, seed: int) -> HazardTrials:
            """At rest and clear of everything, goals 4 m away at least."""
            generator = torch.Generator().manual_seed(seed % 2**63)
            state, goal = hazards.sample_tasks(self, count, generator)
            return HazardTrials(self, Approach(state, goal, torch.ones(count)), generator, self.look)

        def log(self, episodes: int, steps: int, seed: int) -> Iterator[Episode]:
            for chunk in roam.episodes(self, episodes, steps, seed):
                yield from chunk if self.look == "vector" else (_seen(self, episode) for episode in chunk)

        def labelled(self, count: int, before: int, generator: torch.Generator) -> Labelled:
            """In pictures: of the log's kind, one frame an episode; LABELS of it."""
            if self.look == "vector":
                return super().labelled(count, before, generator)
            return _labelled(self, count, before, generator)

        def env(self) -> Hazards:
            return Hazards(self, self.look)

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as gymnasium declares it)

    def __init__(
        self, config: HazardsConfig | None = None, look: str = "vector", size: int = SIZE,
        render_mode: str | None = None,
    ) -> None:
        _require_look(look)
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
    """B episodes of Hazards, seen as vectors, or as pictures."""

    def __init__(self, config: HazardsConfig, state: Approach, generator: torch.Generator, look: str = "vector",
                 ) -> None:
        super().__init__(config.signature, state, generator)
        self.config, self.look = config, look

    def goals(self) -> ColumnGoal:
        return ColumnGoal({"x": self.state.goal[:, 0], "y": self.state.goal[:, 1]}, {"x": 1.0, "y": 1.0})

    def observe(self) -> Observation:
        if self.look == "vector":
            return {"vector": hazards.observe(self.state.now)}
        return {"image": paint(self.config, self.state.now)}

    def advance(self, action: Tensor) -> Approach:
        following, clearance = hazards.step(self.config, self.state.now, action)
        return Approach(following, self.state.goal, clearance.amin(1))

    def solved(self) -> Tensor:
        return hazards.reached(self.state.now, self.state.goal)

    def bad(self) -> Tensor:
        return self.state.least < 0  # type: ignore[no-any-return]

    def where(self) -> Tensor:
        return self.state.now.position  # type: ignore[no-any-return]

    def drift(self, generator: torch.Generator) -> Callable[[], Tensor]:
        """Uniform thrusts for vectors; for pictures held ones, which arrive about twice as often."""
        if self.look == "vector":
            return super().drift(generator)
        return holding(self.signature.action, len(self), HOLD, generator)


# Pictures ----------------------------------------------------------------------------------------------------------


def paint(config: HazardsConfig, state: HazardState, size: int = SIZE, goal: Tensor | None = None) -> Tensor:
    """Pictures (B, size, size, 3) uint8 of states and, if given, of goals (B, 2); x to the right, y up.

    The camera sees SEEN times as far as the arena reaches, whose edge is drawn: the point can leave. Edges are blended
    over one pixel; later shapes cover earlier ones: the arena's edge, goal, obstacles, the point.
    """
    half, each = SEEN * config.half, len(state)
    pixel, wide = half / size, torch.full((each, 1), max(config.body, 2 * half / size))
    centre, radius = torch.cat([state.place, state.position[:, None]], 1), torch.cat([state.radius, wide], 1)
    colours = [_STILL] * config.still + [_MOVING] * config.moving + [_AGENT]
    if goal is not None:
        centre = torch.cat([goal[:, None], centre], 1)
        radius, colours = torch.cat([torch.full_like(wide, SUCCESS_RADIUS), radius], 1), [_GOAL, *colours]
    outer = config.half + pixel
    corner = torch.tensor([[-outer, -outer], [outer, -outer], [outer, outer], [-outer, outer]]).expand(each, 4, 2)
    return capsules.draw(
        torch.cat([corner, centre], 1), torch.cat([corner.roll(-1, 1), centre], 1),
        torch.cat([torch.full((each, 4), pixel), radius], 1), [_STILL] * 4 + colours, _FLOOR, half, size)


def _seen(config: HazardsConfig, episode: Episode) -> Episode:
    """A recording of columns as a camera's."""
    state = hazards.state_of(config, episode.observations["vector"])
    return Episode({"image": paint(config, state)}, episode.actions, info=episode.info)


def _labelled(config: HazardsConfig, count: int, before: int, generator: torch.Generator) -> Labelled:
    start = hazards.sample_states(config, count, generator)
    columns, actions = roam.roam(config, start, max(_SETTLED, before), generator)
    states = hazards.state_of(config, columns[:, -before - 1 :].flatten(0, 1))
    now = hazards.state_of(config, columns[:, -1])
    clearance = hazards.clearance(config, now).amin(1, keepdim=True).clamp(max=FAR)
    values = torch.cat([now.position, now.velocity, clearance], 1)
    seen = {"image": paint(config, states).unflatten(0, (count, before + 1))}
    return Labelled(seen, actions[:, actions.shape[1] - before :], values, LABELS)


def _require_look(look: str) -> None:
    if look not in ("vector", "picture"):
        raise ConfigError("a look of 'vector' or 'picture'", repr(look), "choose one of them")


if ID not in gym.registry:
    gym.register(ID, entry_point="steersman.worlds:Hazards")
