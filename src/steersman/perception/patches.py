"""Encoder of pictures that are put together from tiles: every tile becomes a token, by principal components.

Knows nothing of what a tile shows. Shapes: n pictures, (H, W) pixels, C channels, p pixels along the side of a tile,
(h, w) tiles, F = p² C numbers of one, D size of a token.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman.core.boxes import Perception
from steersman.core.errors import ConfigError
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.task import Task
from steersman.core.types import Latent, Observation
from steersman.nn.convolution import image_of

_TOGETHER = 128  # pictures that are looked at together
_MOST = 1 << 14  # different tiles that components are taken of
_FLOOR = 0.01  # of the largest variance: weaker components are not made as loud as that


class PatchEncoder(Perception):
    """Tokens (h·w, D) of a picture cut along a lattice, each from its own tile alone.

        token = (x - μ) U / √(λ + λ_1 / 100)

    x are the tile's pixels / 255, μ, U and λ the mean, the first D principal directions and the variances of the
    *different* tiles of the log, each counted once: what is rare in the log and matters, an agent, a door, is as loud
    as the floor. They are fitted by `calibrate` to a sample of the log, travel with the weights, and no gradient
    changes them: what is seen cannot collapse. Up to D different tiles are told apart exactly.

    For pictures drawn on a lattice of `patch` pixels that begins `offset` pixels from the top and the left
    (`data.lattice_for` finds both). The same thing then looks the same at every place, and one predictor holds at all
    of them; off the lattice it looks different at each (LOG.md). For pictures of other kinds take another encoder.
    Sides are padded with mid-grey to whole tiles. Pictures of a moment (`ObservationSpec.frames`) are cut together.

    Raises:
        ConfigError: no such image; a patch, an offset or a size that is none; a patch larger than the picture.
        MismatchError: an image of another size than the signature's.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="patches"):
        """image: name of the observation ("": the only image); size: D.

        patch   p; 0: as the log shows, which training finds before it begins
        offset  of the first whole tile, from the top and from the left
        """

        image: str = ""
        patch: int = 8
        offset: tuple[int, int] = (0, 0)
        size: int = 24

        def __post_init__(self) -> None:
            if self.patch < 0 or self.size < 1 or not all(0 <= x < max(1, self.patch) for x in self.offset):
                raise ConfigError("a patch of at least 0, offsets within it and a size of at least 1", f"{self}",
                                  "correct the perception's sizes")

        def pads(self, height: int, width: int) -> tuple[int, int, int, int]:
            """Pixels added at the left, right, top and bottom, up to whole tiles."""
            top, left = ((self.patch - x) % self.patch for x in self.offset)
            return left, -(width + left) % self.patch, top, -(height + top) % self.patch

        def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
            """Tiles (h, w) of pictures of that shape (H, W, C)."""
            left, right, top, bottom = self.pads(*shape[:2])
            return (top + shape[0] + bottom) // self.patch, (left + shape[1] + right) // self.patch

        def build(self, signature: Signature) -> PatchEncoder:
            return PatchEncoder(self, signature)

    mean: Tensor
    basis: Tensor
    latent_shape: tuple[int, ...] = ()

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        if not config.patch:
            raise ConfigError("the side of a tile in pixels", "patch=0, which training settles from a log",
                              "say the patch and its offset: data.lattice_for(dataset) finds them")
        self.config, self.image = config, signature.image(config.image)
        self.shape = signature.observations[self.image].shape
        height, width, channels = self.shape
        if config.patch > min(height, width):
            raise ConfigError(f"a patch of at most {min(height, width)} pixels, in pictures of {height}×{width}",
                              f"{config.patch}", "take a sixteenth of a side or so")
        p, self.pad, self.grid = config.patch, config.pads(height, width), config.grid(self.shape)
        self.latent_shape = (math.prod(self.grid), config.size)
        numbers = channels * p * p
        basis = torch.zeros(numbers, config.size)
        basis[:, : min(numbers, config.size)] = torch.linalg.qr(torch.randn(numbers, min(numbers, config.size)))[0]
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("basis", basis)

    def calibrate(self, observation: Observation) -> None:
        tiles = self._different(image_of(observation, self.image, self.shape).flatten(0, -4))
        x = tiles.double() / 255
        mean = x.mean(0)
        variance, directions = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
        variance, directions = variance.flip(0).clamp(min=0), directions.flip(1)
        d = min(self.config.size, len(variance))
        used = directions[:, :d]
        used = used * used.gather(0, used.abs().argmax(0, keepdim=True)).sign()  # they have no sign of their own
        scale = (variance[:d] + _FLOOR * variance[0].clamp(min=1e-12)).rsqrt()
        self.mean.copy_(mean)
        self.basis.zero_()
        self.basis[:, :d] = (used * scale).to(self.basis)

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        images = image_of(observation, self.image, self.shape)
        with torch.autocast(images.device.type, enabled=False):  # a tile must come out the same wherever it is seen
            tokens = (self._tiles(images.flatten(0, -4)).float() / 255 - self.mean) @ self.basis
        return Latent(tokens.view(*images.shape[:-3], *self.latent_shape))

    def _tiles(self, images: Tensor) -> Tensor:
        """(n, H, W, C) uint8 -> (n, h·w, F) uint8."""
        padded = F.pad(images.permute(0, 3, 1, 2), self.pad, value=128)
        p, (h, w) = self.config.patch, self.grid
        return padded.reshape(len(images), -1, h, p, w, p).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def _different(self, images: Tensor) -> Tensor:
        """(V, F): each tile once, at most `_MOST` of them, in the order in which they are met."""
        kept: list[Tensor] = []
        seen = images.new_zeros(0, dtype=torch.float64)
        numbers = len(self.mean)
        odd = torch.randint(2**33, (numbers,), generator=torch.Generator().manual_seed(0)).double().to(images.device)
        for some in images.split(_TOGETHER):
            tiles = self._tiles(some).flatten(0, 1)
            key = tiles.double() @ odd  # whole numbers below 2^53: exact
            order = key.sort(stable=True)
            first = torch.cat([order.values.new_ones(1, dtype=torch.bool), order.values.diff() != 0])
            new = order.indices[first & ~torch.isin(order.values, seen)].sort().values
            kept.append(tiles[new])
            seen = torch.cat([seen, key[new]])
            if len(seen) >= _MOST:
                break
        return torch.cat(kept)[:_MOST]
