"""Pictures as numbers, and small convolutional stacks in channels-last memory. Knows nothing of latents.

Shapes: N pictures, (H, W) pixels, C channels, F frames of a stack, p pixels along the side of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core.errors import MismatchError
from steersman.core.types import Observation

Activation = Literal["gelu", "relu"]
_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}
_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


def activation_layer(name: Activation) -> nn.Module:
    """GELU, or ReLU, which takes a fifth of its time in bf16 on a CPU (benchmarks, section "pixels")."""
    return _ACTIVATIONS[name]()


def working_dtype(x: Tensor) -> torch.dtype:
    """The type in which matrix products run here: autocast's, or float32."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


def image_of(observation: Observation, name: str, shape: Sequence[int]) -> Tensor:
    """The image `name`, (…, H, W, C) uint8.

    Raises:
        MismatchError: no such observation, or not of `shape` (H, W, C).
    """
    image = observation.get(name)
    if image is None or tuple(image.shape[-3:]) != tuple(shape) or image.dtype != torch.uint8:
        got = f"{', '.join(observation) or 'nothing'}" if image is None else f"{image.dtype} {tuple(image.shape)}"
        raise MismatchError(
            f"an image {name!r} of uint8 and shape (…, {', '.join(map(str, shape))})", got,
            "use observations of the world that this encoder was built for",
        )
    return image


def padded(images: Tensor, patch: int) -> Tensor:
    """(…, H, W, C) uint8 -> the same with mid-grey added at the right and lower edge up to multiples of `patch`."""
    height, width = images.shape[-3:-1]
    if height % patch == 0 and width % patch == 0:
        return images
    return F.pad(images, (0, 0, 0, -width % patch, 0, -height % patch), value=128)


def centred(images: Tensor) -> Tensor:
    """uint8 -> x/255 - 1/2 in the working type; exact up to the last multiplication even in bf16."""
    return images.to(working_dtype(images)).sub_(127.5).mul_(1 / 255)


def pictures(images: Tensor, patch: int = 1) -> Tensor:
    """(…, H, W, C) uint8 -> (N, C, H', W') in [-1/2, 1/2], channels last; sides padded to multiples of `patch`."""
    return centred(padded(images, patch)).flatten(0, -4).permute(0, 3, 1, 2)


def difference_weight(weight: Tensor, frames: int, gain: float, dim: int) -> Tensor:
    """What a linear layer for [x_0, g·(x_0 - x_1), …, g·(x_0 - x_{F-1})] is on the frames x_0, …, x_{F-1} themselves.

        W·[x_0, g·(x_0 - x_i)] = (W_0 + g·Σ_i W_i)·x_0 - g·Σ_i W_i·x_i

    So differences of frames, the newest first, cost nothing but this sum over weights: no picture is subtracted.

    weight  its axis `dim` holds F·C channels, frame by frame
    gain    g; 0: the layer sees the frames as they are
    """
    if frames == 1 or not gain:
        return weight
    newest, *older = weight.chunk(frames, dim)
    apart = [-gain * w for w in older]
    return torch.cat([newest - torch.stack(apart).sum(0), *apart], dim)


def patch_convolution(layer: nn.Conv2d, images: Tensor, frames: int = 1, gain: float = 0.0) -> Tensor:
    """The first layer of a stack: pictures (…, H, W, F·C) uint8 -> (N, width, H/p, W/p), channels last.

    frames, gain  as in `difference_weight`
    """
    x = pictures(images, layer.stride[0])
    if frames == 1 or not gain:
        seen: Tensor = layer(x)
        return seen
    weight = difference_weight(layer.weight, frames, gain, 1).contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, layer.bias, layer.stride)


def grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Patches along each side, the last ones padded."""
    return -(-height // patch), -(-width // patch)


class ResidualConv(nn.Module):
    """x + conv₂(f(conv₁(f(x)))), 3×3; conv₂ starts at zero, in place of normalisation (De & Smith 2020)."""

    def __init__(self, width: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.f = _FUNCTIONS[activation]
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(self.f(self.first(self.f(x))))
        return y


def residual_stack(
    channels: int, patch: int, widths: Sequence[int], blocks: int, activation: Activation = "gelu"
) -> nn.Sequential:
    """A patch convolution, then stages of `blocks` residual blocks; each further stage halves the grid (rounded up)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], patch, patch)]
    for i, width in enumerate(widths):
        if i:
            layers += [activation_layer(activation), nn.Conv2d(widths[i - 1], width, 3, 2, 1)]
        layers += [ResidualConv(width, activation) for _ in range(blocks)]
    return nn.Sequential(*layers, activation_layer(activation)).to(memory_format=torch.channels_last)


class MapStem(nn.Sequential):
    """(N, C, H, W) -> (N, width, H/p, W/p): a patch convolution and two 3×3, for a map that others read.

    frames, gain  of stacked pictures, as in `difference_weight`
    """

    def __init__(self, channels: int, patch: int, width: int, frames: int = 1, gain: float = 0.0) -> None:
        super().__init__(
            nn.Conv2d(channels, width, patch, patch), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.frames, self.gain = frames, gain
        self.to(memory_format=torch.channels_last)

    def survey(self, images: Tensor) -> Tensor:
        """(…, H, W, C) uint8 -> (…, M, width), M places of the map."""
        first, *rest = self
        assert isinstance(first, nn.Conv2d)
        scene = patch_convolution(first, images, self.frames, self.gain)
        for layer in rest:
            scene = layer(scene)
        scene = scene.permute(0, 2, 3, 1)
        return scene.reshape(*images.shape[:-3], -1, scene.shape[-1])
