"""A camera: pictures of any size made square, by block means, with what stands beside them; and its Gymnasium face.

Knows scenes by their abstract class only.

Shapes: S size of the square picture, k block, C columns.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from PIL import Image

from steersman.core import ConfigError, DataError, MismatchError, Observation, ObservationSpec, Signature
from steersman.worlds.filmed.scene import Array, Fit, Scene

LEAST = 8
"""Pixels of a picture's side, at least."""


def square(picture: Array, size: int, fit: Fit = "pad") -> Array:
    """(H, W, 3) uint8 -> (size, size, 3): every pixel is the mean of a k x k block, or margin.

    "pad"   k = ceil(max(H, W) / S): everything is seen; the margin has the median colour of the rim
    "crop"  k = floor(min(H, W) / S), at least 1: the middle is seen, larger

    Whole blocks only, so that a thing that moves by k looks the same one pixel on. Smaller pictures are not enlarged.
    """
    height, width = picture.shape[:2]
    if fit == "crop":
        k = max(1, min(height, width) // size)
        top, left = max(0, (height - k * size) // 2), max(0, (width - k * size) // 2)
        picture = picture[top:top + k * size, left:left + k * size]
    else:
        k = math.ceil(max(height, width) / size)
    if k > 1:
        picture = np.asarray(Image.fromarray(picture).reduce(k))
    height, width = picture.shape[:2]
    if height == width == size:
        return picture
    whole = np.empty((size, size, 3), np.uint8)
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    whole[:] = np.median(rim, axis=0).astype(np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    whole[top:top + height, left:left + width] = picture
    return whole


class Camera:
    """A scene as an agent sees it: a square picture and, if asked for, vectors beside it.

    size    S of the picture "image", (S, S, 3)
    beside  columns of the scene's truth that are shown as the vector "vector", too: what a robot measures of itself
    fit     see `square`; None: as suits the scene

    Raises:
        ConfigError: a size below 8, or columns that the scene does not know.
    """

    def __init__(self, scene: Scene, size: int = 64, *, beside: tuple[str, ...] = (), fit: Fit | None = None) -> None:
        if size < LEAST:
            raise ConfigError(f"pictures of at least {LEAST} x {LEAST} pixels", f"{size}", "64 is usual")
        unknown = [name for name in beside if name not in scene.columns]
        if unknown:
            raise ConfigError(f"columns of {scene.id} beside the picture, among {', '.join(scene.columns) or 'none'}",
                              ", ".join(unknown), "correct the names")
        self.scene, self.size, self.beside, self.fit = scene, size, beside, fit or scene.fit
        self.signature = filmed(scene.action, size, beside)
        self._shape: tuple[int, ...] | None = None
        self._shown = [scene.columns.index(name) for name in beside]

    def look(self) -> Observation:
        """name -> tensor: what is shown now.

        Raises:
            MismatchError: the environment gives no picture, or one of another kind.
            DataError: a black picture, or one of another size than before.
        """
        picture = self.scene.picture(self.size)
        self._check(picture)
        seen = {"image": torch.from_numpy(np.array(square(picture, self.size, self.fit)))}
        if self.beside:
            seen["vector"] = torch.from_numpy(self.scene.truth()[self._shown].astype(np.float32))
        return seen

    def _check(self, picture: Any) -> None:
        where = f"from render() of {self.scene.id}"
        if not isinstance(picture, np.ndarray):
            raise MismatchError(f"a picture {where}", type(picture).__name__,
                                'make the environment with render_mode="rgb_array" and see that render() returns it')
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise MismatchError(f"a picture (H, W, 3) of uint8 {where}", f"{picture.shape} of {picture.dtype}",
                                "return red, green and blue from 0 to 255")
        if self._shape is None and not picture.any():
            raise DataError(f"something to see in the first picture {where}", "black everywhere",
                            "check the renderer: no light, no context, or drawn before the first reset")
        if self._shape not in (None, picture.shape):
            raise DataError(f"pictures of one size {where}", f"{self._shape[:2]}, then {picture.shape[:2]}",
                            "fix the size of the window that is drawn")
        self._shape = picture.shape


def filmed(action: Any, size: int, beside: tuple[str, ...] = ()) -> Signature:
    """The signature of a world behind a camera."""
    observations = {"image": ObservationSpec("image", (size, size, 3))}
    if beside:
        observations["vector"] = ObservationSpec("vector", (len(beside),), beside)
    return Signature(observations, action)


class CameraEnv(gymnasium.Env[Any, Any]):
    """A camera as a Gymnasium environment, for whatever meets one. `info["truth"]` holds the columns by name."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (as gymnasium declares it)
    render_mode = "rgb_array"

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        action, size = camera.signature.action, camera.size
        shown: dict[str, spaces.Space[Any]] = {"image": spaces.Box(0, 255, (size, size, 3), np.uint8)}
        if camera.beside:
            shown["vector"] = spaces.Box(-np.inf, np.inf, (len(camera.beside),), np.float32)
        self.columns = {"vector": camera.beside}
        self.observation_space = spaces.Dict(shown)
        self.action_space = spaces.Discrete(action.choices) if action.kind == "discrete" else spaces.Box(
            np.array(action.low, np.float32), np.array(action.high, np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.camera.scene.reset(int(self.np_random.integers(2**31)))
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        went = self.camera.scene.step(torch.as_tensor(np.asarray(action)).reshape(-1))
        seen, info = self._seen()
        return seen, went.reward, went.terminated, went.truncated, info

    def render(self) -> Any:
        return self.camera.look()["image"].numpy()

    def close(self) -> None:
        self.camera.scene.close()

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        scene = self.camera.scene
        truth = dict(zip(scene.columns, scene.truth().tolist(), strict=True))
        return {name: value.numpy() for name, value in self.camera.look().items()}, {"truth": truth}
