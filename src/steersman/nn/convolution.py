"""Pictures as numbers, and small convolutional stacks in channels-last memory. Knows nothing of latents.

Shapes: N pictures, (H, W) pixels, C channels, p pixels along the side of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman.core.errors import MismatchError
from steersman.core.types import Observation


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


def grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Patches along each side, the last ones padded."""
    return -(-height // patch), -(-width // patch)


class ResidualConv(nn.Module):
    """x + conv₂(gelu(conv₁(gelu(x)))), 3×3; conv₂ starts at zero, in place of normalisation (De & Smith 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(F.gelu(self.first(F.gelu(x))))
        return y


def residual_stack(channels: int, patch: int, widths: Sequence[int], blocks: int) -> nn.Sequential:
    """A patch convolution, then stages of `blocks` residual blocks; each further stage halves the grid (rounded up)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], patch, patch)]
    for i, width in enumerate(widths):
        if i:
            layers += [nn.GELU(), nn.Conv2d(widths[i - 1], width, 3, 2, 1)]
        layers += [ResidualConv(width) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.GELU()).to(memory_format=torch.channels_last)


class MapStem(nn.Sequential):
    """(N, C, H, W) -> (N, width, H/p, W/p): a patch convolution and two 3×3, for a map that others read."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, patch, patch), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.patch = patch
        self.to(memory_format=torch.channels_last)

    def survey(self, images: Tensor) -> Tensor:
        """(…, H, W, C) uint8 -> (…, M, width), M places of the map."""
        scene: Tensor = self(pictures(images, self.patch)).permute(0, 2, 3, 1)
        return scene.reshape(*images.shape[:-3], -1, scene.shape[-1])
