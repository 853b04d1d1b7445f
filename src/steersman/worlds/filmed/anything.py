"""Any Gymnasium environment as a scene: its own renderer, and its own vector observations as the truth.

Knows no environment by name (`known` does).

Shapes: A action size, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from steersman.core import MismatchError, UsageError
from steersman.core.spaces import Adapter, adapt
from steersman.worlds.filmed.known import KNOWN, Known, Values
from steersman.worlds.filmed.scene import Array, Consequence, Scene, placing
from steersman.worlds.filmed.undisplayed import undisplayed
from steersman.worlds.gymnasium import is_file, make_env

_NO_VECTOR = spaces.Box(0, 1, (1,), np.float32)


class Filmable(Scene):
    """A Gymnasium environment that draws itself with render_mode="rgb_array".

    The truth is its vector observations, by their names in `core.spaces.KNOWN_COLUMNS`, by `columns` of the
    environment, or as vector.0, vector.1, ...; an environment whose observations are something else has none.

    Raises:
        UsageError: an unknown id, or an environment that draws no pictures.
        MismatchError: an action space that is not understood.
    """

    def __init__(self, id: str, *, low: Sequence[float] = (), high: Sequence[float] = (), **options: Any) -> None:
        """low, high: bounds of continuous actions, where the space has none; options: of the environment."""
        self.id = id
        self.env = drawing(id, **options)
        self._known: Known | None = KNOWN.get(self.env.spec.id if self.env.spec is not None else "")
        for name, value in (self._known.attributes if self._known is not None else {}).items():
            setattr(self.env.unwrapped, name, value)
        self.fit = self._known.fit if self._known is not None else "pad"
        self._adapter, self._vectors = _adapters(self.env, id, low, high)
        own = [] if self._vectors is None else _names(self._vectors)
        self._derived = {} if self._known is None else dict(self._known.derived)
        self.columns = (*own, *self._derived)
        self.action = self._adapter.signature.action
        self._now: Array = np.zeros(len(own), np.float32)

    def reset(self, seed: int) -> None:
        with undisplayed():
            self._see(self.env.reset(seed=seed)[0])

    def step(self, action: Tensor) -> Consequence:
        observation, reward, terminated, truncated, _ = self.env.step(self._adapter.to_world(action))
        self._see(observation)
        return Consequence(float(reward), bool(terminated), bool(truncated))

    def picture(self, size: int) -> Any:
        try:
            with undisplayed():
                return self.env.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise UsageError(f"the packages that draw {self.id}", f"{error}", "install them") from error

    def truth(self) -> Array:
        if not self._derived:
            return self._now
        values = self._values()
        return np.array([*self._now, *(follow(values) for follow in self._derived.values())], np.float32)

    def place(self, values: Values) -> None:
        if self._known is None:
            super().place(values)
            return
        with placing(self.id, values):
            self._see(self._known.put(self.env.unwrapped, values))

    def scripted(self, generator: torch.Generator) -> Tensor:
        if self._known is None:
            return super().scripted(generator)
        wanted = self._known.script(self._values())
        if self.action.kind == "discrete":
            return torch.tensor([int(wanted)])
        return torch.tensor([min(max(wanted, self.action.low[0]), self.action.high[0])])

    def close(self) -> None:
        self.env.close()

    def _values(self) -> dict[str, float]:
        return dict(zip(self.columns, self._now.tolist(), strict=False))

    def _see(self, observation: Any) -> None:
        if self._vectors is not None:
            seen = self._vectors.arrays(observation)
            self._now = np.concatenate([seen[name] for name in _vector_names(self._vectors)])


def drawing(id: str, **options: Any) -> gymnasium.Env[Any, Any]:
    """The environment `id`, made so that render() returns pictures, also where there is no display.

    Raises:
        UsageError: it cannot be made, or it draws none.
    """
    unchecked = {} if is_file(id) else {"disable_env_checker": True}
    fix = 'film one that lists "rgb_array" in metadata["render_modes"] and takes render_mode'
    try:
        with undisplayed():
            env = make_env(id, render_mode="rgb_array", **unchecked, **options)
    except UsageError as error:
        if "render_mode" in str(error):
            raise UsageError(f"an environment that draws pictures, for {id!r}", "one that takes no render_mode",
                             fix) from error
        raise
    if env.render_mode != "rgb_array" or "rgb_array" not in env.metadata.get("render_modes", ()):
        modes = ", ".join(str(mode) for mode in env.metadata.get("render_modes", ())) or "none"
        raise UsageError(f'an environment that draws pictures (render mode "rgb_array"), for {id!r}',
                         f"render modes: {modes}", fix)
    return env


def _adapters(env: gymnasium.Env[Any, Any], id: str, low: Sequence[float], high: Sequence[float],
              ) -> tuple[Adapter, Adapter | None]:
    """How its actions are taken, and how its vector observations are read (None: there are none)."""
    spec = env.spec.id if env.spec is not None else None
    names = getattr(env.unwrapped, "columns", None)
    taken = adapt(_NO_VECTOR, env.action_space, low=low, high=high, where=id)
    try:
        seen = adapt(env.observation_space, spaces.Discrete(2), names=names, env_id=spec, where=id)
    except MismatchError:
        return taken, None
    return taken, seen if _vector_names(seen) else None


def _vector_names(adapter: Adapter) -> list[str]:
    return [name for name, spec in adapter.signature.observations.items() if spec.kind == "vector"]


def _names(adapter: Adapter) -> list[str]:
    specs = adapter.signature.observations
    return [column for name in _vector_names(adapter)
            for column in specs[name].columns or [f"{name}.{i}" for i in range(specs[name].shape[0])]]
