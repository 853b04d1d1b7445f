"""Gymnasium spaces seen as a signature: which spaces are understood, and how their values become tensors.

Used by whatever meets Gymnasium (environments, Minari logs). Imports Gymnasium only when called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from steersman.core.errors import MismatchError
from steersman.core.signature import ActionSpec, ObservationSpec, Signature

if TYPE_CHECKING:
    from torch import Tensor

Layout = Literal["vector", "scalar", "one-hot", "hwc", "chw", "hw"]

KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Pendulum-v1": ("cos", "sin", "speed"),
    "CartPole-v0": ("position", "speed", "angle", "turn"),
    "CartPole-v1": ("position", "speed", "angle", "turn"),
    "MountainCar-v0": ("position", "speed"),
    "MountainCarContinuous-v0": ("position", "speed"),
    "Acrobot-v1": ("cos1", "sin1", "cos2", "sin2", "speed1", "speed2"),
    "InvertedPendulum-v5": ("position", "angle", "speed", "turn"),
    "Reacher-v5": ("cos1", "cos2", "sin1", "sin2", "target_x", "target_y", "speed1", "speed2", "gap_x", "gap_y"),
}
"""What the entries of well-known vector observations are (from Gymnasium's pages), so that goals can name them."""


@dataclass(frozen=True)
class Leaf:
    """One named observation inside a (nested) space: where it is, and how it is laid out there."""

    name: str
    path: tuple[str | int, ...]
    layout: Layout
    spec: ObservationSpec


@dataclass(frozen=True)
class Adapter:
    """Values of an observation space and an action space <-> arrays or tensors of a signature."""

    signature: Signature
    leaves: tuple[Leaf, ...]
    first_choice: int = 0

    def arrays(self, value: Any) -> dict[str, np.ndarray[Any, Any]]:
        """One value, or a batch of values with leading dimensions (…) -> name -> (…, H, W, C) or (…, C)."""
        return {leaf.name: _lay_out(_at(value, leaf.path), leaf) for leaf in self.leaves}

    def action_array(self, actions: Any) -> np.ndarray[Any, Any]:
        """Actions as the environment has them, (…, A) or discrete (…) -> (…, A) float32 or (…, 1) int64."""
        if self.signature.action.kind == "discrete":
            choices: np.ndarray[Any, Any] = np.asarray(actions).astype(np.int64) - self.first_choice
            return choices[..., None]
        return np.array(actions, np.float32)

    def observe(self, value: Any) -> dict[str, Tensor]:
        """`arrays` as tensors."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.arrays(value).items()}

    def to_world(self, actions: Tensor) -> np.ndarray[Any, Any]:
        """The other way round: (…, A) -> what `env.step` takes, in the same leading shape."""
        values: np.ndarray[Any, Any] = actions.detach().cpu().numpy()
        return values[..., 0] + self.first_choice if self.signature.action.kind == "discrete" else values


def adapt(
    observation_space: Any,
    action_space: Any,
    *,
    low: Sequence[float] = (),
    high: Sequence[float] = (),
    names: Mapping[str, Sequence[str]] | None = None,
    env_id: str | None = None,
    where: str = "the environment",
) -> Adapter:
    """Read two Gymnasium spaces as a signature.

    Understood: Box of rank 0 or 1 (vector), Box uint8 of rank 2 or 3 (image; channels first are moved last),
    Discrete (one-hot vector), Dict and Tuple of those; actions Box of rank 1 and Discrete. A space that is one
    observation is called "image" or "vector"; nested ones get their keys, joined by dots.

    low, high   bounds of continuous actions, where the space has none or others are wanted
    names       observation name -> names of its entries (default: those of well-known environments)

    Raises:
        MismatchError: a space that is not understood; says which wrapper makes it so.
    """
    from gymnasium import spaces

    leaves: list[Leaf] = []
    names = dict(names or {})
    if env_id is not None and env_id in KNOWN_COLUMNS:
        names.setdefault("vector", KNOWN_COLUMNS[env_id])

    def walk(space: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(space, spaces.Dict):
            for key, inner in space.spaces.items():
                walk(inner, (*path, key))
        elif isinstance(space, spaces.Tuple):
            for index, inner in enumerate(space.spaces):
                walk(inner, (*path, index))
        else:
            leaves.append(_leaf(space, path, names, where))

    walk(observation_space, ())
    action, first = _action(action_space, low, high, where)
    signature = Signature({leaf.name: leaf.spec for leaf in leaves}, action)
    return Adapter(signature, tuple(leaves), first)


def _leaf(space: Any, path: tuple[str | int, ...], names: Mapping[str, Sequence[str]], where: str) -> Leaf:
    from gymnasium import spaces

    image = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)
    name = ".".join(str(key) for key in path) or ("image" if image else "vector")
    columns = tuple(names.get(name, ()))
    if image:
        shape = tuple(int(n) for n in space.shape)
        if len(shape) == 2:
            return Leaf(name, path, "hw", ObservationSpec("image", (*shape, 1)))
        if shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
            return Leaf(name, path, "chw", ObservationSpec("image", (shape[1], shape[2], shape[0])))
        return Leaf(name, path, "hwc", ObservationSpec("image", shape))
    if isinstance(space, spaces.Box) and len(space.shape) <= 1 and math.prod(space.shape) > 0:
        layout: Layout = "vector" if space.shape else "scalar"
        return Leaf(name, path, layout, ObservationSpec("vector", (math.prod(space.shape),), columns))
    if isinstance(space, spaces.Discrete):
        return Leaf(name, path, "one-hot", ObservationSpec("vector", (int(space.n),), columns))
    raise MismatchError(
        f"observation {name!r} of {where} to be a Box vector, a Box uint8 image (H, W, C), a Discrete, "
        "or a Dict of those",
        f"{space}", "wrap the environment with gymnasium.wrappers.FlattenObservation or FilterObservation",
    )


def _action(space: Any, low: Sequence[float], high: Sequence[float], where: str) -> tuple[ActionSpec, int]:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return ActionSpec("discrete", choices=int(space.n)), int(space.start)
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        raise MismatchError(
            f"the action of {where} to be a Box of shape (A,) or Discrete", f"{space}",
            "wrap the environment with gymnasium.wrappers.TransformAction",
        )
    size = space.shape[0]
    bounds = [
        tuple(float(x) for x in (np.broadcast_to(given, size) if len(given) in (1, size) else own))
        for given, own in ((low, space.low), (high, space.high))
    ]
    if not np.isfinite(bounds).all():
        raise MismatchError(
            f"finite action bounds of {where}", f"low {list(bounds[0])}, high {list(bounds[1])}",
            "state the real limits with low and high",
        )
    return ActionSpec("continuous", low=bounds[0], high=bounds[1]), 0


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _lay_out(value: Any, leaf: Leaf) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.asarray(value)
    if leaf.layout == "one-hot":
        rows: np.ndarray[Any, Any] = np.eye(leaf.spec.shape[0], dtype=np.float32)[array.astype(np.int64)]
        return rows
    if leaf.layout in ("scalar", "hw"):
        array = array[..., None]
    elif leaf.layout == "chw":
        array = np.moveaxis(array, -3, -1)
    dtype = np.uint8 if leaf.spec.kind == "image" else np.float32
    return np.array(array, dtype=dtype, order="C")
