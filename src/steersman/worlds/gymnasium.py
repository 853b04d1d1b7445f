"""Any Gymnasium environment, by id or from a Python file, as a world: its signature, tensors in and out.

Knows no agent.

Shapes: A action size; one moment at a time, so observations are (H, W, C) or (C,).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from torch import Tensor

from steersman.core.errors import ActionError, UsageError
from steersman.core.signature import Signature
from steersman.core.spaces import Adapter, adapt
from steersman.core.types import Observation


@dataclass(frozen=True)
class Step:
    """What one action led to. The reward is for evaluation: nothing learns from it."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool

    @property
    def over(self) -> bool:
        """Is this the episode's last observation?"""
        return self.terminated or self.truncated


class GymnasiumWorld:
    """A Gymnasium environment behind a signature.

    Continuous actions outside the bounds are refused, not clipped: whoever plans must know them.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        low: Sequence[float] = (),
        high: Sequence[float] = (),
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """low, high, names: see `steersman.core.spaces.adapt`; an environment with `columns` names its own."""
        self.env = env
        self.info: Mapping[str, Any] = {}
        """What the environment said beside its last observation: for evaluation, never for an agent."""
        self.id = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        names = names or getattr(env.unwrapped, "columns", None)
        self.adapter: Adapter = adapt(
            env.observation_space, env.action_space, low=low, high=high, names=names, env_id=self.id, where=self.id
        )

    @property
    def signature(self) -> Signature:
        """Named observations and the action."""
        return self.adapter.signature

    def reset(self, seed: int | None = None) -> Observation:
        """Begin an episode."""
        observation, self.info = self.env.reset(seed=seed)
        return self.adapter.observe(observation)

    def step(self, action: Tensor) -> Step:
        """Take one action (A,).

        Raises:
            ActionError: wrong shape, outside the bounds, NaN.
        """
        self._check(action)
        observation, reward, terminated, truncated, self.info = self.env.step(self.adapter.to_world(action))
        return Step(self.adapter.observe(observation), float(reward), bool(terminated), bool(truncated))

    def render(self) -> Any:
        """What the environment shows (an RGB array if made with render_mode="rgb_array")."""
        return self.env.render()

    def close(self) -> None:
        """Free what the environment holds."""
        self.env.close()

    def _check(self, action: Tensor) -> None:
        spec = self.signature.action
        if tuple(action.shape) != (spec.size,):
            got = f"{tuple(action.shape)}"
            raise ActionError(f"an action of shape ({spec.size},) for {self.id}", got, "reshape it")
        values = action.tolist()
        low, high = ((0,), (spec.choices - 1,)) if spec.kind == "discrete" else (spec.low, spec.high)
        for value, least, most in zip(values, low, high, strict=True):
            slack = 1e-5 * (most - least)
            if not least - slack <= value <= most + slack:
                expected = f"an action within [{least:g}, {most:g}] for {self.id}"
                raise ActionError(expected, f"{value:g}", "bound the plan")


_OWN = re.compile(r"(?P<path>.+\.py):(?P<function>[A-Za-z_]\w*)")


def make_env(id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make(id, **kwargs)`, or `FUNCTION(**kwargs)` of a Python file for an id such as `world.py:make`.

    Errors say what to do. A file is executed: name only your own.
    """
    own = _OWN.fullmatch(id)
    try:
        env: gymnasium.Env[Any, Any] = _made_by(own["path"], own["function"], kwargs) if own else gymnasium.make(
            id, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UsageError(f"the packages that {id} needs", f"{error}", "install them") from error
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise UsageError(
            f"an environment that Gymnasium can make, for {id!r}", f"{error}",
            "check the id (module:Name-v0 imports a module first; FILE.py:FUNCTION calls yours) and its options",
        ) from error
    return env


def is_file(id: str) -> bool:
    """Does the id name a function of a Python file?"""
    return _OWN.fullmatch(id) is not None


def _made_by(path: str, function: str, options: Mapping[str, Any]) -> Any:
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"a Python file {path}", "none", "check the path in FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"steersman_world_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = getattr(module, function, None)
    env = make(**options) if callable(make) else None
    if not isinstance(env, gymnasium.Env):
        got = f"{type(env).__name__}" if callable(make) else "no such function"
        raise UsageError(f"a function {function} in {path} that returns a gymnasium.Env", got, "correct the words")
    return env
